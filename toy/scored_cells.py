"""Which states a method's loss looks at, and which moves it makes likelier or less likely there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from toy.lake import Lake
from toy.objectives import Negatives, Rollouts, Task, draw, mixed_states
from toy.policy import Policy
from toy.settings import Settings
from toy.stages import Problem, make_task, start_policies
from toy.trajectories import Trajectories
from toy.trials import named_trials


@dataclass(frozen=True, eq=False)
class Scored:
    """Shares of the steps that a method's loss scores at an update, all seeds together.

    Attributes:
        states: share of each cell, `[cells]`, sums to 1. A mixed state counts for the cells that it is mixed of.
        raised: the part whose move the update makes likelier, by cell and move, `[cells, 4]`.
        lowered: the part whose move it makes less likely; with `raised` it sums to `states`.
        cells: how many distinct cells each run scores, `[runs]`; of pairs the target's count also where none differs.
    """

    states: np.ndarray
    raised: np.ndarray
    lowered: np.ndarray
    cells: np.ndarray


def scored_states(lake: Lake, method: str, settings: Settings | None = None) -> Scored:
    """What a method scores on a lake, before its first update.

    Targets are raised; negatives of pairs are lowered; of PPO's own episodes, the steps whose advantage is above 0 are
    raised and the others lowered; of methods that learn from the optimum, its moves are raised. Pairs that are no
    pairs, as the negative equals the target, have no terms; in ORPO and KTO their target has. Cells beside the target
    at which `still` holds the policy are left out: the update neither raises nor lowers one of their moves.
    """
    (trial,) = named_trials(method, settings or Settings()).values()
    problem = Problem.of(lake, trial.settings.shared())
    seeds = range(problem.settings.seed, problem.settings.seed + problem.settings.seeds)
    start, _ = start_policies(problem, seeds)
    task = make_task(problem, trial.value, trial.settings.numbers_of(trial.value), start, seeds)
    return scored_by(start, task, problem)


def scored_by(policy: Policy, task: Task, problem: Problem) -> Scored:
    """What the task's method scores at an update of these policies; negatives and episodes are drawn for it."""
    drawn = draw(policy, task)
    runs, targets = len(policy.first_weight), task.targets
    states = one_hot(targets.cells, len(problem.live)).to(problem.optimum.dtype).expand(runs, -1, -1, -1)
    if task.method.mixes_states:
        states = mixed_states(policy, task)
    if task.method.learns_from == "optimum":
        every_run = targets.map(lambda part: part.expand(runs, *part.shape))
        where = drawn.trajectories if isinstance(drawn, Rollouts) else every_run
        reached = _reached(where, where.mask, problem)
        raised = _counts(where, where.mask, problem).sum(-1, keepdim=True) * problem.optimum
        lowered = torch.zeros_like(raised)
    elif isinstance(drawn, Rollouts):
        signs = (drawn.advantages > 0, drawn.advantages < 0)
        reached = _reached(drawn.trajectories, drawn.trajectories.mask & (drawn.advantages != 0), problem)
        raised, lowered = (_counts(drawn.trajectories, drawn.trajectories.mask & part, problem) for part in signs)
    else:
        # Each pair is a term of its own: a target counts as often as it has a negative.
        weight = torch.ones(states.shape[:2], dtype=states.dtype, device=states.device)
        lowered = torch.zeros_like(problem.optimum)
        reached = (states * targets.mask.unsqueeze(-1)).sum((1, 2)) > 0
        if isinstance(drawn, Negatives):
            pairs = drawn.differs.view(runs, states.shape[1], -1)
            counts_alone = task.method.unpaired or task.method.alone is not None
            weight = (torch.ones_like(pairs) if counts_alone else pairs).sum(-1).to(states.dtype)
            in_pairs = drawn.trajectories.mask & drawn.differs.unsqueeze(-1)
            lowered = _counts(drawn.trajectories, in_pairs, problem)
            reached |= _reached(drawn.trajectories, in_pairs, problem)
        moves = one_hot(targets.actions, 4).to(states.dtype)
        raised = torch.einsum("rn,nt,rntc,nta->ca", weight, targets.mask.to(states.dtype), states, moves)
    total = (raised.sum() + lowered.sum()).clamp(min=1e-12)  # PPO without any success scores nothing
    up_share, down_share = ((part / total).cpu().numpy() for part in (raised, lowered))
    return Scored((up_share + down_share).sum(1), up_share, down_share, reached.sum(1).cpu().numpy())


def _reached(trajectories: Trajectories, mask: Tensor, problem: Problem) -> Tensor:
    """Which cells each run's trajectories are in where the mask is set, `[runs, cells]` bool."""
    reached = torch.zeros(len(mask), len(problem.live), device=mask.device)
    return reached.scatter_add_(1, trajectories.cells.flatten(1), mask.flatten(1).to(reached)) > 0


def _counts(trajectories: Trajectories, mask: Tensor, problem: Problem) -> Tensor:
    """How often each move is made in each cell where the mask is set, `[cells, 4]`."""
    index = (trajectories.cells * 4 + trajectories.actions)[mask]
    return torch.bincount(index, minlength=problem.optimum.numel()).view(problem.optimum.shape).to(problem.optimum)
