"""The two passes of IFT inside one forward call of the model, so that every wrapper (DDP, FSDP, PEFT) sees one call."""

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

import ift
from ift.heads import NextTokens, Prediction, next_tokens

# Settings by which some architectures scale their logits before the softmax; pass 1 would have to do the same.
_LOGIT_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


@dataclass(frozen=True)
class Residual:
    """What one forward call needs to know of the temporal residual connection."""

    lam: float
    prediction: Prediction = "greedy"
    top_k: int = 8
    freeze_embedding: bool = False
    generator: torch.Generator | None = None


@dataclass
class ResidualOutput(FusedCausalLMOutput):
    """TRL's output for the mixed states, and what pass 1 said of the plain ones.

    Attributes:
        plain_log_probs: log-probability of each label under the target's own states, like `log_probs`, no gradient.
        agrees: whether the most likely token of pass 1 is the label, like `log_probs`.
    """

    plain_log_probs: Tensor | None = None
    agrees: Tensor | None = None


def add_residual_forward(model: PreTrainedModel) -> None:
    """Teach `model` the call `model(input_ids=…, labels=…, fused_lm_head=True, residual=Residual(…))`.

    `model` must carry TRL's fused head already (`SFTTrainer` adds it). Without `residual` nothing changes. With it,
    pass 1 reads the plain target without gradient and dropout and predicts each answer token from its prefix; pass 2
    scores the answer with those predictions mixed into the input embeddings of answer tokens, one token deep.

    Raises:
        ValueError: an architecture that scales its logits in a way that pass 1 does not know.
    """
    config = model.config.get_text_config()
    for name in _LOGIT_SCALES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(
                f"model type {config.model_type!r} scales its logits ({name}), which IFT does not support: "
                "take another architecture"
            )
    softcap = getattr(config, "final_logit_softcapping", None)
    fused_forward = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, residual: Residual | None = None, **kwargs: Any) -> Any:
        if residual is None:
            return fused_forward(*args, **kwargs)
        if args or kwargs.get("input_ids") is None or kwargs.get("labels") is None or "shift_labels" in kwargs:
            raise ValueError("IFT needs input_ids and labels: prompt tuning and sequence parallelism are not supported")
        input_ids, labels = kwargs.pop("input_ids"), kwargs["labels"]
        answer = labels[:, 1:] != -100  # a token at position i is predicted from position i − 1
        with torch.no_grad(), _dropout_off(self):
            inputs = {k: v for k, v in kwargs.items() if k not in ("labels", "fused_lm_head", "num_items_in_batch")}
            hidden = self.base_model(input_ids=input_ids, **inputs).last_hidden_state[:, :-1][answer]
            said = _predict(self, hidden, labels[:, 1:][answer], residual, softcap)
        kwargs["inputs_embeds"] = _mixed_embeddings(self, input_ids, answer, said, residual)
        outputs = fused_forward(**kwargs)
        plain = torch.zeros_like(answer, dtype=said.log_probs.dtype).masked_scatter(answer, said.log_probs)
        agrees = torch.zeros_like(answer).masked_scatter(answer, said.most_likely == labels[:, 1:][answer])
        return ResidualOutput(**outputs, plain_log_probs=plain, agrees=agrees)

    model.forward = types.MethodType(forward, model)


def _predict(
    model: PreTrainedModel, hidden: Tensor, targets: Tensor, residual: Residual, softcap: float | None
) -> NextTokens:
    head = model.get_output_embeddings()
    weight, bias = (part.full_tensor() if isinstance(part, DTensor) else part for part in (head.weight, head.bias))
    return next_tokens(
        hidden.to(weight.device),
        weight.to(hidden.dtype),
        None if bias is None else bias.to(hidden.dtype),
        targets.to(weight.device),
        prediction=residual.prediction,
        top_k=residual.top_k,
        softcap=softcap,
        generator=residual.generator,
    )


def _mixed_embeddings(
    model: PreTrainedModel, input_ids: Tensor, answer: Tensor, said: NextTokens, residual: Residual
) -> Tensor:
    """(1 − λ) e(y_i) + λ Σ_k share_k e(ŷ_ik) at answer positions, e(y_i) elsewhere, `[batch, tokens, features]`."""
    embed = model.get_input_embeddings()
    states = embed(input_ids)
    predicted = (embed(said.tokens.to(input_ids.device)) * said.shares.to(states)[..., None]).sum(-2)
    if residual.freeze_embedding:  # as the released code, which reads a frozen copy
        states, predicted = states.detach(), predicted.detach()
    mask = torch.nn.functional.pad(answer, (1, 0))
    placed = torch.zeros_like(states).masked_scatter(mask[..., None], predicted.to(states.dtype))
    return ift.temporal_residual(states, placed, residual.lam, mask)


@contextmanager
def _dropout_off(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each module's own mode comes back afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
