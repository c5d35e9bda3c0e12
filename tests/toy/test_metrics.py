import numpy as np
import pandas as pd
import pytest
from scipy import stats

from toy import Lake, evaluate, metrics, value_iteration
from toy.metrics import METRICS, mean_interval, optimal_visits, paired_differences, summarise


def log(policy):
    with np.errstate(divide="ignore"):
        return np.log(policy)


def score(lake, plan, log_probs, discount, start=None, on_target=None):
    """The scores where the start policy is uniform and no cell is a target's, unless said otherwise."""
    start = np.full(log_probs.shape, np.log(0.25)) if start is None else start
    on_target = np.zeros(len(lake.terminal), bool) if on_target is None else on_target
    return metrics.score(lake, plan, log_probs, start, on_target, discount)


def test_the_optimum_scores_best():
    lake = Lake.make("4x4", slippery=True)
    plan = value_iteration(lake)
    scores = score(lake, plan, log(plan.policy[None]), 0.99)
    for name in ("policy_mse", "policy_mse_visited", "policy_kl", "policy_kl_visited", "value_gap"):
        assert scores[name] == pytest.approx(0, abs=1e-9)
    assert scores["agreement"] == 1
    assert scores["success"] == pytest.approx(evaluate(lake, plan.policy, max_episode_steps=100).success)


