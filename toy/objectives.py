"""The methods on a lake: the whole of a method is one function from policies to one loss per run, through `ift`.

Each takes the current policies, the `Task` and what was drawn for this update, and returns `[runs]`. Targets are walks
`[targets, steps]` that all runs share; drawn walks are `[runs, walks, steps]`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

import ift
from toy.policy import Policy, cell_log_probs, state_log_probs
from toy.rollout import Dynamics, Episodes, simulate
from toy.settings import Settings
from toy.trajectories import Trajectories

PER_RUN = ("lam", "gamma", "beta", "label_smoothing", "margin", "clip")  # numbers that may differ between runs


@dataclass(frozen=True, eq=False)
class Task:
    """What a method may learn from: the target walks, and the lake to sample others from."""

    settings: Settings
    dynamics: Dynamics
    targets: Trajectories  # tensors [targets, steps]
    suboptimal: Trajectories | None  # tensors, one walk per target
    start_log_probs: Tensor  # of the start policy, the reference, [runs, cells, 4]
    generators: list[np.random.Generator]  # one per run
    horizon: int
    mixed: Mapping[str, Tensor] = field(default_factory=dict)  # those of `PER_RUN` that differ between runs, [runs]

    def hyper(self, name: str, dims: int) -> float | Tensor:
        """The settings' number, or where runs differ one per run, shaped to broadcast against `[runs, ...]`."""
        if name in self.mixed:
            return self.mixed[name].view(-1, *[1] * (dims - 1))
        return getattr(self.settings, name)

    def beta(self, method: str) -> float | Tensor:
        """β of a method, to broadcast against `[runs, pairs]`."""
        return self.hyper("beta", 2) if "beta" in self.mixed else self.settings.beta_of(method)


@dataclass(frozen=True, eq=False)
class Negatives:
    """Rejected walks `[runs, pairs, steps]`; pair p belongs to target `p // (pairs / targets)`."""

    walks: Trajectories
    differs: Tensor  # from its target, [runs, pairs]: a negative equal to the target is no negative


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Episodes of the policy that PPO improves on, with that policy's log-probabilities and advantages."""

    walks: Episodes
    log_probs: Tensor  # [runs, episodes, steps]
    advantages: Tensor


def sft(policy: Policy, task: Task, drawn: None) -> Tensor:
    """Mean negative log-probability of the target walk's moves."""
    log_probs = target_log_probs(policy, task)
    return ift.sft_loss(log_probs, task.targets.mask.expand_as(log_probs)).mean(-1)


def dft(policy: Policy, task: Task, drawn: None) -> Tensor:
    """SFT with each move weighted by its own probability, without gradient."""
    log_probs = target_log_probs(policy, task)
    return ift.dft_loss(log_probs, task.targets.mask.expand_as(log_probs)).mean(-1)


def intuitive(policy: Policy, task: Task, drawn: None) -> Tensor:
    """IFT: mix the cell that the policy's own last action would have reached into each target cell, then propagate."""
    settings, targets = task.settings, task.targets
    mixed = mixed_states(policy, task)
    mask = targets.mask.expand(mixed.shape[:-1])
    actions = targets.actions.expand(mask.shape).unsqueeze(-1)
    log_probs = state_log_probs(policy, mixed).gather(-1, actions).squeeze(-1)
    return ift.ift_loss(
        log_probs,
        mask,
        task.hyper("gamma", 3),
        form=settings.propagation,
        source=settings.source,
        norm=settings.norm,
        side=settings.side,
    ).mean(-1)


