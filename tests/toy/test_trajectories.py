import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toy import Lake, value_iteration
from toy.lake import ACTIONS
from toy.trajectories import given_walk, optimal_walks, stack, suboptimal_walk


def words(walk):
    return [ACTIONS[action] for _, action in walk]


def follow(lake, walk):
    """The cells of a walk, checked step by step against the tables; the last one is where it ends."""
    cells = [cell for cell, _ in walk]
    for (cell, action), reached in zip(walk, cells[1:], strict=False):
        assert reached in lake.next_cell[cell, action][lake.probability[cell, action] > 0]
    last_cell, last_action = walk[-1]
    assert lake.goal[lake.next_cell[last_cell, last_action]].any()
    return cells


def test_the_ring_has_the_two_ways_that_it_is_known_for():
    lake = Lake.make("ring")
    plan = value_iteration(lake)
    assert [words(walk) for walk in optimal_walks(lake, plan, 0)] == [["down"] * 2 + ["right"] * 3]
    assert words(suboptimal_walk(lake, plan, 0)) == ["right"] * 4 + ["down"] * 2 + ["left"]


def test_all_tied_optimal_walks_are_found():
    lake = Lake.make("4x4")
    walks = list(optimal_walks(lake, value_iteration(lake), 0))
    assert len(walks) == len({tuple(walk) for walk in walks}) == 3
    assert {len(walk) for walk in walks} == {6}


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(3, 8), st.booleans())
def test_the_suboptimal_walk_is_real_simple_and_worse(seed, size, slippery):
    lake = Lake.make(f"random:{size}:{seed}", slippery=slippery)
    plan = value_iteration(lake)
    optimal, worse = next(optimal_walks(lake, plan, 0)), suboptimal_walk(lake, plan, 0)
    follow(lake, optimal)
    assert all(plan.policy[cell, action] > 0 for cell, action in optimal)
    if worse is not None:
        cells = follow(lake, worse)
        assert len(cells) == len(set(cells))
        if not slippery:
            assert any(plan.policy[cell, action] == 0 for cell, action in worse)
            assert len(worse) > len(optimal)


def simple_walks(lake, cell, walked=()):
    """Every walk from a cell to a goal that enters no cell twice, by definition."""
    for action in range(4):
        reached = int(lake.next_cell[cell, action, 0])
        step = (*walked, (cell, action))
        if lake.goal[reached]:
            yield step
        elif not lake.terminal[reached] and reached not in {passed for passed, _ in step}:
            yield from simple_walks(lake, reached, step)


@pytest.mark.parametrize("seed", range(60))
def test_the_suboptimal_walk_is_the_best_by_brute_force(seed):
    lake = Lake.make(f"random:4:{seed}")
    plan = value_iteration(lake)
    worse = [walk for walk in simple_walks(lake, 0) if any(plan.policy[cell, action] == 0 for cell, action in walk)]
    found = suboptimal_walk(lake, plan, 0)
    assert (found is None) == (not worse)
    if found is not None:
        assert found in worse
        assert len(found) == min(map(len, worse))


def test_on_slippery_ice_a_walk_aims_where_it_goes():
    lake = Lake.make("4x4", slippery=True)
    cells = follow(lake, suboptimal_walk(lake, value_iteration(lake), 0))
    for (cell, action), reached in zip(suboptimal_walk(lake, value_iteration(lake), 0), cells[1:], strict=False):
        aimed = [a for a in range(4) if lake.next_cell[cell, a, 1] == reached]
        assert action in aimed or not aimed


def test_a_corridor_has_no_second_way():
    lake = Lake.make("SFFG")
    assert suboptimal_walk(lake, value_iteration(lake), 0) is None


def test_a_walk_can_be_given():
    lake = Lake.make("ring")
    walk = given_walk(lake, "right right,right right down down left", 0, "suboptimal")
    assert walk == suboptimal_walk(lake, value_iteration(lake), 0)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("right,up", "does not end in a goal"),
        ("down,north", "has the action 'north'"),
        ("right,down,down", "goes on after the episode is over"),
        ("", "does not end in a goal"),
    ],
)
def test_a_bad_walk_is_refused(actions, message):
    with pytest.raises(ValueError, match=message):
        given_walk(Lake.make("ring"), actions, 0, "suboptimal")


def test_walks_are_padded_to_one_length():
    stacked = stack([((0, 1), (5, 2)), ((3, 0),)])
    assert stacked.cells.tolist() == [[0, 5], [3, 0]]
    assert stacked.actions.tolist() == [[1, 2], [0, 0]]
    assert stacked.mask.tolist() == [[True, True], [True, False]]
    assert np.all(stacked.mask.sum(-1).numpy() == [2, 1])
