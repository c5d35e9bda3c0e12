"""Which trainings the compiled kernels do, and how: one run after the other on each core, many updates at a time.

A run is trained alone, in a core's first caches, and cores share nothing but a list of runs: a core that is busy
elsewhere slows its own runs only. Everything else is trained by autograd (`toy.stages`), which is the definition.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import ift
from toy import kernels, kernels_pairs, network
from toy.network import each_piece
from toy.objectives import Task
from toy.policy import OPTIMIZERS, Policy

_PREDICTIONS = {"greedy": kernels.GREEDY, "sampled": kernels.SAMPLED, "expected": kernels.EXPECTED}
_KNOWN = {method.loss: method for method in (ift.METHODS[name] for name in ("sft", "ift", "dpo", "orpo"))}
_PAIR_LOSSES = {ift.dpo_loss: kernels_pairs.DPO, ift.orpo_loss: kernels_pairs.ORPO}


def trains(policy: Policy, task: Task) -> bool:
    """Whether the kernels train this method with these settings."""
    settings, method = task.settings, task.method
    known = _KNOWN.get(method.loss)
    if known is None or "refresh" in task.numbers or not network.computes(policy):
        return False
    told = {name: getattr(method, name) for name in ("name", "title", "help", "numbers", "colour")}
    if replace(known, **told) != method:  # a method of somebody else's may use the loss in another way
        return False
    released = settings.form == "sum" or (settings.norm == "L1" and settings.side == "left")
    return (released or not method.propagates) and (settings.residual == "prediction" or not method.mixes_states)


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
        settings = task.settings
        rule = (self.updates, updates, OPTIMIZERS[settings.optimizer][0], lr, task.streams)
        parts = (self.theta, self.first, self.second, self.stopped_at_step)
        if task.method.learns_from == "pairs":
            pairs = (*rule, *_targets(task), *self._pairs(task))
            each_piece(
                lambda begin, end: kernels_pairs.fit_pairs(begin, end, *parts, self.sampled_steps, *pairs), len(self.theta)
            )
        else:
            targets = (*rule, *_targets(task), *self._targets(task))
            each_piece(lambda begin, end: kernels.fit_targets(begin, end, *parts, *targets), len(self.theta))
        self.updates += updates

    def finish(self) -> None:
        """Stop the runs whose parameters are no longer numbers."""
        broken = ~np.isfinite(self.theta).all((1, 2))
        self.stopped_at_step[broken & (self.stopped_at_step < 0)] = self.updates
        self.theta[broken] = np.nan

    def _targets(self, task: Task) -> tuple[Any, ...]:
        """What a loss of targets needs beside them."""
        settings, method = task.settings, task.method
        form = kernels.PLAIN
        if method.propagates:
            product = kernels.PRODUCT_OF_MASK if settings.source == "mask" else kernels.PRODUCT
            form = kernels.SUM if settings.form == "sum" else product
        next_cell, chances = _moves(task)
        probability = np.broadcast_to(chances.astype(self.theta.dtype), next_cell.shape).copy()
        numbers = [self._per_run(task, name if name in task.numbers else None) for name in ("lam", "gamma")]
        return next_cell, probability, *numbers, form, _PREDICTIONS[settings.prediction]

    def _pairs(self, task: Task) -> tuple[Any, ...]:
        """What a loss of pairs needs beside the targets."""
        settings, dynamics = task.settings, task.dynamics
        fixed = (np.empty((0, 0), np.int32), np.empty(0, np.int64), settings.negatives_per_step)
        if settings.negatives == "suboptimal":
            assert task.suboptimal is not None
            moves = task.suboptimal.cells * 4 + task.suboptimal.actions
            fixed = (moves.numpy().astype(np.int32), task.suboptimal.mask.sum(-1).numpy(), 1)
        below = np.array(dynamics.outcome_below, np.float32)
        smoothing = "label_smoothing" if "label_smoothing" in task.numbers else None
        return (
            _moves(task)[0], below, dynamics.terminal.numpy(), task.reference.numpy(), settings.negatives == "start",
            *fixed, task.horizon, _PAIR_LOSSES[task.method.loss], self._per_run(task, "beta"),
            self._per_run(task, smoothing),
        )  # fmt: skip

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
    theta, stopped = training.theta, training.stopped_at_step
    stopped[~np.isfinite(theta).all((1, 2))] = 0  # nothing to train from
    matched, goal = np.zeros(len(theta), bool), (aim if optimum is None else optimum).numpy()
    rest = (training.first, training.second, stopped, matched, updates, lr, aim.numpy(), goal, theta.dtype.type(gap))
    each_piece(lambda begin, end: kernels.fit_tables(begin, end, theta, *rest), len(theta))
    training.updates = updates
    training.finish()
    return training.policy, torch.as_tensor(stopped), torch.as_tensor(matched)


def pack(policy: Policy) -> np.ndarray:
    """The parameters as the kernels hold them, `[runs, cells + 6, width]`."""
    last = pad(policy.second_bias, (0, policy.first_weight.shape[-1] - 4))
    rows = [policy.first_weight, policy.first_bias, policy.second_weight.mT, last]
    return np.ascontiguousarray(torch.cat([part.detach() for part in rows], 1).numpy())


def unpack(theta: np.ndarray) -> Policy:
    """The parameters in tensors of their own."""
    rows = torch.from_numpy(theta.copy())
    parts = (rows[:, :-6], rows[:, -6:-5], rows[:, -5:-1].mT, rows[:, -1:, :4])
    return Policy(*(part.contiguous() for part in parts))


def _targets(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The targets one behind the other: where each begins (and the last ends), cells, actions."""
    targets = task.targets
    begins = np.concatenate([[0], targets.mask.sum(-1).numpy().cumsum()])
    return begins, targets.cells[targets.mask].numpy(), targets.actions[targets.mask].numpy()


def _moves(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Where each move leads, `[cells, 4, K]`, and the chances of its K outcomes where the episode goes on."""
    below = task.dynamics.outcome_below
    return task.dynamics.next_cell.numpy().reshape(-1, 4, len(below) + 1), np.diff([0.0, *below, 1.0])
