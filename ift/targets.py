"""Methods that learn from targets: the loss of an answer from its token log-probabilities, and each method's value.

A loss takes `log_probs [..., tokens]` of the target tokens (natural logarithms, so at most 0; it does not look, as a
GPU would have to wait for the answer) and a `mask` of answer tokens, and gives one value per sequence; the caller
averages them. A row without answer tokens costs 0. Numbers may be tensors that broadcast against the
log-probabilities. A bad value raises `ValueError` with the argument's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.checks import check_choice, check_same_shape
from ift.masks import masked_mean
from ift.method import Method, Number
from ift.propagation import Norm, Side, Source, discounted_suffix_sum, relation_weights

if TYPE_CHECKING:
    from torch import Tensor


def sft_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """−(1/N) Σ_i log π(a_i* | s_i*): mean negative log-probability of each sequence, `[..., tokens]` to `[...]`."""
    return masked_mean(-log_probs, mask)


SFT = Method(
    "sft",
    "Supervised fine-tuning",
    "the mean negative log-probability of the target's tokens",
    "targets",
    sft_loss,
    colour="#0173b2",
)


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


LAM = Number("lam", "λ of the temporal residual connection; 0 is the target's state", lake=0.2, text=0.2, high=1.0)
GAMMA = Number("gamma", "γ of the relation propagation; 0 is none", lake=0.95, text=0.95, high=1.0)
IFT = Method(
    "ift",
    "Intuitive fine-tuning (arXiv 2405.11870)",
    "SFT's loss in states mixed with the model's own predictions, each token weighted by what follows it",
    "targets",
    ift_loss,
    (LAM, GAMMA),
    colour="#de8f05",
    states="mixed",
    propagates=True,
)


def dft_loss(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Token loss weighted by its own detached probability (DFT, 2508.05629), `[..., tokens]` to `[...]`."""
    log_probs = log_probs.masked_fill(mask == 0, 0)
    return masked_mean(-log_probs.detach().exp() * log_probs, mask)


DFT = Method(
    "dft",
    "Dynamic fine-tuning (arXiv 2508.05629)",
    "SFT's loss with each token weighted by its own probability, without gradient",
    "targets",
    dft_loss,
    colour="#029e73",
)

METHODS = (SFT, IFT, DFT)
