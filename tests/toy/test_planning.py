import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from hypothesis import example, given, settings
from hypothesis import strategies as st

from toy import Lake, evaluate, planning, value_iteration
from toy.kernels import planning as kernel
from toy.planning import visit_probability
from toy.rollout import gymnasium_env


def value_iteration_by_definition(lake, discount, sweeps):
    """V ← max_a Σ P (R + discount V), over and over."""
    values = np.zeros(len(lake.next_cell))
    for _ in range(sweeps):
        ahead = lake.reward + discount * values[lake.next_cell] * ~lake.terminal[lake.next_cell]
        q_values = (lake.probability * ahead).sum(-1)
        values = q_values.max(1)
    return values, q_values


lakes = st.builds(
    lambda seed, size, slippery, success_rate, rewards: Lake.make(
        f"random:{size}:{seed}", slippery=slippery, success_rate=success_rate, reward_schedule=rewards
    ),
    st.integers(0, 9999),
    st.integers(2, 8),
    st.booleans(),
    st.floats(0.1, 1),
    st.sampled_from([(1.0, 0.0, 0.0), (1.0, -1.0, -0.04), (5.0, -2.0, 0.1), (0.0, 0.0, 0.0)]),
)


@given(lakes, st.sampled_from([0.5, 0.9, 0.99]))
@example(  # two moves that are nearly equally good
    Lake.make(
        ["SFFFH", "HFFFH", "HFHFF", "FHFFF", "FFFFG"],
        slippery=True, success_rate=0.99609375, reward_schedule=(5.0, -2.0, 0.1),
    ),
    0.99,
)  # fmt: skip
def test_values_equal_the_slow_definition_within_the_stated_bound(lake, discount):
    plan = value_iteration(lake, discount)
    exact, _ = value_iteration_by_definition(lake, discount, sweeps=int(30 / (1 - discount)))
    assert plan.error_bound < 1.1e-10
    np.testing.assert_allclose(plan.values, exact, rtol=0, atol=plan.error_bound + 1e-11)


@pytest.mark.parametrize("relaxed", [0, 64])
@pytest.mark.parametrize("rewards", [(1.0, 0.0, 0.0), (1.0, -1.0, -0.01), (0.0, 0.0, 1.0)])
def test_windows_change_nothing(monkeypatch, rewards, relaxed):
    lake = Lake.make("random:20:0", slippery=True, reward_schedule=rewards)
    whole = value_iteration(lake)
    monkeypatch.setattr(planning, "_SMALL", 0)
    monkeypatch.setattr(planning, "_FIRST_WINDOW", 8)
    monkeypatch.setattr(planning, "_RELAXED", relaxed)
    windowed = value_iteration(lake)
    np.testing.assert_allclose(windowed.values, whole.values, rtol=0, atol=2e-10)


def test_an_evaluation_that_does_not_help_falls_back_to_sweeps(monkeypatch):
    """Where over-relaxation spoils the values, the sweeps still end, with the same bound."""
    lake = Lake.make("8x8", slippery=True)
    backup = planning._Backup(lake, np.arange(64), 0.9)
    monkeypatch.setattr(kernel, "_OVER", 40.0)  # read when the Python source runs, as it does here
    values = np.zeros(64)
    kernel.relax.py_func(values, 64, backup.next_cell, backup.weight, backup.reward, 1e-11)
    np.testing.assert_allclose(values, value_iteration_by_definition(lake, 0.9, 400)[0], atol=2e-10)


def test_a_linear_solver_that_does_not_help_falls_back_to_sweeps(monkeypatch):
    """Should the linear solver break down, value iteration still ends, with the same bound."""
    monkeypatch.setattr(planning, "_SMALL", 0)
    monkeypatch.setattr(planning, "_RELAXED", 0)
    monkeypatch.setattr(planning, "bicgstab", lambda system, rewards, x0, **_: (x0 + 100.0, 1))
    lake = Lake.make("8x8", slippery=True)
    plan = value_iteration(lake, 0.9)
    np.testing.assert_allclose(plan.values, value_iteration_by_definition(lake, 0.9, 400)[0], atol=2e-10)


def test_known_success_rates_of_gymnasiums_slippery_maps():
    """The optima that Gymnasium registers for its maps: 0.74 in 100 steps for 4x4; without a limit 14/17."""
    lake = Lake.make("4x4", slippery=True)
    plan = value_iteration(lake, 0.9999)
    assert evaluate(lake, plan.policy, 0.9999).success == pytest.approx(14 / 17, abs=1e-9)


