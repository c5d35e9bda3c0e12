"""Which trainings the compiled kernels do, and how: one run after the other on each core, whole updates at a time.

A run is trained alone, in a core's first caches, and cores share nothing but a list of runs: a core that is busy
elsewhere slows its own runs only. Everything else is trained by autograd (`toy.stages`), which is the definition.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import ift
from toy import kernels, kernels_pairs
from toy.objectives import Task
from toy.policy import Policy

_OPTIMIZERS = {"adam": kernels.ADAM, "rmsprop": kernels.RMSPROP, "sgd": kernels.SGD}
_PREDICTIONS = {"greedy": kernels.GREEDY, "sampled": kernels.SAMPLED, "expected": kernels.EXPECTED}
_NEGATIVES = ("current", "start", "suboptimal")
_PAIR_LOSSES = {ift.dpo_loss: kernels_pairs.DPO, ift.orpo_loss: kernels_pairs.ORPO}
_LEAST_WIDTH = 4  # a row of parameters holds the second bias


def trains(policy: Policy, task: Task) -> bool:
    """Whether the kernels train this method with these settings."""
    settings, method = task.settings, task.method
    if not has_room(policy) or "refresh" in task.numbers:
        return False
    if method.learns_from == "pairs":
        return method.loss in _PAIR_LOSSES
    released = settings.norm == "L1" and settings.side == "left"
    return (
        method.learns_from == "targets"
        and method.states in ("target", "mixed")
        and (method.loss is ift.sft_loss or (method.loss is ift.ift_loss and (settings.form == "sum" or released)))
        and (method.states == "target" or settings.residual == "prediction")
    )


def has_room(policy: Policy) -> bool:
    """Whether the policies are of a kind that the kernels know: on the CPU, and not too narrow."""
    weight = policy.first_weight
    return weight.device.type == "cpu" and weight.shape[-1] >= _LEAST_WIDTH


class Training:
    """Runs in the middle of their training: parameters and moments as the kernels hold them, `[runs, cells + 6, width]`.

    Attributes:
        stopped_at_step: the update at which a run was stopped, as its loss was no number, or −1, `[runs]`.
        sampled_steps: steps of the lake that each run has sampled, `[runs]`.
    """

    def __init__(self, start: Policy):
        self.theta = pack(start)
        self.first, self.second = np.zeros_like(self.theta), np.zeros_like(self.theta)
        self.stopped_at_step = np.full(len(self.theta), -1)
        self.sampled_steps = np.zeros(len(self.theta), np.int64)
        self.updates = 0

    @property
    def policy(self) -> Policy:
        """The parameters as they are, in tensors of their own."""
        return unpack(self.theta)

    def advance(self, task: Task, updates: int, lr: float) -> None:
        """So many updates of every run that was not stopped."""
        kernel = self._of_pairs(task, updates, lr) if task.method.learns_from == "pairs" else None
        kernel = kernel or self._of_targets(task, updates, lr)
        each_run(kernel, [run for run, at in enumerate(self.stopped_at_step) if at < 0])
        self.updates += updates

    def finish(self) -> None:
        """Stop the runs whose parameters are no longer numbers."""
        broken = ~np.isfinite(self.theta).all((1, 2))
        self.stopped_at_step[broken & (self.stopped_at_step < 0)] = self.updates
        self.theta[broken] = np.nan

    def _of_targets(self, task: Task, updates: int, lr: float) -> Callable[[int], None]:
        settings, lake = task.settings, _tables(task)
        lams = self._per_run(task, "lam") if task.method.mixes_states else self._per_run(task, None)
        gammas, form = self._per_run(task, None), kernels.PLAIN
        if task.method.propagates:
            gammas = self._per_run(task, "gamma")
            of_mask = settings.source == "mask"
            form = kernels.SUM if settings.form == "sum" else kernels.PRODUCT_OF_MASK if of_mask else kernels.PRODUCT
        rule = (_OPTIMIZERS[settings.optimizer], lr)

        def train(run: int) -> None:
            self.stopped_at_step[run] = kernels.fit_targets(
                *self._of(run), self.updates, updates, *rule, task.generators[run], *lake["targets"],
                lake["next_cell"], lake["probability"], lams[run], gammas[run], form,
                _PREDICTIONS[settings.prediction],
            )  # fmt: skip

        return train

    def _of_pairs(self, task: Task, updates: int, lr: float) -> Callable[[int], None]:
        settings, lake = task.settings, _tables(task)
        betas = self._per_run(task, "beta")
        smoothings = self._per_run(task, "label_smoothing" if "label_smoothing" in task.numbers else None)
        reference = task.reference.numpy()
        nowhere, no_cells = np.empty((0, 4), self.theta.dtype), np.empty((0, 0), np.int64)
        fixed, repeats = (no_cells, no_cells, np.empty(0, np.int64)), settings.negatives_per_step
        if settings.negatives == "suboptimal":
            assert task.suboptimal is not None
            lengths = task.suboptimal.mask.sum(-1).numpy()
            fixed, repeats = (task.suboptimal.cells.numpy(), task.suboptimal.actions.numpy(), lengths), 1
        rule = (_OPTIMIZERS[settings.optimizer], lr)

        def train(run: int) -> None:
            table = np.exp(reference[run]) if settings.negatives == "start" else nowhere
            self.stopped_at_step[run], sampled = kernels_pairs.fit_pairs(
                *self._of(run), self.updates, updates, *rule, task.generators[run], *lake["targets"],
                lake["next_cell"], lake["below"], lake["terminal"], table, reference[run], *fixed, repeats,
                task.horizon, _PAIR_LOSSES[task.method.loss], betas[run], smoothings[run],
            )  # fmt: skip
            self.sampled_steps[run] += sampled

        return train

    def _of(self, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.theta[run], self.first[run], self.second[run]

    def _per_run(self, task: Task, name: str | None) -> np.ndarray:
        """A number of the method for each run, in the networks' precision; 0 for none."""
        values = np.zeros(len(self.theta), self.theta.dtype)
        values[:] = 0 if name is None else np.asarray(task.numbers[name])
        return values


