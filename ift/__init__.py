"""The loss core of Intuitive Fine-Tuning: pure functions on tensors `[..., tokens]`.

It knows no model, no environment and no trainer; `toy` (Frozen Lake) and `lm` (language models) both stand on it.
"""

from ift.losses import (
    dft_loss,
    dpo_loss,
    ift_loss,
    ipo_loss,
    kto_loss,
    masked_mean,
    orpo_loss,
    ppo_loss,
    sft_loss,
    simpo_loss,
)
from ift.methods import METHODS, Method, method_names
from ift.propagation import discounted_prefix_sum, discounted_suffix_sum, relation_weights
from ift.residual import lam_at, temporal_residual

__all__ = [
    "METHODS",
    "Method",
    "dft_loss",
    "discounted_prefix_sum",
    "discounted_suffix_sum",
    "dpo_loss",
    "ift_loss",
    "ipo_loss",
    "kto_loss",
    "lam_at",
    "masked_mean",
    "method_names",
    "orpo_loss",
    "ppo_loss",
    "relation_weights",
    "sft_loss",
    "simpo_loss",
    "temporal_residual",
]
