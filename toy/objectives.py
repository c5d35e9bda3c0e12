"""What a method's loss is fed with on a lake, by what it learns from: targets, pairs, its own episodes, the optimum.

An objective takes the current policies, the `Task` and what was drawn for this update, and returns `[runs]`. Targets
are trajectories `[targets, steps]` that all runs share; drawn ones are `[runs, trajectories, steps]`. The losses are
the core's, `ift.METHODS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

import ift
from common.others_code import in_training
from toy.beside import Beside, states_beside
from toy.policy import Policy, cell_log_probs, state_log_probs
from toy.rollout import Dynamics, Episodes, simulate
from toy.settings import SharedSettings
from toy.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may learn from: the target trajectories, and the lake to sample others from."""

    method: ift.Method
    numbers: Mapping[str, float | Tensor]  # of the method: one for all runs, or `[runs]` where they differ
    settings: SharedSettings
    dynamics: Dynamics
    targets: Trajectories  # tensors [targets, steps]
    suboptimal: Trajectories | None  # tensors, one trajectory per target
    reference: Tensor  # log-probabilities of the start policy, or of a later one (`refreshed`), [runs, cells, 4]
    optimum: Tensor  # π*, [cells, 4]
    generators: list[np.random.Generator]  # one per run, for noise in states and in predictions
    streams: np.ndarray  # the same numbers for episodes, `toy.kernels.streams`: a method draws from one of the two
    horizon: int

    @cached_property
    def loss(self) -> Callable[..., Tensor]:
        """The method's loss."""
        return in_training(self.method.loss, self.method.name, ift.METHODS.origins)

    @cached_property
    def alone(self) -> Callable[[Tensor], Tensor] | None:
        """The method's loss of a target alone, if it has one."""
        alone = self.method.alone
        return alone and in_training(alone, self.method.name, ift.METHODS.origins)

    @cached_property
    def beside(self) -> Beside:
        """The cells beside the targets, with the reference's visits."""
        return states_beside(self.reference, self.targets, self.dynamics)

    def number(self, name: str, dims: int) -> float | Tensor:
        """A number of the method; where runs differ one per run, shaped to broadcast against `[runs, ...]`."""
        value = self.numbers[name]
        return value.view(-1, *[1] * (dims - 1)) if isinstance(value, Tensor) else value

    def loss_options(self, dims: int) -> dict[str, Any]:
        """What the method's loss takes beside log-probabilities `[runs, ...]` of so many dimensions."""
        options: dict[str, Any] = {name: self.number(name, dims) for name in self.method.loss_numbers}
        if self.method.propagates:
            options |= {name: getattr(self.settings, name) for name in ("form", "source", "norm", "side")}
        return options


@dataclass(frozen=True, eq=False)
class Negatives:
    """Rejected trajectories `[runs, pairs, steps]`; pair p belongs to target `p // (pairs / targets)`."""

    trajectories: Trajectories
    differs: Tensor  # from its target, [runs, pairs]: a negative equal to the target is no negative


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Episodes of the policy that PPO improves on, with that policy's log-probabilities and advantages."""

    trajectories: Episodes
    log_probs: Tensor  # [runs, episodes, steps]
    advantages: Tensor


def objective(policy: Policy, task: Task, drawn: "Drawn") -> Tensor:
    """The method's loss of each run, `[runs]`."""
    return _OBJECTIVES[task.method.learns_from](policy, task, drawn)


def _of_targets(policy: Policy, task: Task, drawn: None) -> Tensor:
    """The loss of the target trajectories, in their own states or in those that the method makes of them."""
    method, cells = task.method, task.targets.cells
    if method.states == "target":
        all_log_probs = cell_log_probs(policy, cells.flatten()).view(-1, *cells.shape, 4)
    else:
        all_log_probs = state_log_probs(policy, scored_vectors(policy, task))
    log_probs = _of_actions(all_log_probs, task.targets.actions)
    mask = task.targets.mask.expand_as(log_probs)
    reads: dict[str, Tensor] = {"policy": all_log_probs} if "policy" in method.reads else {}
    if method.needs_reference:
        of_reference = task.reference[:, cells]
        reads |= {"reference": _of_actions(of_reference, task.targets.actions), "reference_policy": of_reference}
    if "beside" in method.reads:
        cells_beside, targets = task.beside.cells, len(cells)
        reads |= {"beside": cell_log_probs(policy, cells_beside)[:, None].expand(-1, targets, -1, -1)}
        reads |= {"reference_beside": task.reference[:, None, cells_beside].expand(-1, targets, -1, -1)}
        reads |= {"visits": task.beside.visits}
    given = {name: reads[name] for name in method.read_arguments}
    losses = task.loss(log_probs, mask, **given, **task.loss_options(3))
    return (ift.masked_mean(losses, mask) if method.per_token else losses).mean(-1)


