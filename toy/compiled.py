"""Which trainings the kernels do whole, and how: each run alone, in a core's first caches, many updates at a time.

Cores share nothing but a list of runs: a core that is busy elsewhere slows its own runs only. What the kernels do not
know is trained step by step (`toy.stages.fine_tune_by_autograd`), which is also their definition.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ift
from toy.kernels import pairs, steps, targets
from toy.objectives import Task
from toy.policy import Packed, Policy, kernels_know, pack
from toy.threads import each_piece
from toy.training import OPTIMIZERS

_KNOWN = {method.loss: method for method in (ift.METHODS[name] for name in ("sft", "ift", "dpo", "orpo"))}
_MOST_UPDATES, _MOST_NUMBERS = 2**16, 2**29  # that the kernels make, and update, before Python has its turn
_PREDICTIONS = {"greedy": targets.GREEDY, "sampled": targets.SAMPLED, "expected": targets.EXPECTED}
_PAIR_LOSSES = {ift.dpo_loss: pairs.DPO, ift.orpo_loss: pairs.ORPO}


def trains(policy: Policy, task: Task) -> bool:
    """Whether the kernels train this method with these settings."""
    settings, method = task.settings, task.method
    known = _KNOWN.get(method.loss)
    if known is None or "refresh" in task.numbers or not kernels_know(policy):
        return False
    told = {name: getattr(method, name) for name in ("name", "title", "help", "numbers", "colour")}
    if replace(known, **told) != method:  # somebody else's method may use the same loss in another way
        return False
    written_out = settings.form == "sum" or (settings.norm == "L1" and settings.side == "left")
    return (written_out or not method.propagates) and (settings.residual == "prediction" or not method.mixes_states)


class Training:
    """Runs in the middle of their training, with parameters and moments as the kernels hold them.

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
        return Packed.of(self.theta.copy())

    def advance(self, task: Task, updates: int, lr: float) -> None:
        """So many updates of every run that was not stopped."""
        for part in _in_parts(updates, self.theta):
            self._advance(task, part, lr)
            self.updates += part

    def _advance(self, task: Task, updates: int, lr: float) -> None:
        runs = (self.theta, self.first, self.second, self.stopped_at_step)
        rule = (self.updates, updates, OPTIMIZERS[task.settings.optimizer][0], lr, task.streams)
        if task.method.learns_from == "pairs":
            arguments = (*runs, self.sampled_steps, *rule, *_target_steps(task), *self._pair_arguments(task))
            each_piece(lambda begin, end: pairs.fit_pairs(begin, end, *arguments), len(self.theta))
        else:
            arguments = (*runs, *rule, *_target_steps(task), *self._target_arguments(task))
            each_piece(lambda begin, end: targets.fit_targets(begin, end, *arguments), len(self.theta))

    def finish(self) -> None:
        """Stop the runs whose parameters are no longer numbers."""
        broken = ~np.isfinite(self.theta).all((1, 2))
        self.stopped_at_step[broken & (self.stopped_at_step < 0)] = self.updates
        self.theta[broken] = np.nan

    def _target_arguments(self, task: Task) -> tuple[Any, ...]:
        """What `fit_targets` takes behind the targets' steps."""
        settings, form = task.settings, targets.PLAIN
        if task.method.propagates:
            product = targets.PRODUCT_OF_MASK if settings.source == "mask" else targets.PRODUCT
            form = targets.SUM if settings.form == "sum" else product
        next_cell, chances = _moves(task)
        probability = np.broadcast_to(chances.astype(self.theta.dtype), next_cell.shape).copy()
        numbers = (self._per_run(task, "lam"), self._per_run(task, "gamma"))
        return next_cell, probability, *numbers, form, _PREDICTIONS[settings.prediction]

    def _pair_arguments(self, task: Task) -> tuple[Any, ...]:
        """What `fit_pairs` takes behind the targets' steps."""
        settings, dynamics = task.settings, task.dynamics
        fixed = (np.empty((0, 0), np.int32), np.empty(0, np.int64), settings.negatives_per_step)
        if settings.negatives == "suboptimal":
            assert task.suboptimal is not None
            moves = task.suboptimal.cells * 4 + task.suboptimal.actions
            fixed = (moves.numpy().astype(np.int32), task.suboptimal.mask.sum(-1).numpy(), 1)
        return (
            _moves(task)[0],
            np.array(dynamics.outcome_below, np.float32),
            dynamics.terminal.numpy(),
            np.ascontiguousarray(task.reference.numpy()),
            settings.negatives == "start",
            *fixed,
            task.horizon,
            _PAIR_LOSSES[task.method.loss],
            self._per_run(task, "beta"),
            self._per_run(task, "label_smoothing"),
        )

    def _per_run(self, task: Task, name: str) -> np.ndarray:
        """A number of the method for each run, in the networks' precision; 0 where the method has none of that name."""
        values = np.zeros(len(self.theta), self.theta.dtype)
        values[:] = np.asarray(task.numbers.get(name, 0.0))
        return values


def fit_tables(
    start: Policy, aim: Tensor, updates: int, lr: float, optimum: Tensor | None = None, gap: float = -1.0
) -> tuple[Policy, Tensor, Tensor]:
    """Policies trained toward `aim [cells, 4]` by Adam: see `toy.kernels.steps.fit_tables`.

    Returns:
        The policies; per run the update at which it was stopped, or −1; and whether it came within `gap` of `optimum`.
    """
    training = Training(start)
    theta, stopped = training.theta, training.stopped_at_step
    stopped[~np.isfinite(theta).all((1, 2))] = 0  # nothing to train from
    matched, goal = np.zeros(len(theta), bool), (aim if optimum is None else optimum).numpy()
    runs = (theta, training.first, training.second, stopped, matched)

    def advance(updates: int) -> None:
        rest = (training.updates, updates, lr, aim.numpy(), goal, theta.dtype.type(gap))
        each_piece(lambda begin, end: steps.fit_tables(begin, end, *runs, *rest), len(theta))
        training.updates += updates

    for part in _in_parts(updates, theta):
        advance(part)
        if ((stopped >= 0) | matched).all():
            break
    training.updates = updates
    training.finish()
    return training.policy, torch.as_tensor(stopped), torch.as_tensor(matched)


def _in_parts(updates: int, theta: np.ndarray) -> Iterator[int]:
    """The updates in parts that take about a second: an interrupt is heard between two of them."""
    most = max(1, min(_MOST_UPDATES, _MOST_NUMBERS // theta.size))
    for begin in range(0, updates, most):
        yield min(most, updates - begin)


def _target_steps(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The targets one behind the other: where each begins (and the last ends), cells, actions."""
    mask = task.targets.mask
    begins = np.concatenate([[0], mask.sum(-1).numpy().cumsum()])
    return begins, task.targets.cells[mask].numpy(), task.targets.actions[mask].numpy()


def _moves(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Where each move leads, `[cells, 4, K]`, and the chances of its K outcomes where the episode goes on."""
    below = task.dynamics.outcome_below
    return task.dynamics.next_cell.numpy().reshape(-1, 4, len(below) + 1), np.diff([0.0, *below, 1.0])
