"""Many settings as one experiment: trials that differ only in numbers are trained side by side."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ift import method_names
from toy.experiment import block_runs, scored
from toy.lake import Lake
from toy.metrics import METRICS
from toy.objectives import PER_RUN
from toy.policy import Policy
from toy.settings import BETAS, RunOptions, Settings, StartOptions
from toy.stages import FineTuned, Problem, fine_tune, optimal_policies, start_policies


@dataclass(frozen=True)
class Trial:
    """A method with its settings."""

    method: str
    settings: Settings


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
    for trial in trials.values():
        method_names(trial.method)
    frames: list[pd.DataFrame] = []
    for alike in _grouped(trials, _start_of):
        starts = _starts(lake, next(iter(alike.values())).settings)
        for settings in {trial.settings for trial in alike.values() if trial.settings.negatives == "suboptimal"}:
            Problem.of(lake, settings)  # raises where the lake has none
        for group in _grouped(alike, _choices_of):
            frames += _train(lake, starts, group)
    runs = pd.concat(frames, ignore_index=True)
    place = runs["trial"].map({name: place for place, name in enumerate(trials)})
    return runs.iloc[np.lexsort((runs["seed"], place))].reset_index(drop=True)


def _grouped(trials: Mapping[str, Trial], key: Callable[[Trial], Hashable]) -> Iterable[dict[str, Trial]]:
    groups: dict[Hashable, dict[str, Trial]] = {}
    for name, trial in trials.items():
        groups.setdefault(key(trial), {})[name] = trial
    return groups.values()


def _start_of(trial: Trial) -> Hashable:
    """What fixes the start policies."""
    return tuple(getattr(trial.settings, field.name) for kind in (RunOptions, StartOptions) for field in fields(kind))


def _choices_of(trial: Trial) -> Hashable:
    """Method and settings but for the numbers that may differ within a block."""
    defaults = Settings()
    return trial.method, replace(trial.settings, **{name: getattr(defaults, name) for name in PER_RUN})


def _starts(lake: Lake, settings: Settings) -> _Starts:
    problem = Problem.of(lake, settings)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    policies, stopped_at_step = start_policies(problem, seeds)
    optima = optimal_policies(problem, policies, seeds)
    as_trained = FineTuned(policies, stopped_at_step, torch.zeros(len(seeds), dtype=torch.long))
    columns, _ = scored(problem, as_trained, optima)
    return _Starts(problem, seeds, policies, optima, {f"start_{name}": columns[name] for name in METRICS})


def _train(lake: Lake, starts: _Starts, trials: dict[str, Trial]) -> Iterable[pd.DataFrame]:
    """Trials of one method that differ in numbers of `PER_RUN` only, in blocks of runs (trial, seed)."""
    method = next(iter(trials.values())).method
    runs = list(product(trials, range(len(starts.seeds))))
    size = block_runs(lake, starts.problem.settings)
    for first in range(0, len(runs), size):
        names, places = zip(*runs[first : first + size], strict=True)
        seeds = [starts.seeds[place] for place in places]
        start, optimum = (Policy(*(p[list(places)] for p in policy)) for policy in (starts.policies, starts.optima))
        settings = [trials[name].settings for name in names]
        problem = replace(starts.problem, settings=settings[0])  # what all runs of the block share is there
        tuned = fine_tune(problem, method, start, seeds, mixed=_mixed(method, settings, problem))
        columns, _ = scored(problem, tuned, optimum)
        yield pd.DataFrame(
            {
                "trial": names,
                "method": method,
                "seed": seeds,
                **columns,
                **{name: values[list(places)] for name, values in starts.distances.items()},
            }
        )


def _mixed(method: str, settings: list[Settings], problem: Problem) -> dict[str, Tensor]:
    """The hyper-parameters in which the runs differ, `[runs]` each."""
    mixed = {}
    for name in PER_RUN:
        if name == "beta" and method not in BETAS:
            continue
        values = [s.beta_of(method) if name == "beta" else getattr(s, name) for s in settings]
        if len(set(values)) > 1:
            mixed[name] = torch.tensor(values, dtype=problem.optimum.dtype, device=problem.optimum.device)
    return mixed
