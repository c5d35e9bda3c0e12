"""Learning curves: how far each run is from the optimum, and from its start, while it trains."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ift import Method
from toy.objectives import Task, mixed_share, target_log_probs
from toy.policy import Policy, cell_log_probs, parameter_mse, travelled
from toy.stages import FineTuned, Problem, fine_tune, make_task

POINTS = 20  # of a learning curve, about


def fine_tune_with_curve(
    problem: Problem,
    method: Method,
    numbers: Mapping[str, float | Tensor],
    start: Policy,
    seeds: Sequence[int],
    optimum: Policy,
    progress: Callable[[float], None] = lambda share_done: None,
) -> tuple[FineTuned, pd.DataFrame]:
    """The trained policies, and a row per run and measured update: `run` (its place), `step`, and the curve's columns.

    The columns are `policy_mse`, `parameter_mse`, `travelled`, `target_loss` (mean negative log-probability of the
    target's moves, SFT's loss) and `mixed_share` (see `objectives.mixed_share`; NaN for methods that mix no states).
    """
    steps, points = problem.settings.steps, list[pd.DataFrame]()
    task = make_task(problem, method, numbers, start, seeds)  # to measure with: the training has one of its own

    @torch.no_grad()
    def measure(step: int, policy: Policy) -> None:
        columns = {name: values.double().cpu().numpy() for name, values in _measured(policy, task, problem).items()}
        columns["travelled"] = travelled(policy, start).double().cpu().numpy()
        columns["parameter_mse"] = parameter_mse(policy, optimum).double().cpu().numpy()
        points.append(pd.DataFrame({"run": np.arange(len(seeds)), "step": step, **columns}))

    def on_step(step: int, policy: Policy) -> None:
        progress(step / steps)
        measure(step, policy)

    tuned = fine_tune(problem, method, numbers, start, seeds, on_step, every=max(1, steps // POINTS))
    measure(steps, tuned.policy)
    return tuned, pd.concat(points, ignore_index=True)


def _measured(policy: Policy, task: Task, problem: Problem) -> dict[str, Tensor]:
    error = (cell_log_probs(policy).exp() - problem.optimum)[:, problem.live].square().mean((1, 2))
    mask = task.targets.mask.to(error.dtype)
    share = mixed_share(policy, task) if task.method.mixes_states else torch.full_like(error, torch.nan)
    return {
        "policy_mse": error,
        "target_loss": -(target_log_probs(policy, task) * mask).sum((1, 2)) / mask.sum(),
        "mixed_share": share,
    }
