"""Every loss as a function of log-probabilities: one value per sequence, pair or example; the caller averages them.

Token losses take `log_probs [..., tokens]` of the target tokens and a `mask` of answer tokens; a row without answer
tokens costs 0. Pair losses take one log-probability per answer, summed or averaged over its tokens as each says.
Hyper-parameters are numbers, or tensors that broadcast against the log-probabilities. Equations are those of the
papers named; log-probabilities are natural logarithms. A bad value raises `ValueError` with the argument's name.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ift.checks import check_choice, check_positive, check_range, check_same_shape
from ift.propagation import Norm, Side, Source, discounted_suffix_sum, relation_weights


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last dimension of `x [..., tokens]` where `mask` is set; 0 for a row without any."""
    check_same_shape("the values", x, "mask", mask)
    mask = mask.to(x.dtype)
    return x.masked_fill(mask == 0, 0).sum(-1) / mask.sum(-1).clamp(min=1)


def sft_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """−(1/N) Σ_i log π(a_i* | s_i*): mean negative log-probability of each sequence, `[..., tokens]` to `[...]`."""
    return masked_mean(-log_probs, mask)


def dft_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Token loss weighted by its own detached probability (DFT, 2508.05629), `[..., tokens]` to `[...]`."""
    log_probs = log_probs.masked_fill(mask == 0, 0)
    return masked_mean(-log_probs.detach().exp() * log_probs, mask)


def ift_loss(
    log_probs: Tensor,
    mask: Tensor,
    gamma: float | Tensor,
    *,
    form: str = "product",
    source: Source = "loss",
    norm: Norm = "L1",
    side: Side = "left",
) -> Tensor:
    """Dynamic relation propagation over log-probabilities of the *mixed* states, `[..., tokens]` to `[...]`.

    `form="product"`: (1/N) Σ_i w_i ℓ_i with the weights of `relation_weights` (source, norm and side go there), as in
    the released code. `form="sum"`: (1/N) Σ_n V_n with V_n = Σ_{i≥n} γ^(i−n) ℓ_i over answer tokens n, the equation of
    arXiv 2405.11870 divided by the number N of answer tokens, so that γ = 0 is `sft_loss` in both forms. Gradients
    flow through the weights: they are part of the objective.

    Raises:
        ValueError: γ outside [0, 1], an unknown form, source, norm or side, shapes that do not match.
    """
    check_choice("form", form, ("product", "sum"))
    check_same_shape("log_probs", log_probs, "mask", mask)
    nll = -log_probs.masked_fill(mask == 0, 0)
    if form == "sum":
        terms = discounted_suffix_sum(nll, gamma)
    else:
        terms = relation_weights(nll, mask, gamma, source=source, norm=norm, side=side) * nll
    return masked_mean(terms, mask.expand_as(terms))


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float | Tensor,
    label_smoothing: float | Tensor = 0.0,
) -> Tensor:
    """−(1−ε) log σ(βΔ) − ε log σ(−βΔ) with Δ = (ℓ_c − ℓ_c^ref) − (ℓ_r − ℓ_r^ref) (DPO 2305.18290, ε conservative DPO).

    Summed log-probabilities `[...]` under the policy and the frozen reference; β > 0, ε in [0, 0.5].
    """
    check_positive("beta", beta)
    check_range("label_smoothing", label_smoothing, 0, 0.5)
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float | Tensor
) -> Tensor:
    """(Δ − 1/(2β))² with DPO's Δ (IPO 2310.12036, β its τ); summed log-probabilities `[...]`, β > 0."""
    check_positive("beta", beta)
    return ((chosen - ref_chosen) - (rejected - ref_rejected) - 1 / (2 * beta)).square()


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float | Tensor) -> Tensor:
    """−ℓ_c − β log σ(log odds(ℓ_c) − log odds(ℓ_r)), odds(ℓ) = e^ℓ/(1 − e^ℓ) (ORPO 2403.07691, β its λ).

    *Mean* token log-probabilities `[...]`, β > 0.
    """
    check_positive("beta", beta)
    return -chosen - beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(log_prob: Tensor) -> Tensor:
    # 1 − e^ℓ rounds to 0 as ℓ nears 0, and its logarithm and gradient overflow: `expm1` keeps its digits, the clamp
    # stops one rounding step short of certainty.
    log_prob = log_prob.clamp(max=-torch.finfo(log_prob.dtype).eps)
    return log_prob - torch.log(-torch.expm1(log_prob))


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float | Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """−log σ(β(ℓ_c − ℓ_r) − margin) (SimPO 2405.14734, margin its γ); *mean* token log-probabilities `[...]`, β > 0."""
    check_positive("beta", beta)
    return -logsigmoid(beta * (chosen - rejected) - margin)


def kto_loss(
    log_probs: Tensor,
    ref_log_probs: Tensor,
    desirable: Tensor,
    kl: Tensor,
    beta: float | Tensor,
    desirable_weight: float | Tensor = 1.0,
    undesirable_weight: float | Tensor = 1.0,
) -> Tensor:
    """w·(1 − σ(±β(ℓ − ℓ^ref − z))), + for desirable and − for undesirable answers (KTO 2402.01306).

    Summed log-probabilities `[...]`; `desirable` bool `[...]`; `kl` the estimate of KL(policy ‖ reference), in nats,
    that broadcasts against them: z = max(kl, 0), without gradient. β > 0, weights ≥ 0.
    """
    check_positive("beta", beta)
    check_range("desirable_weight", desirable_weight, 0, float("inf"))
    check_range("undesirable_weight", undesirable_weight, 0, float("inf"))
    gain = beta * (log_probs - ref_log_probs - kl.detach().clamp(min=0))
    return torch.where(desirable, desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain))


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
