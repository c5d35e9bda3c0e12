"""Many settings as one experiment: trials that differ only in numbers are trained side by side."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ift import METHODS, Method, method_names
from toy.curves import fine_tune_with_curve
from toy.experiment import block_runs, score_runs
from toy.lake import Lake
from toy.metrics import METRICS
from toy.policy import Policy
from toy.settings import RunOptions, Settings, StartOptions
from toy.stages import FineTuned, Problem, fine_tune, optimal_policies, start_policies
from toy.trials import Trial


@dataclass(frozen=True, eq=False)
class _Starts:
    """Start policies and optimal parameterised policies, one per seed, shared by all trials that start alike."""

    problem: Problem
    seeds: range
    policies: Policy
    optima: Policy
    distances: dict[str, np.ndarray]  # `start_METRIC` of each seed


def sweep(lake: Lake, trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Train every trial on every seed of its settings and score it.

    Returns:
        A row per trial and seed: `trial` (its name), the columns of `Result.runs`, and its start policy's metrics as
        `start_policy_mse`, `start_success`, …. Each is what `align` gives for these settings.

    Raises:
        ValueError: as `align`.
    """
    return sweep_with_curves(lake, trials, curves=False)[0]


def sweep_with_curves(
    lake: Lake, trials: Mapping[str, Trial], curves: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`sweep`, and the learning curves of all runs: `trial`, `seed`, `step` and the columns of `toy.curves`."""
    trials = {name: replace(trial, method=method_names(trial.method)[0]) for name, trial in trials.items()}
    frames: list[pd.DataFrame] = []
    points: list[pd.DataFrame] = []
    for alike in _grouped(trials, _start_of):
        starts = _starts(lake, next(iter(alike.values())).settings)
        for shared in {trial.settings.shared() for trial in alike.values()}:
            starts.problem.check(shared)
        for group in _grouped(alike, _shared_of):
            for frame, curve in _train(lake, starts, group, curves):
                frames.append(frame)
                points += [] if curve is None else [curve]
    runs = pd.concat(frames, ignore_index=True)
    place = runs["trial"].map({name: place for place, name in enumerate(trials)})
    runs = runs.iloc[np.lexsort((runs["seed"], place))].reset_index(drop=True)
    return runs, pd.concat(points, ignore_index=True) if points else pd.DataFrame()


def _grouped(trials: Mapping[str, Trial], key: Callable[[Trial], Hashable]) -> Iterable[dict[str, Trial]]:
    groups: dict[Hashable, dict[str, Trial]] = {}
    for name, trial in trials.items():
        groups.setdefault(key(trial), {})[name] = trial
    return groups.values()


def _start_of(trial: Trial) -> Hashable:
    """What fixes the start policies."""
    return tuple(getattr(trial.settings, field.name) for kind in (RunOptions, StartOptions) for field in fields(kind))


def _shared_of(trial: Trial) -> Hashable:
    """What runs of a block have in common: method and settings, but for the method's numbers.

    A loss from outside this project may not be written for numbers that differ between runs: they are in common too.
    """
    numbers = tuple(trial.settings.numbers_of(trial.value).items()) if trial.method in METHODS.origins else ()
    return trial.method, numbers, trial.settings.shared()


def _starts(lake: Lake, settings: Settings) -> _Starts:
    problem = Problem.of(lake, settings.shared())
    seeds = range(settings.seed, settings.seed + settings.seeds)
    policies, stopped_at_step = start_policies(problem, seeds)
    optima = optimal_policies(problem, policies, seeds)
    as_trained = FineTuned(policies, stopped_at_step, torch.zeros(len(seeds), dtype=torch.long))
    columns, _ = score_runs(problem, as_trained, policies, optima)
    return _Starts(problem, seeds, policies, optima, {f"start_{name}": columns[name] for name in METRICS})


def _train(
    lake: Lake, starts: _Starts, trials: dict[str, Trial], curves: bool
) -> Iterable[tuple[pd.DataFrame, pd.DataFrame | None]]:
    """Trials of one method that differ in its numbers only, in blocks of runs (trial, seed)."""
    one = next(iter(trials.values()))
    problem = replace(starts.problem, settings=one.settings.shared())
    runs = list(product(trials, range(len(starts.seeds))))
    size = block_runs(lake, problem.settings)
    for first in range(0, len(runs), size):
        names, places = zip(*runs[first : first + size], strict=True)
        seeds = [starts.seeds[place] for place in places]
        start, optimum = (Policy(*(p[list(places)] for p in policy)) for policy in (starts.policies, starts.optima))
        numbers = _numbers(one.value, [trials[name].settings for name in names], problem)
        points = None
        if curves:
            tuned, points = fine_tune_with_curve(problem, one.value, numbers, start, seeds, optimum)
            points.insert(0, "trial", np.array(names)[points["run"]])
            points["run"] = np.array(seeds)[points["run"]]
            points = points.rename(columns={"run": "seed"})
        else:
            tuned = fine_tune(problem, one.value, numbers, start, seeds)
        columns, _ = score_runs(problem, tuned, start, optimum)
        frame = pd.DataFrame(
            {
                "trial": names,
                "method": one.method,
                "seed": seeds,
                **columns,
                **{name: values[list(places)] for name, values in starts.distances.items()},
            }
        )
        yield frame, points


def _numbers(method: Method, settings: list[Settings], problem: Problem) -> dict[str, float | Tensor]:
    """The method's numbers: one where all runs have the same, `[runs]` where they differ."""
    numbers: dict[str, float | Tensor] = {}
    for number in method.numbers:
        values = [each.number(method, number.name) for each in settings]
        numbers[number.name] = values[0]
        if len(set(values)) > 1:
            numbers[number.name] = torch.tensor(values, dtype=problem.optimum.dtype, device=problem.optimum.device)
    return numbers
