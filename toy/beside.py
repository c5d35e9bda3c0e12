"""The cells beside the targets: where the start policy's own moves lead from a target's cells, and how often."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toy.rollout import Dynamics
from toy.trajectories import Trajectories

STEPS = 6  # of the policy's own, counted from a cell of the target


@dataclass(frozen=True, eq=False)
class Beside:
    """Live cells that no target visits `[cells]`, and each target's share of visits to them `[runs, targets, cells]`.

    The shares of a target sum to 1, or to 0 where no such cell is reached.
    """

    cells: Tensor
    visits: Tensor


def states_beside(log_probs: Tensor, targets: Trajectories, dynamics: Dynamics) -> Beside:
    """Expected visits beside the targets within `STEPS` steps of a policy, log π `[runs, cells, 4]`, off each target.

    From every step of a target the policy takes a step of its own; what lands beside all targets counts, and goes on
    with the policy's steps until it comes back to a target, ends, or has taken `STEPS` of them.
    """
    count = len(dynamics.terminal)
    on_target = torch.zeros(count, dtype=torch.bool, device=targets.cells.device)
    on_target[targets.cells[targets.mask]] = True
    off = ~on_target & ~dynamics.terminal
    moves = torch.einsum("rca,cad->rcd", log_probs.exp(), dynamics.transition)
    share = torch.zeros(len(targets.cells), count, dtype=log_probs.dtype, device=off.device)
    share = share.scatter_add_(1, targets.cells, targets.mask.to(share.dtype)).expand(len(log_probs), -1, -1)
    visits = torch.zeros_like(share)
    for _ in range(STEPS):
        share = (share @ moves) * off
        visits = visits + share
    cells = off.nonzero().squeeze(1)
    visits = visits[..., cells]
    total = visits.sum(-1, keepdim=True)
    return Beside(cells, torch.where(total > 0, visits / total, torch.zeros_like(visits)))