def fit_tables(
    start: Policy, aim: Tensor, updates: int, lr: float, optimum: Tensor | None = None, gap: float = -1.0
) -> tuple[Policy, Tensor, Tensor]:
    """Policies trained toward `aim [cells, 4]` by Adam: see `kernels.fit_table`.

    Returns:
        The policies; per run the update at which it was stopped, or −1; and whether it came within `gap` of `optimum`.
    """
    training = Training(start)
    kind, matched = training.theta.dtype.type, np.zeros(len(training.theta), bool)
    weights, goal = aim.numpy(), (aim if optimum is None else optimum).numpy()

    def train(run: int) -> None:
        parts = training.theta[run], training.first[run], training.second[run]
        training.stopped_at_step[run], matched[run] = kernels.fit_table(*parts, updates, lr, weights, goal, kind(gap))

    each_run(train, [run for run in range(len(matched)) if np.isfinite(training.theta[run]).all()])
    training.updates = updates
    training.finish()
    return training.policy, torch.as_tensor(training.stopped_at_step), torch.as_tensor(matched)


def each_run(train: Callable[[int], None], runs: Sequence[int]) -> None:
    """Call `train` for all runs, on all cores that this process may use."""
    workers = min(numba.config.NUMBA_NUM_THREADS, len(runs))
    if workers <= 1:
        for run in runs:
            train(run)
        return
    share = max(1, len(runs) // (8 * workers))  # small enough that no core waits long for another one at the end

    def some(first: int) -> None:
        for run in runs[first : first + share]:
            train(run)

    pool = ThreadPoolExecutor(workers)
    try:
        for _ in pool.map(some, range(0, len(runs), share)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def pack(policy: Policy) -> np.ndarray:
    """The parameters as the kernels hold them, `[runs, cells + 6, width]`."""
    last = pad(policy.second_bias, (0, policy.first_weight.shape[-1] - 4))
    rows = [policy.first_weight, policy.first_bias, policy.second_weight.mT, last]
    return np.ascontiguousarray(torch.cat([part.detach() for part in rows], 1).numpy())


def unpack(theta: np.ndarray) -> Policy:
    """The parameters in tensors of their own."""
    rows = torch.from_numpy(theta.copy())
    return Policy(rows[:, :-6], rows[:, -6:-5], rows[:, -5:-1].mT.contiguous(), rows[:, -1:, :4].contiguous())


def _tables(task: Task) -> Mapping[str, Any]:
    """Targets and lake as the kernels take them."""
    targets, dynamics = task.targets, task.dynamics
    lengths = targets.mask.sum(-1).numpy()
    outcomes = len(dynamics.outcome_below) + 1
    dtype = dynamics.transition.numpy().dtype
    next_cell = dynamics.next_cell.numpy().reshape(-1, 4, outcomes)
    chances = np.diff(np.array([0.0, *dynamics.outcome_below, 1.0])).astype(dtype)
    return {
        "targets": (
            np.concatenate([[0], lengths.cumsum()]),
            targets.cells[targets.mask].numpy(),
            targets.actions[targets.mask].numpy(),
        ),
        "next_cell": next_cell,
        "probability": np.broadcast_to(chances, next_cell.shape).copy(),
        "below": np.array(dynamics.outcome_below, np.float32),
        "terminal": dynamics.terminal.numpy(),
    }
