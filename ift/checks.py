"""Argument checks shared by the core: a bad value raises `ValueError` naming the argument and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch


def check_range(name: str, value: float | Tensor, low: float, high: float) -> None:
    """Raise unless every entry of `value` lies in [low, high]."""
    inside = bool(((value >= low) & (value <= high)).all()) if isinstance(value, torch.Tensor) else low <= value <= high
    if not inside:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {_shown(value)}")


def check_positive(name: str, value: float | Tensor) -> None:
    """Raise unless every entry of `value` is a finite number above 0."""
    positive = (
        bool(((value > 0) & value.isfinite()).all()) if isinstance(value, torch.Tensor) else 0 < value < float("inf")
    )
    if not positive:
        raise ValueError(f"{name} must be a finite number above 0, got {_shown(value)}")


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise unless `value` is one of `allowed`."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def check_same_shape(first_name: str, first: Tensor, second_name: str, second: Tensor) -> None:
    """Raise unless the two tensors have the same shape."""
    if first.shape != second.shape:
        raise ValueError(
            f"{second_name} must have the shape of {first_name}, {tuple(first.shape)}; got {tuple(second.shape)}"
        )


def _shown(value: float | Tensor) -> str:
    if not isinstance(value, torch.Tensor):
        return f"{value}"
    return f"values from {value.min().item():g} to {value.max().item():g}" if value.numel() > 1 else f"{value.item():g}"