def dpo(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """Target walk over each negative, relative to the start policy; mean over negatives."""
    beta, smoothing = task.beta("dpo"), task.hyper("label_smoothing", 2)
    losses = ift.dpo_loss(*_pair_sums(policy, task, drawn), beta, smoothing)
    return ift.masked_mean(losses, drawn.differs)


def ipo(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """As DPO, with a margin to reach in place of one to widen."""
    losses = ift.ipo_loss(*_pair_sums(policy, task, drawn), task.beta("ipo"))
    return ift.masked_mean(losses, drawn.differs)


def orpo(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """SFT plus the odds ratio of target and negative; without a negative, SFT remains."""
    chosen, rejected = _pair_means(policy, task, drawn)
    losses = ift.orpo_loss(chosen, rejected, task.beta("orpo"))
    return torch.where(drawn.differs, losses, -chosen).mean(-1)


def simpo(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """Target walk over each negative by mean log-probability, with a margin and no reference."""
    chosen, rejected = _pair_means(policy, task, drawn)
    losses = ift.simpo_loss(chosen, rejected, task.beta("simpo"), task.hyper("margin", 2))
    return ift.masked_mean(losses, drawn.differs)


def kto(policy: Policy, task: Task, drawn: Negatives) -> Tensor:
    """Targets are desirable, drawn walks undesirable; both sides weigh the same. KL: mean log-ratio of drawn walks."""
    chosen, rejected, ref_chosen, ref_rejected = _pair_sums(policy, task, drawn)
    beta, kl = task.beta("kto"), (rejected - ref_rejected).mean(-1, keepdim=True)
    desirable = ift.kto_loss(chosen, ref_chosen, torch.ones_like(drawn.differs), kl, beta)
    undesirable = ift.kto_loss(rejected, ref_rejected, torch.zeros_like(drawn.differs), kl, beta)
    return desirable.mean(-1) + ift.masked_mean(undesirable, drawn.differs)


def ppo(policy: Policy, task: Task, drawn: Rollouts) -> Tensor:
    """Clipped surrogate over the policy's own episodes: the only method that sees rewards and no target. No critic."""
    log_probs = walk_log_probs(cell_log_probs(policy), drawn.walks)
    clip = task.hyper("clip", 3)
    return ift.ppo_loss(log_probs, drawn.log_probs, drawn.advantages, drawn.walks.mask, clip).mean(-1)


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "sft": sft,
    "ift": intuitive,
    "dft": dft,
    "dpo": dpo,
    "ipo": ipo,
    "orpo": orpo,
    "kto": kto,
    "simpo": simpo,
    "ppo": ppo,
}


def draw(method: str, policy: Policy, task: Task) -> Negatives | Rollouts | None:
    """What a method has to sample before an update: nothing, negatives or roll-outs."""
    learns_from = ift.METHODS[method].learns_from
    with torch.no_grad():
        if learns_from == "pairs":
            return draw_negatives(policy, task)
        return draw_rollouts(policy, task) if learns_from == "rollouts" else None


def draw_negatives(policy: Policy, task: Task) -> Negatives:
    """Rejected walks for every target, `settings.negatives` says from where."""
    settings, targets = task.settings, task.targets
    runs = len(policy.first_weight)
    if settings.negatives == "suboptimal":
        assert task.suboptimal is not None
        fixed = task.suboptimal
        walks = fixed.map(lambda part: part.expand(runs, *part.shape))
        repeats = 1
    else:
        log_probs = cell_log_probs(policy) if settings.negatives == "current" else task.start_log_probs
        repeats = settings.negatives_per_step
        starts = targets.cells[:, 0].repeat_interleave(repeats).expand(runs, -1)
        walks = simulate(task.dynamics, log_probs.exp(), starts, task.horizon, task.generators)
    return Negatives(walks, differs_from(walks, targets.map(lambda part: part.repeat_interleave(repeats, 0))))


def draw_rollouts(policy: Policy, task: Task) -> Rollouts:
    """Episodes of the current policy; advantage = discounted return to go, standardised over the run's batch."""
    settings = task.settings
    log_probs = cell_log_probs(policy)
    starts = task.targets.cells[:, 0]
    starts = starts[torch.arange(settings.rollouts, device=starts.device) % len(starts)]
    walks = simulate(task.dynamics, log_probs.exp(), starts.expand(len(log_probs), -1), task.horizon, task.generators)
    returns = ift.discounted_suffix_sum(walks.rewards, settings.discount)
    count = walks.mask.sum((1, 2), keepdim=True)
    mean = (returns * walks.mask).sum((1, 2), keepdim=True) / count
    centred = (returns - mean) * walks.mask
    std = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return Rollouts(walks, walk_log_probs(log_probs, walks), centred / (std + 1e-8))


def mixed_states(policy: Policy, task: Task) -> Tensor:
    """δ_θ(s_i*) = (1 − λ) onehot(s_i*) + λ E[onehot(s')] of each target step, `[runs, targets, steps, cells]`."""
    with torch.no_grad():
        predicted = predicted_states(policy, task)
    states = one_hot(task.targets.cells, predicted.shape[-1]).to(predicted.dtype).expand_as(predicted)
    mask = task.targets.mask.expand(predicted.shape[:-1])
    if task.settings.residual == "noise":
        predicted = states + _noise_like(predicted - states, task.generators)
    has_predecessor = torch.arange(mask.shape[-1], device=mask.device) > 0
    return ift.temporal_residual(states, predicted, task.hyper("lam", 3), mask & has_predecessor)


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


def _noise_like(residual: Tensor, generators: list[np.random.Generator]) -> Tensor:
    """A random direction in the space of states, as long as each residual `[runs, ..., cells]`."""
    draws = np.stack([generator.standard_normal(residual.shape[1:]) for generator in generators])
    direction = torch.as_tensor(draws).to(residual)
    return direction * (residual.norm(dim=-1, keepdim=True) / direction.norm(dim=-1, keepdim=True))


def target_log_probs(policy: Policy, task: Task) -> Tensor:
    """log π(a* | s*) of each target step, `[runs, targets, steps]`; only the cells of the targets are computed."""
    targets = task.targets
    log_probs = cell_log_probs(policy, targets.cells.flatten())
    actions = targets.actions.flatten().expand(len(log_probs), -1).unsqueeze(-1)
    return log_probs.gather(-1, actions).view(-1, *targets.cells.shape)


def walk_log_probs(log_probs: Tensor, walks: Trajectories) -> Tensor:
    """log π(a | s) of each step `[runs, walks, steps]`, from a table `[runs, cells, 4]`; walks may lack the runs."""
    index = walks.cells * 4 + walks.actions
    table = log_probs.flatten(1)
    if index.ndim == 2:
        return table.index_select(1, index.flatten()).view(-1, *index.shape)
    return table.gather(1, index.flatten(1)).view(index.shape)


def differs_from(walks: Trajectories, targets: Trajectories) -> Tensor:
    """Whether each walk `[runs, pairs, steps]` is another one than its target `[pairs, steps]`, `[runs, pairs]`."""
    steps = max(walks.cells.shape[-1], targets.cells.shape[-1])
    same = torch.ones((), dtype=torch.bool, device=walks.cells.device)
    for part in ("mask", "cells", "actions"):
        walk, target = getattr(walks, part), getattr(targets, part)
        same = same & (pad(walk, (0, steps - walk.shape[-1])) == pad(target, (0, steps - target.shape[-1])))
    return ~same.all(-1)


def _pair_sums(policy: Policy, task: Task, drawn: Negatives) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Summed log-probabilities `[runs, pairs]`: chosen, rejected, and both under the start policy."""
    sums = []
    for log_probs in (cell_log_probs(policy), task.start_log_probs):
        chosen = (walk_log_probs(log_probs, task.targets) * task.targets.mask).sum(-1)
        rejected = (walk_log_probs(log_probs, drawn.walks) * drawn.walks.mask).sum(-1)
        sums += [_per_pair(chosen, rejected), rejected]
    return sums[0], sums[1], sums[2], sums[3]


def _pair_means(policy: Policy, task: Task, drawn: Negatives) -> tuple[Tensor, Tensor]:
    """Mean token log-probabilities `[runs, pairs]`: chosen, rejected."""
    log_probs = cell_log_probs(policy)
    chosen = walk_log_probs(log_probs, task.targets)
    rejected = ift.masked_mean(walk_log_probs(log_probs, drawn.walks), drawn.walks.mask)
    return _per_pair(ift.masked_mean(chosen, task.targets.mask.expand_as(chosen)), rejected), rejected


def _per_pair(per_target: Tensor, per_pair: Tensor) -> Tensor:
    return per_target.repeat_interleave(per_pair.shape[1] // per_target.shape[1], dim=1)
