"""Standing still beside the target, a token at a time: the form of `ift.still` for large vocabularies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ift.still import start_sharpness

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch

_SMALLEST = 1e-6  # nats: ties of 0 are none


def still_token_loss(
    log_probs: Tensor,
    policy: Tensor,
    reference: Tensor,
    reference_policy: Tensor,
    beside: Tensor,
    sharpness: float | Tensor,
    trust: float | Tensor,
    ties: float,
) -> Tensor:
    """−Σ_a q(a) log π_θ(a | s) in states of the target, KL(π₀ᵗ ‖ π_θ) in those beside it, per state `[...]`.

    π₀ᵗ ∝ π₀^t is the start policy with the sharpness t of `ift.start_sharpness`. On the target
    q = (1 − c m) onehot(a*) + c m κ, κ(a) ∝ n(a) = exp(−|log π₀(a) − log π₀(a*)| / ties), m = Σ_a π₀ᵗ(a) n(a). What the
    start policy cannot tell apart from the target's token shares its place, as far as it holds these tokens for likely
    at all (m) and explains the targets in general (`trust`, c in [0, 1]). On a lake, with four moves, `ift.still_loss`
    needs no m; among 32,000 tokens every unlikely one has thousands that are as unlikely. No gradient flows through q
    and π₀ᵗ.

    Args:
        log_probs: log π_θ(a* | s), `[...]`; not read beside the target.
        policy, reference_policy: log π_θ and log π₀ of all actions, `[..., actions]`.
        reference: log π₀(a* | s), `[...]`.
        beside: which states are beside the target, `[...]` bool.
        sharpness, trust: t and c, numbers.
        ties: in nats, at least 0.
    """
    with torch.no_grad():
        still = (reference_policy * sharpness).log_softmax(-1)
        near = torch.exp(-(reference_policy - reference.unsqueeze(-1)).abs() / max(ties, _SMALLEST))
        shared = trust * (still.exp() * near).sum(-1)
        tied = near / near.sum(-1, keepdim=True) * shared.unsqueeze(-1)
        wanted = torch.where(beside.unsqueeze(-1), still.exp(), tied)
        constant = torch.where(beside, (still.exp() * still).sum(-1), 0)
        own = torch.where(beside, 0, 1 - shared)
    return constant - own * log_probs - (wanted * policy).sum(-1)


def still_fit(reference: Tensor, reference_policy: Tensor, sharpest: float) -> tuple[float, float]:
    """(t, c): the sharpness of `ift.start_sharpness`, and c = max(0, 1 + mean_i log π₀ᵗ(a_i*) / log A), of all tokens.

    Args:
        reference: log π₀(a_i* | s_i*), `[tokens]`.
        reference_policy: log π₀(· | s_i*), `[tokens, actions]`.
        sharpest: the largest t.
    """
    sharpness = start_sharpness(reference, reference_policy, torch.ones_like(reference), sharpest)
    explained = reference * sharpness - (reference_policy * sharpness).logsumexp(-1)
    trust = (1 + explained.mean() / math.log(reference_policy.shape[-1])).clamp(0, 1)
    return float(sharpness), float(trust)