def test_ties_are_kept_and_shared():
    lake = Lake.make("SFF/FFF/FFG")
    policy = value_iteration(lake).policy
    np.testing.assert_allclose(policy[0], [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(policy[2], [0, 1, 0, 0])


@pytest.mark.parametrize("discount", [0.1, 0.5, 0.9])
def test_the_policy_is_right_where_values_are_tiny(discount):
    """Far from the goal V* is 1e-12 and less; the shortest way is still the only optimal one."""
    corridor = value_iteration(Lake.make("S" + "F" * 12 + "G"), discount)
    np.testing.assert_array_equal(corridor.policy[:13], np.tile([0, 0, 1, 0], (13, 1)))
    lake = Lake.make("random:24:0")
    plan = value_iteration(lake, discount)
    assert evaluate(lake, plan.policy, discount).success == pytest.approx(1)


def test_large_and_small_lakes_are_solved_alike(monkeypatch):
    lake = Lake.make("random:30:1", slippery=True, reward_schedule=(1.0, -0.5, -0.01))
    exact = value_iteration(lake)
    monkeypatch.setattr(planning, "_SMALL", 0)
    np.testing.assert_allclose(value_iteration(lake).values, exact.values, rtol=0, atol=2e-10)


@given(lakes, st.integers(0, 99))
def test_exact_evaluation_equals_iteration(lake, seed):
    policy = 0.8 * np.random.default_rng(seed).dirichlet(np.ones(4), size=(3, len(lake.next_cell))) + 0.05
    worth = evaluate(lake, policy, 0.9)
    goes_on = ~lake.terminal[lake.next_cell]
    values, success = np.zeros((2, 3, len(lake.next_cell)))
    into_goal = lake.goal[lake.next_cell] & ~lake.terminal[:, None, None]
    for update in range(3000):
        ahead = lake.reward + 0.9 * values[:, lake.next_cell] * goes_on
        values = (policy * (lake.probability * ahead).sum(-1)).sum(-1)
        reached = into_goal + success[:, lake.next_cell] * goes_on
        before, success = success, (policy * (lake.probability * reached).sum(-1)).sum(-1)
        if update > 300 and np.abs(success - before).max() < 1e-12:  # by then 0.9^update says the values to 1e-13
            break
    np.testing.assert_allclose(worth.values, values, atol=1e-9)
    np.testing.assert_allclose(worth.success, success[:, lake.starts].mean(1), atol=1e-6)
    np.testing.assert_allclose(worth.returns, values[:, lake.starts].mean(1), atol=1e-9)


@settings(max_examples=10)
@given(lakes)
@pytest.mark.parametrize("steps", [None, 7])
def test_sparse_and_dense_evaluation_agree(steps, lake):
    policy = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, len(lake.next_cell)))
    solvers = (planning._evaluate_dense, planning._evaluate_sparse)
    dense, sparse = (solve(lake, policy, 0.95, steps) for solve in solvers)
    for one, other in zip(dense, sparse, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_policy_that_walks_in_circles_never_succeeds():
    lake = Lake.make("SFG")
    always_left = np.tile([1.0, 0, 0, 0], (3, 1))
    worth = evaluate(lake, always_left)
    assert worth.success == 0
    assert worth.returns == 0
    assert visit_probability(lake, always_left).tolist() == pytest.approx([1, 0, 0], abs=1e-9)


def test_visit_probability_equals_a_simulation():
    lake = Lake.make("4x4", slippery=True)
    rng = np.random.default_rng(0)
    policy = rng.dirichlet(np.ones(4), size=16)
    seen = np.zeros((4000, 16), dtype=bool)
    for episode in seen:
        cell = 0
        episode[cell] = True
        while not lake.terminal[cell]:
            action = rng.choice(4, p=policy[cell])
            cell = rng.choice(lake.next_cell[cell, action], p=lake.probability[cell, action])
            episode[cell] = True
    np.testing.assert_allclose(visit_probability(lake, policy), seen.mean(0), atol=0.03)


def test_visits_and_success_are_those_of_all_cells_matrices():
    """The code leaves holes and goals out of its matrices; here they are in."""
    lake = Lake.make("8x8", slippery=True)
    policies = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 64))
    moves = np.einsum("rsa,sat->rst", policies, lake.transition_matrix() * ~lake.terminal[:, None, None])
    visits = np.linalg.inv(np.eye(64) - moves)
    entered = (visits / np.diagonal(visits, axis1=1, axis2=2)[:, None])[:, 0]
    np.testing.assert_allclose(visit_probability(lake, policies), entered, atol=1e-9)
    ends = np.linalg.matrix_power(moves + np.diag(lake.terminal), 50)[:, 0]
    np.testing.assert_allclose(evaluate(lake, policies, 0.9, 50).success, ends[:, lake.goal].sum(1), atol=1e-12)


