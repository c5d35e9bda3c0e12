"""How close a policy came to the optimum, exactly; and what many seeds together say."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from toy.lake import Lake
from toy.planning import LEAK, Plan, evaluate, visit_probability

METRICS = {
    "parameter_mse": "mean squared distance of the parameters to the optimal parameterised policy's",
    "policy_mse": "mean squared distance of the probabilities to the optimum's, over live cells",
    "policy_mse_nearest": "the same to the nearest optimal policy: of several best moves it may take any mix",
    "policy_mse_visited": "policy_mse with cells weighted by the optimum's visits",
    "policy_mse_beside": "policy_mse over the live cells that no target visits",
    "policy_kl": "KL(optimum ‖ policy) in nats, mean over live cells",
    "policy_kl_visited": "the same, cells weighted by the optimum's visits",
    "success": "probability that an episode reaches a goal within the lake's limit of steps",
    "value_gap": "discounted return at the start within that limit, the optimum's minus the policy's",
    "agreement": "share of live cells whose greedy action is optimal",
    "cells_visited": "expected number of distinct cells of an episode without a limit of steps",
    "travelled": "distance of the parameters from the start policy's, the length of the difference",
    "drift_target": "KL(start ‖ policy) in nats, mean over the cells of the targets: what is forgotten there",
    "drift_beside": "the same over the live cells that no target visits",
}


def score(
    lake: Lake, plan: Plan, log_probs: np.ndarray, start_log_probs: np.ndarray, on_target: np.ndarray, discount: float
) -> dict[str, np.ndarray]:
    """Every metric but those of parameters, of log π(a | s) `[runs, cells, 4]`, `[runs]` each; NaN for a NaN policy.

    `start_log_probs` are the start policies', `on_target [cells]` says which cells a target visits. All metrics are
    exact: they come from the lake's tables, not from sampled episodes.
    """
    known = ~np.isnan(log_probs).any((1, 2))
    log_probs = np.where(known[:, None, None], log_probs, np.log(0.25))
    policy = np.exp(log_probs)
    live = ~lake.terminal
    beside = live & ~on_target
    visits = optimal_visits(lake, plan)[live]
    error = np.square(policy - plan.policy).mean(-1)
    taken = plan.policy > 0
    log_optimum = np.log(plan.policy, where=taken, out=np.zeros_like(plan.policy))
    divergence = (plan.policy * (log_optimum - np.where(taken, log_probs, 0))).sum(-1)[:, live]
    with np.errstate(invalid="ignore"):  # 0 · −∞: an action that the start never takes counts nothing
        terms = np.exp(start_log_probs) * (start_log_probs - log_probs)
    drift = np.nan_to_num(terms, nan=0.0, posinf=np.inf).sum(-1)
    worth = evaluate(lake, policy, discount, lake.max_episode_steps)
    best = evaluate(lake, plan.policy, discount, lake.max_episode_steps)
    greedy = np.take_along_axis(np.broadcast_to(taken, policy.shape), policy.argmax(-1)[..., None], -1)[..., 0]
    scores = {
        "policy_mse": error[:, live].mean(1),
        "policy_mse_nearest": _nearest_error(policy, taken)[:, live].mean(1),
        "policy_mse_visited": error[:, live] @ visits,
        "policy_mse_beside": _mean_over(error, beside),
        "policy_kl": divergence.mean(1),
        "policy_kl_visited": divergence @ visits,
        "success": worth.success,
        "value_gap": best.returns - worth.returns,
        "agreement": greedy[:, live].mean(1),
        "cells_visited": visit_probability(lake, policy).sum(1),
        "drift_target": _mean_over(drift, live & on_target),
        "drift_beside": _mean_over(drift, beside),
    }
    return {name: np.where(known, value, np.nan) for name, value in scores.items()}


def _nearest_error(policy: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Mean squared distance `[runs, cells]` of `policy [runs, cells, 4]` to the nearest mix of the `best [cells, 4]`.

    The nearest one gives what the policy puts on other moves to the best ones, in equal parts (the projection onto
    their simplex).
    """
    elsewhere = np.where(best, 0, policy)
    missing = elsewhere.sum(-1)
    return (np.square(elsewhere).sum(-1) + np.square(missing) / best.sum(-1)) / policy.shape[-1]


def _mean_over(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean of `values [runs, cells]` over some cells, `[runs]`; 0 where there are none."""
    return values[:, cells].sum(1) / max(cells.sum(), 1)


def optimal_visits(lake: Lake, plan: Plan) -> np.ndarray:
    """Share of the optimal policy's steps spent in each cell, `[cells]`, sums to 1 over live cells."""
    live = ~lake.terminal
    moves = np.einsum("sa,sat->st", (1 - LEAK) * plan.policy * live[:, None], lake.transition_matrix() * live)
    start = np.isin(np.arange(len(moves)), lake.starts) / len(lake.starts)
    visits = np.linalg.solve((np.eye(len(moves)) - moves).T, start)
    return visits / visits.sum()


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % percentile bootstrap interval over seeds, NaN entries left out; no interval for fewer than two."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan), np.nan, np.nan
    low, high = np.percentile(values[_resamples(len(values), seed)].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(count: int, seed: int) -> np.ndarray:
    """Which values each of 2,000 resamples takes, `[resamples, count]`, as `scipy.stats.bootstrap` draws them."""
    return np.random.default_rng(seed).integers(0, count, (2000, count))


def summarise(runs: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """{method: {metric: {mean, low, high}}} over the seeds of a table of runs."""
    return {
        str(method): {name: _interval(group[name].to_numpy()) for name in METRICS}
        for method, group in runs.groupby("method", sort=False)
    }


def paired_differences(
    runs: pd.DataFrame, metrics: Sequence[str] = ("parameter_mse", "policy_mse")
) -> list[dict[str, object]]:
    """First minus second method, paired by seed, for every pair of methods: mean with 95 % interval."""
    rows: list[dict[str, object]] = []
    for metric in metrics:
        by_seed = runs.pivot(index="seed", columns="method", values=metric)[list(runs["method"].unique())]
        for i, first in enumerate(by_seed.columns):
            for second in by_seed.columns[i + 1 :]:
                difference = _interval((by_seed[first] - by_seed[second]).to_numpy())
                rows.append({"metric": metric, "first": first, "second": second, **difference})
    return rows


def _interval(values: np.ndarray) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), mean_interval(values), strict=True))