def _of_actions(log_probs: Tensor, actions: Tensor) -> Tensor:
    """Of log π(· | s) `[runs, ..., 4]` those of the actions `[...]`, `[runs, ...]`."""
    return log_probs.gather(-1, actions.expand(log_probs.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def _of_pairs(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """The loss of target and negative; a negative that equals its target is none, and leaves the target alone."""
    method, answers = task.method, _pair_sums if task.method.answer == "sum" else _pair_means
    tables = [cell_log_probs(policy), *([task.reference] if method.needs_reference else [])]
    log_probs = [part for table in tables for part in answers(table, task, drawn)]
    if method.unpaired:
        return _of_single_answers(log_probs, task, drawn)
    losses = task.loss(*log_probs, **task.loss_options(2))
    if task.alone is None:
        return ift.masked_mean(losses, drawn.differs)
    return torch.where(drawn.differs, losses, task.alone(log_probs[0])).mean(-1)


def _of_single_answers(log_probs: list[Tensor], task: Task, drawn: Negatives) -> Tensor:
    """Targets are desirable, negatives are not; both sides weigh the same. KL: mean log-ratio of the negatives."""
    chosen, rejected, ref_chosen, ref_rejected = log_probs
    options, kl = task.loss_options(2), (rejected - ref_rejected).mean(-1, keepdim=True)
    desirable = task.loss(chosen, ref_chosen, torch.ones_like(drawn.differs), kl, **options)
    undesirable = task.loss(rejected, ref_rejected, torch.zeros_like(drawn.differs), kl, **options)
    return desirable.mean(-1) + ift.masked_mean(undesirable, drawn.differs)


def _of_rollouts(policy: Policy, task: Task, drawn: Rollouts) -> Tensor:
    """The loss of the policy's own episodes, without a critic: the only objective that sees rewards and no target."""
    log_probs = trajectory_log_probs(cell_log_probs(policy), drawn.trajectories)
    mask, options = drawn.trajectories.mask, task.loss_options(3)
    return task.loss(log_probs, drawn.log_probs, drawn.advantages, mask, **options).mean(-1)


def _of_optimum(policy: Policy, task: Task, drawn: Rollouts | None) -> Tensor:
    """The loss against π* itself, in the target's cells or in those of the policy's own episodes: a ceiling."""
    where = task.targets if drawn is None else drawn.trajectories
    table = cell_log_probs(policy)
    cells = where.cells.expand(len(table), *where.cells.shape[-2:])
    log_probs = table.gather(1, cells.flatten(1).unsqueeze(-1).expand(-1, -1, 4)).view(*cells.shape, 4)
    mask = where.mask.expand(cells.shape)
    return task.loss(log_probs, task.optimum[cells], mask, **task.loss_options(3)).mean(-1)


_OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "targets": _of_targets,
    "pairs": _of_pairs,
    "rollouts": _of_rollouts,
    "optimum": _of_optimum,
}

Drawn = Negatives | Rollouts | None


@torch.no_grad()
def draw(policy: Policy, task: Task) -> Drawn:
    """What the method has to sample before an update: nothing, negatives or episodes."""
    if task.method.learns_from == "pairs":
        return draw_negatives(policy, task)
    return draw_rollouts(policy, task) if task.method.states == "own" else None


def refreshed(policy: Policy, task: Task, step: int) -> Task:
    """The task with the policy as it is for its reference, in runs whose number `refresh` divides the update."""
    if "refresh" not in task.numbers or step == 0:
        return task
    due = torch.as_tensor(step % task.number("refresh", 1) == 0, device=task.reference.device)
    if not due.any():
        return task
    with torch.no_grad():
        return replace(task, reference=torch.where(due.view(-1, 1, 1), cell_log_probs(policy), task.reference))


def draw_negatives(policy: Policy, task: Task) -> Negatives:
    """Rejected trajectories for every target, `settings.negatives` says from where.

    A method with a number `refresh` plays against its reference, which was the policy a while ago.
    """
    settings, targets = task.settings, task.targets
    runs = len(policy.first_weight)
    if settings.negatives == "suboptimal":
        assert task.suboptimal is not None
        fixed = task.suboptimal
        trajectories = fixed.map(lambda part: part.expand(runs, *part.shape))
        repeats = 1
    else:
        of_policy = settings.negatives == "current" and "refresh" not in task.numbers
        log_probs = cell_log_probs(policy) if of_policy else task.reference
        repeats = settings.negatives_per_step
        starts = targets.cells[:, 0].repeat_interleave(repeats).expand(runs, -1)
        trajectories = simulate(task.dynamics, log_probs.exp(), starts, task.horizon, task.streams)
    return Negatives(
        trajectories, differs_from(trajectories, targets.map(lambda part: part.repeat_interleave(repeats, 0)))
    )


def draw_rollouts(policy: Policy, task: Task) -> Rollouts:
    """Episodes of the current policy; advantage = discounted return to go, standardised over the run's batch."""
    settings = task.settings
    log_probs = cell_log_probs(policy)
    starts = task.targets.cells[:, 0]
    starts = starts[torch.arange(settings.rollouts, device=starts.device) % len(starts)]
    episodes = simulate(task.dynamics, log_probs.exp(), starts.expand(len(log_probs), -1), task.horizon, task.streams)
    returns = ift.discounted_suffix_sum(episodes.rewards, settings.discount)
    count = episodes.mask.sum((1, 2), keepdim=True)
    mean = (returns * episodes.mask).sum((1, 2), keepdim=True) / count
    centred = (returns - mean) * episodes.mask
    std = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return Rollouts(episodes, trajectory_log_probs(log_probs, episodes), centred / (std + 1e-8))


def scored_vectors(policy: Policy, task: Task) -> Tensor:
    """The states in which the targets' moves are trained, as vectors `[runs, targets, steps, cells]`."""
    if task.method.mixes_states:
        return mixed_states(policy, task)
    cells = len(task.optimum)
    states = one_hot(task.targets.cells, cells).to(task.optimum.dtype).expand(len(policy.first_weight), -1, -1, -1)
    if task.method.states == "target":
        return states
    # Uniform noise in [−1, 1] · α/√(N d), N tokens of d features (NEFTune).
    draws = np.stack([generator.uniform(-1, 1, states.shape[1:]) for generator in task.generators])
    length = (task.targets.mask.sum(-1) * cells).to(states.dtype).rsqrt()
    return states + torch.as_tensor(draws).to(states) * task.number("noise", 4) * length[:, None, None]


def mixed_states(policy: Policy, task: Task) -> Tensor:
    """δ_θ(s_i*) = (1 − λ) onehot(s_i*) + λ E[onehot(s')] of each target step, `[runs, targets, steps, cells]`.

    A method with `replaced` states takes the predicted state for the target's, or leaves it, by a draw with
    probability λ.
    """
    with torch.no_grad():
        predicted = predicted_states(policy, task)
    states = one_hot(task.targets.cells, predicted.shape[-1]).to(predicted.dtype).expand_as(predicted)
    mask = task.targets.mask.expand(predicted.shape[:-1])
    if task.settings.residual == "noise":
        predicted = states + _noise_like(predicted - states, task.generators)
    lam = task.number("lam", 3)
    if task.method.states == "replaced":
        draws = np.stack([generator.random(mask.shape[1:]) for generator in task.generators])
        lam = (torch.as_tensor(draws).to(states) < lam).to(states.dtype)
    has_predecessor = torch.arange(mask.shape[-1], device=mask.device) > 0
    return ift.temporal_residual(states, predicted, lam, mask & has_predecessor)


def predicted_states(policy: Policy, task: Task) -> Tensor:
    """E[onehot(s')], s' ~ P(· | s_{i−1}*, â): where the policy's own action leads, `[runs, targets, steps, cells]`.

    â is the greedy action, one sample, or the whole distribution (`settings.prediction`). Step 0 has no predecessor: 0.
    """
    cells = task.targets.cells
    probs = cell_log_probs(policy, cells.flatten()).exp().view(-1, *cells.shape, 4)
    if task.settings.prediction == "greedy":
        probs = one_hot(probs.argmax(-1), 4).to(probs.dtype)
    elif task.settings.prediction == "sampled":
        noise = np.stack([generator.random(cells.shape) for generator in task.generators])
        below = probs.cumsum(-1)[..., :3]
        action = (torch.as_tensor(noise).to(probs).unsqueeze(-1) >= below).sum(-1)
        probs = one_hot(action, 4).to(probs.dtype)
    reached = torch.einsum("rnta,ntac->rntc", probs, task.dynamics.transition[cells])
    return pad(reached[..., :-1, :], (0, 0, 1, 0))


def mixed_share(policy: Policy, task: Task) -> Tensor:
    """Share of the target steps after the first where the prediction leads elsewhere than the target, `[runs]`.

    A prediction that leads to several cells counts with the probability of the others. Where the share is 0, λ has
    nothing to mix: the predicted states are the target's.
    """
    if task.settings.prediction == "sampled":  # its expectation, without a draw
        task = replace(task, settings=replace(task.settings, prediction="expected"))
    predicted = predicted_states(policy, task)
    there = predicted.gather(-1, task.targets.cells.expand(predicted.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    later = task.targets.mask[:, 1:].to(there.dtype)
    return ((1 - there[..., 1:]) * later).sum((1, 2)) / later.sum().clamp(min=1)


def _noise_like(residual: Tensor, generators: list[np.random.Generator]) -> Tensor:
    """A random direction in the space of states, as long as each residual `[runs, ..., cells]`."""
    draws = np.stack([generator.standard_normal(residual.shape[1:]) for generator in generators])
    direction = torch.as_tensor(draws).to(residual)
    return direction * (residual.norm(dim=-1, keepdim=True) / direction.norm(dim=-1, keepdim=True))


def target_log_probs(policy: Policy, task: Task) -> Tensor:
    """log π(a* | s*) of each target step, `[runs, targets, steps]`; only the cells of the targets are computed."""
    targets = task.targets
    log_probs = cell_log_probs(policy, targets.cells.flatten()).view(-1, *targets.cells.shape, 4)
    return _of_actions(log_probs, targets.actions)


def trajectory_log_probs(log_probs: Tensor, trajectories: Trajectories) -> Tensor:
    """log π(a | s) of each step `[runs, trajectories, steps]`, from a table `[runs, cells, 4]`.

    Trajectories without a dimension of runs are the same for all of them.
    """
    index = trajectories.cells * 4 + trajectories.actions
    table = log_probs.flatten(1)
    if index.ndim == 2:
        return table.index_select(1, index.flatten()).view(-1, *index.shape)
    return table.gather(1, index.flatten(1)).view(index.shape)


def differs_from(trajectories: Trajectories, targets: Trajectories) -> Tensor:
    """Whether each trajectory `[runs, pairs, steps]` differs from its target `[pairs, steps]`, `[runs, pairs]`."""
    steps = max(trajectories.cells.shape[-1], targets.cells.shape[-1])
    same = torch.ones((), dtype=torch.bool, device=trajectories.cells.device)
    for part in ("mask", "cells", "actions"):
        trajectory, target = getattr(trajectories, part), getattr(targets, part)
        same = same & (pad(trajectory, (0, steps - trajectory.shape[-1])) == pad(target, (0, steps - target.shape[-1])))
    return ~same.all(-1)


def _pair_sums(table: Tensor, task: Task, drawn: Negatives) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities `[runs, pairs]` of target and negative, from a table `[runs, cells, 4]`."""
    chosen = (trajectory_log_probs(table, task.targets) * task.targets.mask).sum(-1)
    rejected = (trajectory_log_probs(table, drawn.trajectories) * drawn.trajectories.mask).sum(-1)
    return _per_pair(chosen, rejected), rejected


def _pair_means(table: Tensor, task: Task, drawn: Negatives) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities over steps `[runs, pairs]` of target and negative, from a table `[runs, cells, 4]`."""
    chosen = trajectory_log_probs(table, task.targets)
    rejected = ift.masked_mean(trajectory_log_probs(table, drawn.trajectories), drawn.trajectories.mask)
    return _per_pair(ift.masked_mean(chosen, task.targets.mask.expand_as(chosen)), rejected), rejected


def _per_pair(per_target: Tensor, per_pair: Tensor) -> Tensor:
    return per_target.repeat_interleave(per_pair.shape[1] // per_target.shape[1], dim=1)
