"""Methods that learn from pairs of answers, a target and a worse one: each loss with its method's value.

A loss takes one log-probability per answer, summed or averaged over its tokens as each says, and gives one value per
pair (KTO's: per answer); the caller averages them. Log-probabilities are natural logarithms, so at most 0: the losses
do not look, as a GPU would have to wait for the answer. Numbers may be tensors that broadcast against them. A bad value
raises `ValueError` with the argument's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.checks import check_positive, check_range
from ift.method import Method, Number

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch


def _beta(lake: float, text: float) -> Number:
    return Number("beta", "β of the methods that learn from pairs", lake, text, above_low=True)


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
    return -(1 - label_smoothing) * _log_sigmoid(margin) - label_smoothing * _log_sigmoid(-margin)


DPO = Method(
    "dpo",
    "Direct preference optimisation (arXiv 2305.18290)",
    "raises the target's log-probability above the worse answer's, relative to the start policy",
    "pairs",
    dpo_loss,
    (
        _beta(2.0, 0.1),
        Number("label_smoothing", "ε of conservative DPO", 0.0, 0.0, high=0.5),
    ),
    colour="#d55e00",
    needs_reference=True,
)


def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float | Tensor
) -> Tensor:
    """(Δ − 1/(2β))² with DPO's Δ (IPO 2310.12036, β its τ); summed log-probabilities `[...]`, β > 0.

    TRL's IPO, which trains language models here, averages the log-probabilities over tokens: its β is on another scale.
    """
    check_positive("beta", beta)
    return ((chosen - ref_chosen) - (rejected - ref_rejected) - 1 / (2 * beta)).square()


IPO = Method(
    "ipo",
    "Identity preference optimisation (arXiv 2310.12036)",
    "as DPO, but with a fixed margin between target and worse answer",
    "pairs",
    ipo_loss,
    (_beta(0.5, 0.1),),
    colour="#cc78bc",
    needs_reference=True,
)


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float | Tensor) -> Tensor:
    """−ℓ_c − β log σ(log odds(ℓ_c) − log odds(ℓ_r)), odds(ℓ) = e^ℓ/(1 − e^ℓ) (ORPO 2403.07691, β its λ).

    *Mean* token log-probabilities `[...]`, β > 0.
    """
    check_positive("beta", beta)
    return -chosen - beta * _log_sigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_sigmoid(x: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(x)


def _log_odds(log_prob: Tensor) -> Tensor:
    # 1 − e^ℓ rounds to 0 as ℓ nears 0, and its logarithm and gradient overflow: `expm1` keeps its digits, the clamp
    # stops one rounding step short of certainty.
    log_prob = log_prob.clamp(max=-torch.finfo(log_prob.dtype).eps)
    return log_prob - torch.log(-torch.expm1(log_prob))


ORPO = Method(
    "orpo",
    "Odds-ratio preference optimisation (arXiv 2403.07691)",
    "SFT's loss plus the odds ratio of target and worse answer, without a reference",
    "pairs",
    orpo_loss,
    (_beta(0.1, 0.1),),
    colour="#ca9161",
    answer="mean",
    alone=lambda chosen: -chosen,
)


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


KTO = Method(
    "kto",
    "Kahneman-Tversky optimisation (arXiv 2402.01306)",
    "raises targets and lowers worse answers one by one, relative to the start policy",
    "pairs",
    kto_loss,
    (_beta(1.0, 0.1),),
    colour="#fbafe4",
    needs_reference=True,
    unpaired=True,
)


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float | Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """−log σ(β(ℓ_c − ℓ_r) − margin) (SimPO 2405.14734, margin its γ); *mean* token log-probabilities `[...]`, β > 0."""
    check_positive("beta", beta)
    return -_log_sigmoid(beta * (chosen - rejected) - margin)


SIMPO = Method(
    "simpo",
    "Simple preference optimisation (arXiv 2405.14734)",
    "raises the target's mean log-probability above the worse answer's by a margin, without a reference",
    "pairs",
    simpo_loss,
    (
        _beta(2.0, 2.0),
        Number("margin", "target margin of SimPO", 0.5, 0.5, low=-float("inf")),
    ),
    colour="#56b4e9",
    answer="mean",
)

METHODS = (DPO, IPO, ORPO, KTO, SIMPO)