@pytest.mark.parametrize("discount", [0, 1, -0.5, 1.5, float("nan")])
def test_the_discount_must_lie_between_0_and_1(discount):
    with pytest.raises(ValueError, match="discount must lie strictly between 0 and 1"):
        value_iteration(Lake.make("ring"), discount)


@pytest.mark.parametrize("policy", [np.ones((15, 4)), np.full((3, 4), 0.25)])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(ValueError, match=r"policy must be probabilities \[..., 15, 4\]"):
        evaluate(Lake.make("ring"), policy)


def test_policies_of_a_lake_too_big_for_dense_tables_can_be_evaluated():
    lake = Lake.make(generate_random_map(size=40, seed=0), slippery=True)
    plan = value_iteration(lake)
    assert evaluate(lake, plan.policy).returns == pytest.approx(plan.values[0], abs=1e-9)


def test_with_a_limit_of_steps_it_is_a_sum_over_paths():
    """On a lake with one way, every path of at most three moves is written out."""
    lake = Lake.make("SFG")
    policy = np.full((3, 4), 0.25)
    stay, on = 0.75, 0.25  # up, down and left stay in the first cell; left of the second leads back
    assert evaluate(lake, policy, 0.9, 1).success == 0
    assert evaluate(lake, policy, 0.9, 2).success == pytest.approx(on * on)
    three = on * on + stay * on * on + on * 0.5 * on
    assert evaluate(lake, policy, 0.9, 3).success == pytest.approx(three)
    assert evaluate(lake, policy, 0.9, 3).returns == pytest.approx(0.9 * on * on + 0.9**2 * (three - on * on))
    assert evaluate(lake, policy, 0.9, 2000).success == pytest.approx(evaluate(lake, policy, 0.9).success)


@pytest.mark.parametrize("limit", [None, 30])
def test_success_within_the_limit_is_that_of_gymnasiums_own_episodes(limit):
    lake = Lake.make("4x4", slippery=True, max_episode_steps=limit)
    policy = np.random.default_rng(3).dirichlet([0.5, 2.0, 2.0, 0.3], size=16)
    expected = evaluate(lake, policy, 0.99, lake.max_episode_steps).success
    env, generator, reached = gymnasium_env(lake), np.random.default_rng(0), 0
    episodes = 1500
    for episode in range(episodes):
        cell, _ = env.reset(seed=episode)
        over = False
        while not over:
            cell, reward, ended, cut, _ = env.step(int(generator.choice(4, p=policy[cell])))
            over = ended or cut
        reached += reward > 0
    assert env.spec.max_episode_steps == (100 if limit is None else 30)
    assert reached / episodes == pytest.approx(expected, abs=4 * (expected * (1 - expected) / episodes) ** 0.5)


def test_gymnasiums_limit_costs_the_optimum_of_the_slippery_8x8_lake_a_quarter_of_its_success():
    lake = Lake.make("8x8", slippery=True)
    plan = value_iteration(lake, 0.99)
    assert lake.max_episode_steps == 100
    assert evaluate(lake, plan.policy, 0.99).success == pytest.approx(0.89, abs=0.005)
    assert evaluate(lake, plan.policy, 0.99, lake.max_episode_steps).success == pytest.approx(0.63, abs=0.005)
    assert Lake.make("8x8", max_episode_steps=0).max_episode_steps is None


@pytest.mark.parametrize("rewards", [(1, 0, 0), (1, -1, -0.01), (-1, -2, 0.1), (0.5, 1, 0), (-3, -2, -0.01)])
@pytest.mark.parametrize("seed", range(3))
def test_without_slips_shortest_paths_give_what_sweeps_do(seed, rewards):
    """Also where it is best never to arrive, and for cells that holes enclose; a success rate of 1 is no slip."""
    letters = np.where(np.random.default_rng(seed).random((40, 40)) < 0.65, "F", "H")
    letters[0, :6], letters[:6, 5] = "F", "F"
    letters[0, 0], letters[5, 5] = "S", "G"
    rows = ["".join(row) for row in letters]
    for options in ({}, {"slippery": True, "success_rate": 1.0}):
        lake = Lake.make(rows, reward_schedule=rewards, **options)
        values, reached = np.zeros(len(lake.next_cell)), lake.next_cell[..., lake.next_cell.shape[-1] // 2]
        for _ in range(1500):
            onward = values[reached] * ~lake.terminal[reached]
            values = np.where(lake.terminal, 0, (lake.expected_reward + 0.97 * onward).max(1))
        plan = value_iteration(lake, 0.97, 1e-10)
        assert plan.backups == 2  # one finds nothing to improve, one more proves it for all cells
        np.testing.assert_allclose(plan.values, values, rtol=0, atol=1e-12)
