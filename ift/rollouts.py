"""Methods that learn from the policy's own trajectories and their rewards: the loss with its method's value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.checks import check_positive
from ift.masks import masked_mean
from ift.method import Method, Number

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch


def ppo_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float | Tensor = 0.2
) -> Tensor:
    """−mean_i min(r_i A_i, clamp(r_i, 1 ± clip) A_i) with r_i = π/π_old (PPO 1707.06347), `[..., tokens]` to `[...]`.

    `old_log_probs` and `advantages` are those of the policy that sampled the trajectory; no gradient reaches them.
    """
    check_positive("clip", clip)
    advantages = advantages.detach()
    ratio = (log_probs - old_log_probs.detach()).masked_fill(mask == 0, 0).exp()
    low, high = (torch.as_tensor(bound, dtype=ratio.dtype, device=ratio.device) for bound in (1 - clip, 1 + clip))
    return masked_mean(-torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages), mask)


PPO = Method(
    "ppo",
    "Proximal policy optimisation (arXiv 1707.06347)",
    "the clipped surrogate on the policy's own episodes, which sees rewards and no target",
    "rollouts",
    ppo_loss,
    (Number("clip", "clipping of PPO's probability ratio", 0.2, 0.2, above_low=True),),
)

METHODS = (PPO,)
