"""Standing still beside the target: a method that learns from targets alone, found with this toolkit.

`docs/a-better-one.md` has its derivation, what was tried, and what it reached on lakes that nobody had looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ift.masks import masked_mean
from ift.method import Method, Number

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch

_HALVINGS = 12  # of the interval of sharpness: to a 4,000th of it
_SMALLEST = 1e-6  # nats: ties of 0 are none


def still_loss(
    log_probs: Tensor,
    mask: Tensor,
    policy: Tensor,
    reference: Tensor,
    reference_policy: Tensor,
    beside: Tensor,
    reference_beside: Tensor,
    visits: Tensor,
    hold: float | Tensor,
    ties: float | Tensor,
    sharpest: float | Tensor,
) -> Tensor:
    """Σ_i [−Σ_a q_i(a) log π_θ(a | s_i*) + k Σ_s v(s) KL(π₀ᵗ(· | s) ‖ π_θ(· | s))], one value per sequence `[...]`.

    The sum is over the target's tokens. Beside the target, in states s that the start policy's own moves lead to, with
    shares v(s) (`visits`), the policy is held at π₀ᵗ ∝ π₀^t, the start policy as sharp as the target proves it to be
    (`start_sharpness`). On the target, q_i = (1 − c) onehot(a_i*) + c κ_i shares a token among the actions that the
    start policy cannot tell apart from it, κ_i(a) ∝ exp(−|log π₀(a | s_i*) − log π₀(a_i* | s_i*)| / ties), as far as
    the start policy explains the target at all: c = max(0, 1 + mean_i log π₀ᵗ(a_i*) / log A) of A actions, 0 for a
    start that knows no more than chance. No gradient flows through q, v and t. With hold = 0 and ties = 0 it is the
    sum of SFT's terms.

    Args:
        log_probs, mask: log π_θ(a_i* | s_i*) of the target's tokens, and which of them count, `[..., tokens]`.
        policy, reference_policy: log π_θ and log π₀ of all actions in the target's states, `[..., tokens, actions]`.
        reference: log π₀(a_i* | s_i*), `[..., tokens]`.
        beside, reference_beside: log π_θ and log π₀ in the states beside the target, `[..., states, actions]`.
        visits: v, which sums to 1 over those states, or to 0 where there are none, `[..., states]`.
        hold: k, at least 0.
        ties: in nats, at least 0.
        sharpest: the largest t, at least 0.
    """
    with torch.no_grad():
        sharpness = start_sharpness(reference, reference_policy, mask, sharpest)[..., None, None]
        # log π₀ᵗ(a*) = t log π₀(a*) − log Σ_a π₀(a)^t
        explained = reference * sharpness[..., 0] - (reference_policy * sharpness).logsumexp(-1)
        trust = (1 + masked_mean(explained, mask) / math.log(policy.shape[-1])).clamp(0, 1)[..., None]
        apart = (reference_policy - reference.unsqueeze(-1)).abs()
        tied = torch.softmax(-apart / _per_row(ties, apart).clamp(min=_SMALLEST), -1)
        still = torch.log_softmax(reference_beside * sharpness, -1)
    imitation = -(1 - trust) * log_probs - trust * (tied * policy).sum(-1)
    drift = ((still.exp() * (still - beside)).sum(-1) * visits).sum(-1)
    weight = hold.squeeze(-1) if isinstance(hold, torch.Tensor) and hold.ndim else hold
    return mask.sum(-1) * (masked_mean(imitation, mask) + weight * drift)


def start_sharpness(reference: Tensor, reference_policy: Tensor, mask: Tensor, sharpest: float | Tensor) -> Tensor:
    """t in [0, sharpest] at which π₀ᵗ ∝ π₀^t makes each sequence's target likeliest, `[...]`.

    Σ_i log π₀ᵗ(a_i*) is concave in t: its slope Σ_i (log π₀(a_i*) − E_{π₀ᵗ}[log π₀]) is halved in on. t > 1 where the
    start prefers the target's actions more often than it is sure of them, t < 1 where it prefers others.

    Args:
        reference: log π₀(a_i* | s_i*), `[..., tokens]`.
        reference_policy: log π₀(· | s_i*), `[..., tokens, actions]`.
        mask: which tokens count, `[..., tokens]`.
        sharpest: the largest t, a number or a tensor `[..., 1]`.
    """
    most = sharpest.squeeze(-1) if isinstance(sharpest, torch.Tensor) and sharpest.ndim else sharpest
    low = torch.zeros_like(reference[..., 0])
    high = low + most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = (torch.softmax(reference_policy * middle[..., None, None], -1) * reference_policy).sum(-1)
        rises = masked_mean(reference - expected, mask) > 0
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    return (low + high) / 2


def _per_row(number: float | Tensor, like: Tensor) -> Tensor:
    """A number, or a tensor that broadcasts against `[..., tokens]`, for values `[..., tokens, actions]`."""
    number = torch.as_tensor(number, dtype=like.dtype, device=like.device)
    return number.unsqueeze(-1) if number.ndim else number


STILL = Method(
    "still",
    "Standing still beside the target (this project)",
    "SFT's loss with ties left open, and the start policy held beside the target, as sure as the target proves it",
    "targets",
    still_loss,
    (
        Number("hold", "k, the weight of holding still beside the target", lake=1.0, text=1.0),
        Number("ties", "nats within which the start policy holds two actions for equal", lake=0.125, text=0.125),
        Number("sharpest", "the largest power that the start policy is raised to", lake=8.0, text=8.0),
    ),
    colour="#c51b7d",
    reads=("policy", "reference", "reference_policy", "beside"),
)

METHODS = (STILL,)
