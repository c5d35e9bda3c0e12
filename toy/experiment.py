"""The experiment: every seed through the three stages and every method, and how close each came to the optimum."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from common.memory import require_memory
from toy import metrics
from toy.curves import fine_tune_with_curve
from toy.lake import Lake
from toy.planning import Plan, visit_probability
from toy.policy import Policy, cell_log_probs, parameter_mse, travelled
from toy.settings import Settings, SharedSettings
from toy.stages import FineTuned, Problem, optimal_policies, start_policies
from toy.trajectories import Trajectory
from toy.trials import named_trials

BLOCK_WEIGHTS = 2**20  # first-layer weights trained as one set of tensors: many runs, but few enough for the cache


@dataclass(frozen=True, eq=False)
class Result:
    """What an experiment found.

    Attributes:
        runs: a row per method and seed: `method`, `seed`, the columns of `metrics.METRICS`, `stopped_at_step` (−1: ran
            to its end) and `sampled_steps` (steps of the lake that the method had to sample).
        start: the same columns for the start policy of each seed.
        policies: the mean policy over seeds of `start`, each method and `optimum`, `[cells, 4]`.
        visits: probability that an episode of those policies enters a cell, mean over seeds, `[cells]`.
        first_policies: each method's policy of the first seed, `[cells, 4]`.
        targets, suboptimal: the trajectories that methods learned from, one per start cell (None: the lake has none).
        plan: the optimum.
        optimum: every metric but `parameter_mse` for the optimal policy itself.
        curves: the columns of `curves.fine_tune_with_curve` per `method`, `seed` and `step`, at about 20 steps of the
            training.
    """

    runs: pd.DataFrame
    start: pd.DataFrame
    policies: dict[str, np.ndarray]
    visits: dict[str, np.ndarray]
    first_policies: dict[str, np.ndarray]
    targets: list[Trajectory]
    suboptimal: list[Trajectory | None]
    plan: Plan
    optimum: dict[str, float]
    curves: pd.DataFrame


def align(
    lake: Lake,
    methods: str | Iterable[str] = "ift",
    settings: Settings | None = None,
    progress: Callable[[str, float], None] = lambda doing, share_done: None,
) -> Result:
    """Fine-tune `settings.seeds` start policies by each method and score them against the optimum of the lake.

    All methods share a seed's start policy, its optimal parameterised policy and its stream of random numbers; a run's
    numbers do not depend on the runs beside it.

    Raises:
        ValueError: an unknown method, a lake of more than 1024 cells, rewards under which the optimum never reaches a
            goal, or settings that ask for a sub-optimal trajectory on a lake that has none.
    """
    settings = settings or Settings()
    trials = named_trials(methods, settings)
    _require_memory(lake, settings, len(trials))
    problems = {name: Problem.of(lake, trial.settings.shared()) for name, trial in trials.items()}
    problem, names = next(iter(problems.values())), ("start", *trials)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    tables: dict[str, list[np.ndarray]] = {name: [] for name in names}
    curves: list[pd.DataFrame] = []
    runs = block_runs(lake, problem.settings)
    stages = -(-len(seeds) // runs) * (len(names) + 1)  # per block: starts, optima, each method
    stage = 0
    for first in range(0, len(seeds), runs):
        block = seeds[first : first + runs]
        progress("start policies", stage / stages)
        start, start_stopped_at = start_policies(problem, block)
        progress("optimal parameterised policies", (stage + 1) / stages)
        optimum = optimal_policies(problem, start, block)
        stage += 2
        for name in names:
            if name == "start":
                tuned = FineTuned(start, start_stopped_at, sampled_steps=torch.zeros(len(block), dtype=torch.long))
            else:

                def tell(share: float, name: str = name, stage: int = stage) -> None:
                    progress(name, (stage + share) / stages)

                method = trials[name].value
                numbers = trials[name].settings.numbers_of(method)
                tuned, points = fine_tune_with_curve(problems[name], method, numbers, start, block, optimum, tell)
                curves.append(points.assign(run=points["run"] + block[0]).rename(columns={"run": "seed"}))
                curves[-1].insert(0, "method", name)
                stage += 1
            rows, log_probs = score_runs(problem, tuned, start, optimum)
            frames[name].append(pd.DataFrame({"method": name, "seed": list(block), **rows}))
            tables[name].append(np.exp(log_probs))
    progress("done", 1.0)
    return _result(
        problem,
        {n: pd.concat(f, ignore_index=True) for n, f in frames.items()},
        tables,
        pd.concat(curves, ignore_index=True),
    )


def _require_memory(lake: Lake, settings: Settings, trials: int) -> None:
    """Raise `ValueError` where the policies alone are too much: networks of a block, tables of all runs."""
    cells = len(lake.next_cell)
    networks = min(settings.seeds, block_runs(lake, settings)) * cells * settings.width
    start_and_optimum_and_trained, bytes_per_weight = 3, 4 if settings.dtype == "float32" else 8
    tables = settings.seeds * (trials + 1) * cells * 4 * 8
    need = start_and_optimum_and_trained * bytes_per_weight * networks + tables
    require_memory(need, f"seeds {settings.seeds} with width {settings.width} on {cells} cells")


def block_runs(lake: Lake, settings: SharedSettings) -> int:
    """How many runs are trained side by side."""
    return max(1, BLOCK_WEIGHTS // (len(lake.next_cell) * settings.width))


def score_runs(
    problem: Problem, tuned: FineTuned, start: Policy, optimum: Policy
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A run's columns of `Result.runs`, `[runs]` each, and its log π(a | s) `[runs, cells, 4]`."""
    log_probs, start_log_probs = (cell_log_probs(policy).double().cpu().numpy() for policy in (tuned.policy, start))
    discount = problem.settings.discount
    columns = {
        "parameter_mse": parameter_mse(tuned.policy, optimum).double().cpu().numpy(),
        **metrics.score(problem.lake, problem.plan, log_probs, start_log_probs, problem.on_target, discount),
        "travelled": travelled(tuned.policy, start).double().cpu().numpy(),
        "stopped_at_step": tuned.stopped_at_step.cpu().numpy(),
        "sampled_steps": tuned.sampled_steps.cpu().numpy(),
    }
    return columns, log_probs


def _result(
    problem: Problem, frames: dict[str, pd.DataFrame], tables: dict[str, list[np.ndarray]], curves: pd.DataFrame
) -> Result:
    lake, plan = problem.lake, problem.plan
    policies, visits = {}, {}
    for name, parts in {**tables, "optimum": [plan.policy[None]]}.items():
        table = np.concatenate(parts)
        finite = table[np.isfinite(table).all((1, 2))]
        policies[name] = finite.mean(0) if len(finite) else np.full(plan.policy.shape, np.nan)
        visits[name] = visit_probability(lake, finite).mean(0) if len(finite) else np.full(len(plan.policy), np.nan)
    with np.errstate(divide="ignore"):
        log_optimum = np.log(plan.policy[None])
        scores = metrics.score(lake, plan, log_optimum, log_optimum, problem.on_target, problem.settings.discount)
    return Result(
        runs=pd.concat([frame for name, frame in frames.items() if name != "start"], ignore_index=True),
        start=frames["start"],
        policies=policies,
        visits=visits,
        first_policies={name: parts[0][0] for name, parts in tables.items() if name != "start"},
        targets=problem.targets,
        suboptimal=problem.suboptimal,
        plan=plan,
        optimum={metric: float(values[0]) for metric, values in scores.items()},
        curves=curves,
    )
