"""Means over the tokens that count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.checks import check_same_shape

if TYPE_CHECKING:
    from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last dimension of `x [..., tokens]` where `mask` is set; 0 for a row without any."""
    check_same_shape("the values", x, "mask", mask)
    mask = mask.to(x.dtype)
    return x.masked_fill(mask == 0, 0).sum(-1) / mask.sum(-1).clamp(min=1)
