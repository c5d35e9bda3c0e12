"""Methods that learn from the optimal policy itself: what could be had if it were known. On a lake it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.masks import masked_mean
from ift.method import Method

if TYPE_CHECKING:
    from torch import Tensor


def expert_loss(policy: Tensor, optimum: Tensor, mask: Tensor) -> Tensor:
    """−Σ_a π*(a | s) log π(a | s), mean over the states of each sequence, `[..., tokens, actions]` to `[...]`."""
    return masked_mean(-(optimum * policy.masked_fill(optimum == 0, 0)).sum(-1), mask)


EXPERT = Method(
    "expert",
    "Cross-entropy to the optimal policy in the target's states",
    "a ceiling: all that the optimal policy would do in the target's states, where a target shows one move",
    "optimum",
    expert_loss,
    colour="#2f6f6f",
)

DAGGER = Method(
    "dagger",
    "Cross-entropy to the optimal policy in the policy's own states (DAgger, arXiv 1011.0686)",
    "a ceiling: what the optimal policy would do wherever the policy itself goes",
    "optimum",
    expert_loss,
    colour="#708090",
    states="own",
)

METHODS = (EXPERT, DAGGER)
