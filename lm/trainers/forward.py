"""The two passes of IFT inside one forward call of the model, so that every wrapper (DDP, FSDP, PEFT) sees one call."""

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

import ift
from ift.heads import (
    NextTokens,
    Prediction,
    ReferenceHead,
    TargetScores,
    TokenLoss,
    next_tokens,
    target_scores,
    token_losses,
)
from lm.trainers.passes import run_answers, run_prompt, shared_prompt

# Settings by which some architectures scale their logits before the softmax; both passes would have to do the same.
_LOGIT_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


@dataclass(frozen=True)
class Residual:
    """What one forward call needs to know of the temporal residual connection, and of a loss that reads policies.

    With `replaced`, a prediction takes its token's place with probability λ, in place of being mixed with it.
    `predicted`, token ids `[batch, tokens − 1]` like the labels shifted by one, takes the place of pass 1. With
    `token_loss` the loss of each token is computed where the policy is at hand, beside the policy of `reference` and
    with the token's own of `marks` `[batch, tokens − 1]`; `as_reference` asks for what a later call takes as
    `reference`: no gradient, no dropout.
    """

    lam: float
    replaced: bool = False
    prediction: Prediction = "greedy"
    top_k: int = 8
    freeze_embedding: bool = False
    generator: torch.Generator | None = None
    predicted: Tensor | None = None
    token_loss: TokenLoss | None = None
    reference: ReferenceHead | None = None
    marks: Tensor | None = None
    as_reference: bool = False


@dataclass
class ResidualOutput(ModelOutput):
    """What the model says of the labels, per token `[batch, tokens − 1]`, 0 where there is no label.

    Attributes:
        log_probs: log-probability of each label under the mixed states; carries the gradient.
        label_mask: where there is a label.
        entropy: of the next-token distribution under the mixed states, in nats.
        most_likely: arg-max token under the mixed states.
        plain_log_probs: like `log_probs` under the target's own states (pass 1), no gradient; None without pass 1.
        predicted: arg-max token of pass 1; None without pass 1.
        token_losses: of `Residual.token_loss`, with gradient; None without it.
        reference: what `Residual.reference` takes; None unless it was asked for.
    """

    # Any stands for Tensor: ModelOutput wants defaults, and a type that the fields hold once they are set.
    log_probs: Any = None
    label_mask: Any = None
    entropy: Any = None
    most_likely: Any = None
    plain_log_probs: Any = None
    predicted: Any = None
    token_losses: Any = None
    reference: Any = None


