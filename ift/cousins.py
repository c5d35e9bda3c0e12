"""IFT's cousins: later (and one earlier) methods that promise more than SFT from targets alone, each with its value.

Shapes and conventions are those of `ift.targets`; p is the probability of a target token, π₀ a reference, and what is
said to have no gradient is detached. A loss that reads `policy`, log π(· | s) `[..., tokens, actions]`, gives one value
per token. Where a docstring names the authors' code, the equation was compared with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ift.masks import masked_mean
from ift.method import Method, Number
from ift.pairs import DPO, dpo_loss
from ift.targets import sft_loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch

TOP_K = 20  # likeliest actions whose entropy EAFT takes; a lake has four

SCHEDULED = Method(
    "scheduled",
    "Scheduled sampling (arXiv 1506.03099; in two passes 1906.07651)",
    "SFT's loss in states where some of the target's tokens are replaced by the model's own predictions",
    "targets",
    sft_loss,
    (Number("lam", "λ, with which probability a token is replaced", lake=0.2, text=0.2, high=1.0),),
    colour="#b8860b",
    states="replaced",
)

NEFTUNE = Method(
    "neftune",
    "Noisy embedding fine-tuning (arXiv 2310.05914)",
    "SFT's loss in states with uniform noise, of length α/√(tokens · features) per feature",
    "targets",
    sft_loss,
    (Number("noise", "α of the noise on states", lake=0.5, text=5.0),),
    colour="#6699cc",
    states="noisy",
)


def power_loss(log_probs: Tensor, mask: Tensor, exponent: float | Tensor) -> Tensor:
    """−p^k, mean over the tokens of each sequence (the probability family, 2510.00526), `[..., tokens]` to `[...]`.

    k = 1 has DFT's gradient; k → 0 has SFT's direction, k times as long.
    """
    return masked_mean(-(exponent * log_probs.masked_fill(mask == 0, 0)).exp(), mask)


POWER = Method(
    "power",
    "Powers of the probability (arXiv 2510.00526)",
    "minus the probability of each token, to a power",
    "targets",
    power_loss,
    (Number("exponent", "k, to which the probability is raised", lake=1.0, text=1.0, above_low=True),),
    colour="#117733",
)


def asft_loss(
    log_probs: Tensor, mask: Tensor, policy: Tensor, reference_policy: Tensor, kl_weight: float | Tensor
) -> Tensor:
    """−p log p, weight p without gradient, + β KL(π₀ ‖ π_θ) in the target's states, per token (ASFT, 2509.23753).

    The direction of the KL is that of the authors' code and of its ports (Unsloth, LLaMA-Factory); Unsloth's notes that
    the paper's text has the other one.
    """
    kl = (reference_policy.exp() * (reference_policy - policy)).sum(-1)
    return -log_probs.detach().exp() * log_probs + kl_weight * kl


ASFT = Method(
    "asft",
    "Anchored supervised fine-tuning (arXiv 2509.23753)",
    "DFT's loss plus the divergence from the start policy in the target's states",
    "targets",
    asft_loss,
    (Number("kl_weight", "β, the weight of the divergence from the start policy", lake=0.1, text=0.1),),
    colour="#44aa99",
    reads=("policy", "reference_policy"),
)


def eaft_loss(log_probs: Tensor, mask: Tensor, policy: Tensor, entropy_power: float | Tensor) -> Tensor:
    """−(H / ln K)^α log p, per token (EAFT, 2601.02151); H without gradient, of the K likeliest actions, K = 20.

    H is the entropy of their probabilities made to sum to 1, as in axolotl's port of the authors' code, which itself
    divides by 3.0 in place of ln 20 = 2.996.
    """
    likeliest = policy.detach().topk(min(TOP_K, policy.shape[-1])).values.log_softmax(-1)
    entropy = -(likeliest.exp() * likeliest).sum(-1) / math.log(likeliest.shape[-1])
    return -(entropy.clamp(min=0) ** entropy_power) * log_probs


EAFT = Method(
    "eaft",
    "Entropy-adaptive fine-tuning (arXiv 2601.02151)",
    "SFT's loss with each token weighted by how unsure the policy is there",
    "targets",
    eaft_loss,
    (Number("entropy_power", "α, to which the weight by entropy is raised", lake=1.0, text=1.0),),
    colour="#88ccee",
    reads=("policy",),
)


def psft_loss(log_probs: Tensor, mask: Tensor, reference: Tensor, clip: float | Tensor) -> Tensor:
    """−min(r, 1 + ε), r = p / p_old, mean over the tokens of each sequence (PSFT, 2508.17784).

    PPO's clipped surrogate with an advantage of 1, for which the lower bound 1 − ε never counts. `reference` are the
    log-probabilities of the old policy. ε is that of the authors' script, and so is its 8 updates per old policy.
    """
    ratio = (log_probs - reference.detach()).masked_fill(mask == 0, 0).exp()
    return masked_mean(-torch.minimum(ratio, torch.as_tensor(1 + clip, dtype=ratio.dtype, device=ratio.device)), mask)


PSFT = Method(
    "psft",
    "Proximal supervised fine-tuning (arXiv 2508.17784)",
    "the ratio to the policy of a few updates ago, as far as PPO's clipping lets it grow",
    "targets",
    psft_loss,
    (
        Number("clip", "clipping of PPO's and PSFT's probability ratio", 0.28, 0.28, above_low=True),
        Number("refresh", "updates after which the reference is the policy anew", 8, 8, low=1, whole=True),
    ),
    colour="#332288",
    reads=("reference",),
)


def iwsft_loss(
    log_probs: Tensor, mask: Tensor, reference: Tensor, weight_low: float | Tensor, weight_high: float | Tensor
) -> Tensor:
    """−w log p, w = clip(p / p₀, low, high) without gradient, mean over tokens (iw-SFT, 2507.12856).

    The form per token of the authors' code, with its bounds; their script uses one weight per sequence.
    """
    log_probs = log_probs.masked_fill(mask == 0, 0)
    ratio = (log_probs.detach() - reference).masked_fill(mask == 0, 0).exp()
    low, high = (torch.as_tensor(b, dtype=ratio.dtype, device=ratio.device) for b in (weight_low, weight_high))
    return masked_mean(-ratio.clamp(low, high) * log_probs, mask)


IWSFT = Method(
    "iwsft",
    "Importance-weighted supervised fine-tuning (arXiv 2507.12856)",
    "SFT's loss with each token weighted by how much its probability has grown since the start",
    "targets",
    iwsft_loss,
    (
        Number("weight_low", "smallest weight of a token", 0.2, 0.2, high=1.0),
        Number("weight_high", "largest weight of a token", 1.8, 1.8, low=1.0),
    ),
    colour="#aa4499",
    reads=("reference",),
)


def gem_loss(log_probs: Tensor, mask: Tensor, policy: Tensor, temperature: float | Tensor) -> Tensor:
    """−Σ_a q_a (log p − log π_a), q = softmax(log π / β) without gradient, per token (GEM, 2408.16673, its h linear).

    Its gradient takes probability from what the sharpened policy q prefers, and leaves the rest as it is.
    """
    if isinstance(temperature, torch.Tensor):
        temperature = temperature.unsqueeze(-1)  # one per run, beside actions too
    sharpened = (policy.detach() / temperature).softmax(-1)
    return (sharpened * policy).sum(-1) - log_probs


GEM = Method(
    "gem",
    "Entropic distribution matching (arXiv 2408.16673)",
    "SFT's loss that takes probability from the policy's own favourites alone, and so stays diverse",
    "targets",
    gem_loss,
    (Number("temperature", "β of the sharpened policy; 1 is SFT's gradient", lake=0.7, text=0.7, above_low=True),),
    colour="#999933",
    reads=("policy",),
)

SPIN = Method(
    "spin",
    "Self-play fine-tuning (arXiv 2401.01335)",
    "DPO's loss against the policy of some updates ago: negatives are drawn from it, and it is the reference",
    "pairs",
    dpo_loss,
    (
        DPO.number("beta"),
        Number("refresh", "updates after which the reference is the policy anew", 25, 500, low=1, whole=True),
    ),
    colour="#661100",
    needs_reference=True,
)

METHODS = (SCHEDULED, NEFTUNE, POWER, ASFT, EAFT, PSFT, IWSFT, GEM, SPIN)
