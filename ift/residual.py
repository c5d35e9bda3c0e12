"""Temporal residual connection: mix what the model would have said into the target's states (arXiv 2405.11870)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ift.checks import check_range, check_same_shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from ift import lazy_torch as torch


def temporal_residual(states: Tensor, predicted: Tensor, lam: float | Tensor, mask: Tensor) -> Tensor:
    """Mixed states `(1 - lam) * states + lam * predicted` where `mask` is set, `states` elsewhere.

    The paper's δ_θ(s_i*) = (1 − λ) s_i* + λ π_θ(s_{i−1}*): `predicted[..., i, :]` is the state that the model's own
    action would have led to, made by the caller from position i − 1, without gradient.

    Args:
        states: target states `[..., tokens, features]` (input embeddings, or one-hot cells).
        predicted: the model's own states, same shape.
        lam: λ in [0, 1], a number or a tensor that broadcasts against `mask`; 0 is the target's state, 1 the model's.
        mask: `[..., tokens]`, true (or 1) at the positions to mix: answer tokens that have a predecessor.

    Returns:
        Mixed states `[..., tokens, features]`. Gradients flow to `states`, `predicted` and a tensor `lam`.

    Raises:
        ValueError: λ outside [0, 1], or shapes that do not match.
    """
    check_range("lam", lam, 0, 1)
    check_same_shape("states", states, "predicted", predicted)
    if mask.shape != states.shape[:-1]:
        raise ValueError(f"mask must have the shape {tuple(states.shape[:-1])} of states, got {tuple(mask.shape)}")
    share = (lam * mask.to(states.dtype)).unsqueeze(-1)
    # Where nothing is mixed the states pass untouched: 0 * inf in a padded prediction must not become NaN.
    return torch.where(mask.unsqueeze(-1) != 0, (1 - share) * states + share * predicted, states)


def lam_at(
    step: int, lam: float, *, min_lam: float | None = None, warmup_steps: int = 0, jitter: float = 0.0, seed: int = 0
) -> float:
    """λ at an optimiser step: constant, or linear from `min_lam` to `lam` over `warmup_steps`, with Gaussian jitter.

    Jitter is λ ← λ + ε·jitter·λ with ε ~ N(0, 1), one ε for each (seed, step): it does not depend on which steps were
    asked for before, so a resumed training sees the same λ. The result is clamped to [0, 1].

    Args:
        step: optimiser step, from 0.
        lam: the constant value, or the value reached after the warm-up.
        min_lam: value at step 0 of a linear warm-up; None keeps λ constant.
        warmup_steps: length of the warm-up, in optimiser steps.
        jitter: standard deviation of the noise, relative to λ.
        seed: of the noise.

    Raises:
        ValueError: `lam` or `min_lam` outside [0, 1], or a negative `step`, `warmup_steps` or `jitter`.
    """
    for name, value in {"step": step, "warmup_steps": warmup_steps, "jitter": jitter}.items():
        check_range(name, value, 0, float("inf"))
    check_range("lam", lam, 0, 1)
    if min_lam is not None:
        check_range("min_lam", min_lam, 0, 1)
        progress = min(step / warmup_steps, 1.0) if warmup_steps else 1.0
        lam = min_lam + (lam - min_lam) * progress
    if jitter:
        import numpy as np

        lam += float(np.random.default_rng([seed, step]).standard_normal()) * jitter * lam
    return min(max(lam, 0.0), 1.0)