def add_residual_forward(model: PreTrainedModel | PeftModel) -> None:
    """Teach `model` the call `model(input_ids=…, labels=…, residual=Residual(…))`, which returns a `ResidualOutput`.

    Without `residual` nothing changes. With it, pass 1 reads the plain target without gradient and dropout and
    predicts each answer token from its prefix; pass 2 scores the answer with those predictions mixed into the input
    embeddings of answer tokens, one token deep. Both project answer positions only. λ = 0 needs no pass 1.

    Raises:
        ValueError: an architecture whose logits or loss have parts that IFT does not know.
    """
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    config = model.config.get_text_config()
    for name in _LOGIT_SCALES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(
                f"model type {config.model_type!r} scales its logits ({name}), which IFT does not support: "
                "take another architecture"
            )
    if getattr(config, "hidden_size_per_layer_input", None):
        raise ValueError(
            f"model type {config.model_type!r} has embeddings per layer, which IFT does not support: take another one"
        )
    softcap = getattr(config, "final_logit_softcapping", None)
    original_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` reads the model's own signature
    def forward(self: PreTrainedModel, *args: Any, residual: Residual | None = None, **kwargs: Any) -> Any:
        if residual is None:
            return original_forward(*args, **kwargs)
        input_ids, labels = kwargs.pop("input_ids", None), kwargs.pop("labels", None)
        embeddings = kwargs.pop("inputs_embeds", None)  # PEFT passes None along
        if args or input_ids is None or labels is None or embeddings is not None or "shift_labels" in kwargs:
            raise ValueError("IFT needs input_ids and labels: prompt tuning and sequence parallelism are not supported")
        kwargs["use_cache"] = False
        targets = labels[:, 1:]  # the token at position i is predicted from position i − 1
        answer = targets != -100
        head = _Head(self, answer, targets[answer], softcap)
        if residual.as_reference:
            with torch.no_grad(), _dropout_off(self):
                return head.reference(self.base_model(input_ids=input_ids, **kwargs).last_hidden_state)
        said = None
        two_passes = residual.lam > 0 and residual.predicted is None
        shared = shared_prompt(self, answer, kwargs) if two_passes else 0
        states = self.get_input_embeddings()(input_ids)
        states = states.detach() if residual.freeze_embedding else states  # as the released code: a frozen copy
        prompt = run_prompt(self, states[:, :shared], kwargs.get("attention_mask")) if shared else None
        if two_passes:
            with torch.no_grad(), _dropout_off(self):
                if prompt is None:
                    hidden = self.base_model(input_ids=input_ids, **kwargs).last_hidden_state
                else:
                    hidden = run_answers(self, states[:, shared:], kwargs.get("attention_mask"), prompt)
                said = head.predict(hidden, residual)
        mixed = _mixed_embeddings(self, states, answer, said, residual)
        if prompt is None:
            hidden = self.base_model(inputs_embeds=mixed, **kwargs).last_hidden_state
        else:
            hidden = run_answers(self, mixed[:, shared:], kwargs.get("attention_mask"), prompt)
        losses, scores = head.score(hidden, residual)
        return ResidualOutput(
            log_probs=head.spread(scores.log_probs),
            label_mask=answer,
            entropy=head.spread(scores.entropy),
            most_likely=head.spread(scores.most_likely),
            plain_log_probs=None if said is None else head.spread(said.log_probs),
            predicted=None if said is None else head.spread(said.most_likely),
            token_losses=None if losses is None else head.spread(losses),
        )

    model.forward = types.MethodType(forward, model)


class _Head:
    """The model's head over the answer positions of a batch, with the hidden states that its backbone has just left.

    The head is looked up for each of them: FSDP2 puts its pieces together, with gradients that reach all processes,
    only while the backbone runs; ZeRO-3 while `gathered` is entered.
    """

    def __init__(self, model: PreTrainedModel, answer: Tensor, targets: Tensor, softcap: float | None):
        self.model = model
        self.answer, self.targets, self.softcap = answer, targets, softcap

    @property
    def gathered(self) -> Callable[[], AbstractContextManager]:
        head = self.model.get_output_embeddings()
        return functools.partial(maybe_gather_lm_head_ctx, head.weight, head.bias)

    def _parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        head = self.model.get_output_embeddings()
        weight, bias = (part.full_tensor() if isinstance(part, DTensor) else part for part in (head.weight, head.bias))
        answer = self.answer[:, self.answer.shape[1] + 1 - hidden.shape[1] :]  # `hidden` may begin behind the prompt
        hidden = hidden[:, :-1][answer].to(weight.device)  # `device_map` can put the head elsewhere
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        bias = None if bias is None else bias.to(dtype)
        return hidden.to(dtype), weight.to(dtype), bias, self.targets.to(weight.device)

    def predict(self, hidden: Tensor, residual: Residual) -> NextTokens:
        options: dict[str, Any] = {
            "prediction": residual.prediction,
            "top_k": residual.top_k,
            "generator": residual.generator,
        }
        with self.gathered():
            return next_tokens(*self._parts(hidden), softcap=self.softcap, **options)

    def score(self, hidden: Tensor, residual: Residual) -> tuple[Tensor | None, TargetScores]:
        """The losses of tokens if there is such a loss, and the scores of the targets."""
        options: dict[str, Any] = {"softcap": self.softcap, "gathered": self.gathered}
        with self.gathered():
            if residual.token_loss is None:
                return None, target_scores(*self._parts(hidden), **options)
            options["marks"] = None if residual.marks is None else residual.marks[self.answer]
            return token_losses(*self._parts(hidden), residual.token_loss, reference=residual.reference, **options)

    def reference(self, hidden: Tensor) -> ResidualOutput:
        with self.gathered():
            rows, weight, bias, targets = self._parts(hidden)
            log_probs = target_scores(rows, weight, bias, targets, softcap=self.softcap).log_probs
        reference = ReferenceHead(rows, weight.detach(), None if bias is None else bias.detach(), self.softcap)
        return ResidualOutput(log_probs=self.spread(log_probs), label_mask=self.answer, reference=reference)

    def spread(self, values: Tensor) -> Tensor:
        """One value per answer token to `[batch, tokens − 1]`, connected to the graph even if there is no answer."""
        values = values.to(self.answer.device)
        return values.new_zeros(self.answer.shape).masked_scatter(self.answer, values)


def _mixed_embeddings(
    model: PreTrainedModel, states: Tensor, answer: Tensor, said: NextTokens | None, residual: Residual
) -> Tensor:
    """`states` e(y_i), at answer positions (1 − λ) e(y_i) + λ Σ_k share_k e(ŷ_ik); `[batch, tokens, features]`.

    With `residual.replaced` λ is 1 or 0 at each position, by a draw.
    """
    if residual.lam == 0:
        return states
    embed = model.get_input_embeddings()
    if said is None:
        assert residual.predicted is not None
        predicted = embed(residual.predicted)[answer]
    else:
        predicted = (embed(said.tokens.to(states.device)) * said.shares.to(states)[..., None]).sum(-2)
    if residual.freeze_embedding:
        predicted = predicted.detach()
    mask = torch.nn.functional.pad(answer, (1, 0))
    placed = torch.zeros_like(states).masked_scatter(mask[..., None], predicted.to(states.dtype))
    lam: float | Tensor = residual.lam
    if residual.replaced:
        draws = torch.rand(mask.shape, generator=residual.generator, device=mask.device)
        lam = (draws < lam).to(states.dtype)
    return ift.temporal_residual(states, placed, lam, mask)


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
