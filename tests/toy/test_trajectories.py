import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toy import Lake, value_iteration
from toy.lake import ACTIONS
from toy.trajectories import given_trajectory, optimal_trajectories, stack, suboptimal_trajectory


def words(trajectory):
    return [ACTIONS[action] for _, action in trajectory]


def follow(lake, trajectory):
    """The cells of a trajectory, checked step by step against the tables; the last one is where it ends."""
    cells = [cell for cell, _ in trajectory]
    for (cell, action), reached in zip(trajectory, cells[1:], strict=False):
        assert reached in lake.next_cell[cell, action][lake.probability[cell, action] > 0]
    last_cell, last_action = trajectory[-1]
    assert lake.goal[lake.next_cell[last_cell, last_action]].any()
    return cells


def test_the_ring_has_the_two_ways_that_it_is_known_for():
    lake = Lake.make("ring")
    plan = value_iteration(lake)
    assert [words(trajectory) for trajectory in optimal_trajectories(lake, plan, 0)] == [["down"] * 2 + ["right"] * 3]
    assert words(suboptimal_trajectory(lake, plan, 0)) == ["right"] * 4 + ["down"] * 2 + ["left"]


def test_all_tied_optimal_trajectories_are_found():
    lake = Lake.make("4x4")
    trajectories = list(optimal_trajectories(lake, value_iteration(lake), 0))
    assert len(trajectories) == len({tuple(trajectory) for trajectory in trajectories}) == 3
    assert {len(trajectory) for trajectory in trajectories} == {6}


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(3, 8), st.booleans())
def test_the_suboptimal_trajectory_is_real_simple_and_worse(seed, size, slippery):
    lake = Lake.make(f"random:{size}:{seed}", slippery=slippery)
    plan = value_iteration(lake)
    optimal, worse = next(optimal_trajectories(lake, plan, 0)), suboptimal_trajectory(lake, plan, 0)
    follow(lake, optimal)
    assert all(plan.policy[cell, action] > 0 for cell, action in optimal)
    if worse is not None:
        cells = follow(lake, worse)
        assert len(cells) == len(set(cells))
        if not slippery:
            assert any(plan.policy[cell, action] == 0 for cell, action in worse)
            assert len(worse) > len(optimal)


def simple_trajectories(lake, cell, walked=()):
    """Every trajectory from a cell to a goal that enters no cell twice, by definition."""
    for action in range(4):
        reached = int(lake.next_cell[cell, action, 0])
        step = (*walked, (cell, action))
        if lake.goal[reached]:
            yield step
        elif not lake.terminal[reached] and reached not in {passed for passed, _ in step}:
            yield from simple_trajectories(lake, reached, step)


@pytest.mark.parametrize("seed", range(60))
def test_the_suboptimal_trajectory_is_the_best_by_brute_force(seed):
    lake = Lake.make(f"random:4:{seed}")
    plan = value_iteration(lake)
    worse = [
        trajectory
        for trajectory in simple_trajectories(lake, 0)
        if any(plan.policy[cell, action] == 0 for cell, action in trajectory)
    ]
    found = suboptimal_trajectory(lake, plan, 0)
    assert (found is None) == (not worse)
    if found is not None:
        assert found in worse
        assert len(found) == min(map(len, worse))


def test_on_slippery_ice_a_trajectory_aims_where_it_goes():
    lake = Lake.make("4x4", slippery=True)
    cells = follow(lake, suboptimal_trajectory(lake, value_iteration(lake), 0))
    for (cell, action), reached in zip(suboptimal_trajectory(lake, value_iteration(lake), 0), cells[1:], strict=False):
        aimed = [a for a in range(4) if lake.next_cell[cell, a, 1] == reached]
        assert action in aimed or not aimed


def test_a_corridor_has_no_second_way():
    lake = Lake.make("SFFG")
    assert suboptimal_trajectory(lake, value_iteration(lake), 0) is None


def test_a_trajectory_can_be_given():
    lake = Lake.make("ring")
    trajectory = given_trajectory(lake, "right right,right right down down left", 0, "suboptimal")
    assert trajectory == suboptimal_trajectory(lake, value_iteration(lake), 0)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("right,up", "does not end in a goal"),
        ("down,north", "has the action 'north'"),
        ("right,down,down", "goes on after the episode is over"),
        ("", "does not end in a goal"),
    ],
)
def test_a_bad_trajectory_is_refused(actions, message):
    with pytest.raises(ValueError, match=message):
        given_trajectory(Lake.make("ring"), actions, 0, "suboptimal")


def test_trajectories_are_padded_to_one_length():
    stacked = stack([((0, 1), (5, 2)), ((3, 0),)])
    assert stacked.cells.tolist() == [[0, 5], [3, 0]]
    assert stacked.actions.tolist() == [[1, 2], [0, 0]]
    assert stacked.mask.tolist() == [[True, True], [True, False]]
    assert np.all(stacked.mask.sum(-1).numpy() == [2, 1])