def test_scores_by_hand():
    lake = Lake.make("SFG")
    plan = value_iteration(lake, 0.9)  # right, right: V* = 0.9
    policy = np.array([[[0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]])
    scores = {name: value.item() for name, value in score(lake, plan, log(policy), 0.9).items()}
    error = (0.75**2 + 3 * 0.25**2) / 4
    assert scores["policy_mse"] == pytest.approx(error / 2)
    assert scores["policy_mse_visited"] == pytest.approx(error / 2)  # both cells are visited once
    assert scores["policy_kl"] == pytest.approx(np.log(4) / 2)
    assert scores["success"] == pytest.approx(1)
    assert scores["agreement"] == 0.5  # the uniform cell's greedy action is the first one, left
    assert scores["cells_visited"] == pytest.approx(3)
    assert scores["value_gap"] == pytest.approx(0.9 - evaluate(lake, policy[0], 0.9, 100).returns)


def test_the_optimums_visits_weigh_the_cells_of_its_trajectory():
    lake = Lake.make("ring")
    visits = optimal_visits(lake, value_iteration(lake))
    np.testing.assert_allclose(visits[[0, 5, 10, 11, 12]], 0.2)
    assert visits.sum() == pytest.approx(1)


def test_a_policy_with_nan_scores_nan_and_spoils_no_other():
    lake = Lake.make("ring")
    plan = value_iteration(lake)
    both = np.stack([plan.policy, np.full_like(plan.policy, np.nan)])
    for name, values in score(lake, plan, log(both), 0.99).items():
        assert np.isfinite(values[0]) or name.startswith("drift"), name  # the optimum rules out what the start does
        assert np.isnan(values[1]), name


def test_a_policy_that_excludes_the_optimum_scores_a_large_finite_divergence():
    """Log-probabilities of −800 are 0 as probabilities; the KL comes from the former."""
    lake = Lake.make("SFG")
    plan = value_iteration(lake)
    log_probs = np.full((1, 3, 4), -800.0)
    log_probs[..., 0] = 0
    assert score(lake, plan, log_probs, 0.99)["policy_kl"] == pytest.approx(800)


def test_infinite_values_are_not_left_out_of_a_mean():
    with np.errstate(invalid="ignore"):
        assert mean_interval(np.array([np.inf, 1.0, 1.0]))[0] == np.inf


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [low <= 0 <= high for _, low, high in (mean_interval(rng.normal(size=40)) for _ in range(200))]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_intervals_of_few_or_missing_values():
    assert mean_interval(np.array([2.0]))[0] == 2
    assert np.isnan(mean_interval(np.array([2.0]))[1])
    assert np.isnan(mean_interval(np.array([np.nan]))[0])
    assert mean_interval(np.array([1.0, 1.0, np.nan])) == (1, 1, 1)


def runs():
    rng = np.random.default_rng(0)
    seed_effect = rng.normal(size=30)
    frames = []
    for method, offset in (("sft", 0.5), ("ift", 0.0)):
        columns = {name: seed_effect + offset + 0.01 * rng.normal(size=30) for name in METRICS}
        frames.append(pd.DataFrame({"method": method, "seed": range(30), **columns}))
    return pd.concat(frames, ignore_index=True)


def test_differences_are_paired_by_seed():
    """Seeds differ by 1, methods by 0.5, noise is 0.01: only the paired interval is narrow."""
    (row,) = [row for row in paired_differences(runs()) if row["metric"] == "policy_mse"]
    assert (row["first"], row["second"]) == ("sft", "ift")
    assert row["mean"] == pytest.approx(0.5, abs=0.01)
    assert row["high"] - row["low"] < 0.02
    alone = summarise(runs())["sft"]["policy_mse"]
    assert alone["high"] - alone["low"] > 0.3


def test_certainty_about_one_of_several_best_moves_costs_a_known_distance():
    """Where k moves are equally good, a policy certain of one keeps (1 − 1/k)/4 of squared error in that cell."""
    lake = Lake.make("4x4")
    plan = value_iteration(lake, 0.99)
    certain = np.eye(4)[plan.policy.argmax(1)]
    best = (plan.policy > 0).sum(1)[~lake.terminal]
    assert set(best) == {1, 2}
    with np.errstate(divide="ignore"):
        found = score(lake, plan, np.log(certain[None]), 0.99)
    assert found["policy_mse"][0] == pytest.approx(np.mean((1 - 1 / best) / 4))
    assert found["agreement"][0] == 1
    assert found["policy_mse_nearest"][0] == pytest.approx(0)  # every mix of best moves is optimal


def test_the_nearest_optimal_policy_is_nearest():
    """Against a fine grid of mixes of the two best moves."""
    lake = Lake.make("4x4")
    plan = value_iteration(lake, 0.99)
    cell = int(np.flatnonzero((plan.policy > 0).sum(1) == 2)[0])
    policy = np.random.default_rng(0).dirichlet(np.ones(4), size=(1, 16))
    nearest = score(lake, plan, np.log(policy), 0.99)["policy_mse_nearest"][0]
    best = np.flatnonzero(plan.policy[cell])
    mixes = np.zeros((1001, 4))
    mixes[:, best[0]], mixes[:, best[1]] = np.linspace(0, 1, 1001), np.linspace(1, 0, 1001)
    by_grid = np.square(policy[0, cell] - mixes).mean(1).min()
    assert metrics._nearest_error(policy, plan.policy > 0)[0, cell] == pytest.approx(by_grid, abs=1e-6)
    assert nearest <= score(lake, plan, np.log(policy), 0.99)["policy_mse"][0]


def test_what_is_forgotten_is_told_apart_by_cell():
    lake = Lake.make("SFG")
    plan = value_iteration(lake, 0.9)
    start = np.log(np.full((1, 3, 4), 0.25))
    changed = start.copy()
    changed[0, 1] = np.log([0.7, 0.1, 0.1, 0.1])
    on_target = np.array([True, False, False])
    scores = score(lake, plan, changed, 0.9, start, on_target)
    assert scores["drift_target"][0] == pytest.approx(0)
    by_hand = sum(0.25 * np.log(0.25 / p) for p in (0.7, 0.1, 0.1, 0.1))
    assert scores["drift_beside"][0] == pytest.approx(by_hand)
    assert scores["policy_mse_beside"][0] == pytest.approx((0.7**2 + 2 * 0.1**2 + 0.9**2) / 4)


def test_an_interval_is_that_of_scipys_bootstrap():
    values = np.random.default_rng(3).normal(size=37)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=2000, rng=np.random.default_rng(5)
    ).confidence_interval
    assert mean_interval(values, seed=5)[1:] == pytest.approx((expected.low, expected.high), rel=1e-12)
