"""What the page is sent: a description of a run once, and a frame of numbers after each update. JSON-ready data."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toy.explore.request import Request
from toy.explore.training import Run
from toy.lake import Lake
from toy.objectives import Task, predicted_states
from toy.picture import colour_of
from toy.planning import evaluate, visit_probability
from toy.policy import Policy, cell_log_probs, parameter_mse, travelled
from toy.scored_cells import scored_by
from toy.stages import make_task
from toy.trajectories import Trajectory

_BAND = 1.96  # standard errors to either side of a mean: a 95 % interval
_WORKERS = ThreadPoolExecutor(2, "measure")  # linear algebra lets other threads run meanwhile
_FAINT = 0.01  # shares below this are not sent


def describe(run: Run) -> dict[str, Any]:
    """What stays the same while a run goes on: lake, ways, optimum, methods with their numbers, command."""
    problem, request = run.problem, run.request
    lake = problem.lake
    live = ~lake.terminal
    on_target = {cell for trajectory in problem.targets for cell, _ in trajectory}
    return {
        "request": {
            "map": "/".join(request.rows),
            "slippery": request.slippery,
            "methods": list(request.methods),
            "protocol": request.protocol,
            "settings": dict(request.settings),
            "numbers": dict(request.numbers),
            "shade": request.shade,
        },
        "rows": list(lake.rows),
        "methods": [_method(request, name) for name in request.methods],
        "targets": problem.targets,
        "targetWays": [_cells(lake, trajectory) for trajectory in problem.targets],
        "otherWays": [_cells(lake, trajectory) for trajectory in problem.suboptimal if trajectory is not None],
        "optimum": _rounded(problem.plan.policy),
        "neverVisited": [int(cell) for cell in np.flatnonzero(live) if int(cell) not in on_target],
        "command": request.command,
        "sharedCommand": request.shared_command,
        "changed": run.changed,
        "seeds": len(run.seeds),
    }


def _cells(lake: Lake, trajectory: Trajectory) -> list[int]:
    """The cells of a trajectory, with the goal that its last move reaches, by slipping if need be."""
    last = lake.next_cell[trajectory[-1]]
    return [*(cell for cell, _ in trajectory), int(last[lake.goal[last]][0])]


def _method(request: Request, name: str) -> dict[str, Any]:
    trial = request.trials[name]
    return {
        "name": name,
        "method": trial.method,
        "title": trial.value.title.partition(" (")[0],
        "help": trial.value.help,
        "colour": colour_of(name),
        "mixes": trial.value.mixes_states,
        "numbers": trial.settings.numbers_of(trial.value),
        "form": trial.settings.form,
        "optimizer": trial.settings.optimizer,
    }


def measure(run: Run) -> dict[str, Any]:
    """The policies and their distances as they are, a mean over seeds each; runs that broke are left out of it."""
    policies = run.policies
    measured = _WORKERS.map(lambda name: _measure(run, name, policies[name]), policies)
    return {"update": run.update, "methods": dict(zip(policies, measured, strict=True))}


@torch.no_grad()
def _measure(run: Run, name: str, policy: Policy) -> dict[str, Any]:
    problem = run.problems[name]
    lake = problem.lake
    tables = cell_log_probs(policy).exp().double().cpu().numpy()
    known = np.isfinite(tables).all((1, 2))
    broken = {"stopped": int((~known).sum())}
    if not known.any():
        return {**broken, "curves": dict.fromkeys(("parameter_mse", "policy_mse", "success", "travelled"))}
    tables = tables[known]
    error = np.square(tables - problem.plan.policy).mean(-1)
    visits = visit_probability(lake, tables)
    curves = {
        "parameter_mse": parameter_mse(policy, run.optimum).cpu().numpy()[known],
        "policy_mse": error[:, ~lake.terminal].mean(1),
        "success": evaluate(lake, tables, problem.settings.discount, lake.max_episode_steps).success,
        "travelled": travelled(policy, run.start).double().cpu().numpy()[known],
    }
    return {
        **broken,
        "policy": _rounded(tables.mean(0)),
        "error": _rounded(error.mean(0)),
        "visits": _rounded(visits.mean(0)),
        "curves": {metric: _mean_and_band(values) for metric, values in curves.items()},
        **_states(run, name, policy),
    }


def _states(run: Run, name: str, policy: Policy) -> dict[str, Any]:
    """Which states the training looks at: `mixed` lines of IFT's residual, and `scored` shares if they are shown."""
    problem, trial = run.problems[name], run.request.trials[name]
    if not trial.value.mixes_states and run.request.shade != "scored":
        return {}
    draws = run.request.shade == "scored" or problem.settings.prediction == "sampled"
    task = make_task(problem, trial.value, run.steppers[name].numbers, policy, run.seeds if draws else ())
    states: dict[str, Any] = {}
    if trial.value.mixes_states:
        states["mixed"] = _mixed(predicted_states(policy, task), task)
    if run.request.shade == "scored":
        states["scored"] = _rounded(scored_by(policy, task, problem).states)
    return states


def _mixed(predicted: Tensor, task: Task) -> list[list[float]]:
    """[target cell, predicted cell, share] wherever a prediction leads to another cell than the target's."""
    shares = predicted.nanmean(0).cpu().numpy()  # [targets, steps, cells]
    cells, mask = task.targets.cells.cpu().numpy(), task.targets.mask.cpu().numpy()
    return [
        [int(cells[target, step]), int(cell), round(float(shares[target, step, cell]), 3)]
        for target, step, cell in np.argwhere(shares >= _FAINT)
        if mask[target, step] and cell != cells[target, step]
    ]


def _mean_and_band(values: np.ndarray) -> list[float] | None:
    """Mean and 95 % interval, all of them 0 wide for a single seed; None where they are too large for numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, half = values.mean(), _BAND * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        shown = [float(f"{value:.8g}") for value in (mean, mean - half, mean + half)]
    return shown if np.isfinite(shown).all() else None


def _rounded(values: np.ndarray) -> list:
    return np.round(values, 4).tolist()
