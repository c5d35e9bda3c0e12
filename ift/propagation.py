"""Dynamic relation propagation: the loss of a token also counts for the tokens before it (arXiv 2405.11870).

Two forms exist. `sum` is the paper's equation: a discounted sum of later losses, a Bellman recursion along the answer.
`product` is what the authors' released code computes: each token's loss times a normalised weight made from the same
kind of sum. Hyper-parameter tensors broadcast against `[..., tokens]`: one γ per sequence is `[..., 1]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from ift.checks import check_choice, check_range, check_same_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch

Source = Literal["loss", "logps", "mask"]
Norm = Literal["L1", "L2", "softmax", "log"]
Side = Literal["left", "right"]

# Stands at masked positions before the `right` side inverts: any large number does, this one fits float16.
_MASKED = 1e4


def discounted_suffix_sum(x: Tensor, gamma: float | Tensor) -> Tensor:
    """y[..., t] = Σ_{j≥t} γ^(j−t) x[..., j], by doubling: O(T log T) work in 3·⌈log2 T⌉ tensor operations.

    After the pass with span s, y[t] covers x[t : t + 2s]. Adding in pairs also keeps rounding at O(log T) epsilons,
    where a running sum would collect O(T).

    Args:
        x: `[..., tokens]`, floating point.
        gamma: γ in [0, 1], a number or a tensor `[..., 1]` that broadcasts against `x`; γ = 0 returns `x`.

    Raises:
        ValueError: γ outside [0, 1], or a γ that varies along the tokens.
    """
    check_range("gamma", gamma, 0, 1)
    if isinstance(gamma, torch.Tensor) and gamma.ndim and gamma.shape[-1] != 1:
        raise ValueError(f"gamma must be one number per sequence, shape [..., 1]; got {tuple(gamma.shape)}")
    y, span = x, 1
    while span < x.shape[-1]:
        y = y + gamma**span * torch.nn.functional.pad(y[..., span:], (0, span))
        span *= 2
    return y


def discounted_prefix_sum(x: Tensor, gamma: float | Tensor) -> Tensor:
    """y[..., t] = Σ_{j≤t} γ^(t−j) x[..., j]; arguments as in `discounted_suffix_sum`."""
    return discounted_suffix_sum(x.flip(-1), gamma).flip(-1)


def relation_weights(
    nll: Tensor, mask: Tensor, gamma: float | Tensor, *, source: Source = "loss", norm: Norm = "L1", side: Side = "left"
) -> Tensor:
    """Weights w_i = N g(c_i) / Σ_k g(c_k) of the `product` form, part of the graph; 0 where masked, mean 1 elsewhere.

    c is the discounted suffix sum (`side="left"`) of x, with x = ℓ/N (`source="loss"`), ℓ (`"logps"`) or 1 (`"mask"`),
    and g the identity (`norm="L1"`), the square (`"L2"`), a softmax over the row or log(1 + c). `side="right"` takes
    the prefix sum and inverts it: 1/c, 1/c², softmax(1/c), 1/log(1 + c). As released with arXiv 2405.11870.

    Two surprises, both kept: γ = 0 switches propagation off (w = 1), it is not the limit γ → 0; and on the right side
    the smallest non-zero c of the whole block `[rows, tokens]` is added to every c of it before inverting, so there
    the weights of a row depend on the rows beside it (leading dimensions before those two stay independent).

    Args:
        nll: ℓ ≥ 0, negative log-probability of each target token `[..., tokens]`.
        mask: `[..., tokens]`, true (or 1) at answer tokens.
        gamma: γ in [0, 1], a number or a tensor `[..., 1]`.
        source, norm, side: see above.

    Returns:
        `[..., tokens]`. A row without answer tokens has weights 0.

    Raises:
        ValueError: γ outside [0, 1], an unknown source, norm or side, shapes that do not match.
    """
    check_choice("source", source, get_args(Source))
    check_choice("norm", norm, get_args(Norm))
    check_choice("side", side, get_args(Side))
    check_same_shape("nll", nll, "mask", mask)
    mask = mask.to(nll.dtype)
    nll = nll.masked_fill(mask == 0, 0)
    count = mask.sum(-1, keepdim=True)
    x = mask if source == "mask" else nll / count.clamp(min=1) if source == "loss" else nll
    g = _left(x, mask, gamma, norm) if side == "left" else _right(x, mask, gamma, norm)
    g = g * mask
    total = g.sum(-1, keepdim=True)
    # All losses 0 leaves nothing to share out: every token then counts the same. `where` twice, so that the branch
    # not taken divides by 1 and sends no NaN back.
    weights = torch.where(total != 0, count * g / torch.where(total != 0, total, 1), mask)
    return torch.where(torch.as_tensor(gamma, device=nll.device) == 0, mask, weights)


def _left(x: Tensor, mask: Tensor, gamma: float | Tensor, norm: Norm) -> Tensor:
    c = discounted_suffix_sum(x, gamma) * mask
    if norm == "softmax":
        return torch.softmax(c, -1)
    return c if norm == "L1" else c.square() if norm == "L2" else torch.log1p(c)


def _right(x: Tensor, mask: Tensor, gamma: float | Tensor, norm: Norm) -> Tensor:
    c = discounted_prefix_sum(x, gamma).masked_fill(mask == 0, _MASKED)
    block = (-1,) if c.ndim == 1 else (-2, -1)
    smallest = c.masked_fill(c == 0, _MASKED).amin(block, keepdim=True)
    c = c + smallest
    if norm == "softmax":
        return torch.softmax(1 / c, -1)
    return 1 / c if norm == "L1" else 1 / c.square() if norm == "L2" else 1 / torch.log1p(c)
