"""The loss core of Intuitive Fine-Tuning: pure functions on tensors `[..., tokens]`.

It knows no model, no environment and no trainer; `toy` (Frozen Lake) and `lm` (language models) both stand on it.
"""

from ift.ceilings import expert_loss
from ift.cousins import asft_loss, eaft_loss, gem_loss, iwsft_loss, power_loss, psft_loss
from ift.masks import masked_mean
from ift.method import Method, Number
from ift.methods import METHODS, method_names
from ift.pairs import dpo_loss, ipo_loss, kto_loss, orpo_loss, simpo_loss
from ift.propagation import discounted_prefix_sum, discounted_suffix_sum, relation_weights
from ift.residual import lam_at, temporal_residual
from ift.rollouts import ppo_loss
from ift.still import start_sharpness, still_loss
from ift.still_tokens import still_fit, still_token_loss
from ift.targets import dft_loss, ift_loss, sft_loss

__all__ = [
    "METHODS",
    "Method",
    "Number",
    "asft_loss",
    "dft_loss",
    "discounted_prefix_sum",
    "discounted_suffix_sum",
    "dpo_loss",
    "eaft_loss",
    "expert_loss",
    "gem_loss",
    "ift_loss",
    "ipo_loss",
    "iwsft_loss",
    "kto_loss",
    "lam_at",
    "masked_mean",
    "method_names",
    "orpo_loss",
    "power_loss",
    "ppo_loss",
    "psft_loss",
    "relation_weights",
    "sft_loss",
    "simpo_loss",
    "start_sharpness",
    "still_fit",
    "still_loss",
    "still_token_loss",
    "temporal_residual",
]

# Last, as what they run imports this package.
METHODS.add_installed()
METHODS.add_of_parent()
