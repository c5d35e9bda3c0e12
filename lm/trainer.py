"""IFT as a drop-in for TRL's supervised trainer: `IFTConfig` for `SFTConfig`, `IFTTrainer` for `SFTTrainer`."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

import torch
from peft import PeftModel
from torch import Tensor
from trl import SFTConfig, SFTTrainer

import ift
from ift.propagation import Norm, Side, Source
from lm.forward import Residual, add_residual_forward


@dataclass
class IFTConfig(SFTConfig):
    """TRL's `SFTConfig` with the options of Intuitive Fine-Tuning (arXiv 2405.11870); defaults as its authors released.

    λ = 0 with γ = 0 is plain SFT, at its cost. Evaluation reports SFT's loss: a number that methods share.
    """

    lam: float = field(default=0.2, metadata={"help": "λ in [0, 1]: share of the model's own prediction in a state."})
    min_lam: float | None = field(
        default=None, metadata={"help": "λ at step 0; it rises to lam over the learning-rate warm-up. None: constant."}
    )
    lam_jitter: float = field(default=0.0, metadata={"help": "Standard deviation of the noise on λ, relative to λ."})
    gamma: float = field(default=0.95, metadata={"help": "γ in [0, 1] of the relation propagation; 0 is none."})
    propagation: Literal["product", "sum"] = field(
        default="product", metadata={"help": "product: as the released code; sum: the paper's equation."}
    )
    propagation_source: Source = field(default="loss", metadata={"help": "What product sums along the answer."})
    propagation_norm: Norm = field(default="L1", metadata={"help": "How product normalises its weights."})
    propagation_side: Side = field(
        default="left", metadata={"help": "Whether product sums over later (left) or earlier (right) tokens."}
    )
    prediction: Literal["greedy", "sampled", "expected"] = field(
        default="greedy", metadata={"help": "Which token the model is taken to say: arg-max, a sample, the top k."}
    )
    prediction_top_k: int = field(default=8, metadata={"help": "Tokens of prediction=expected."})
    loss_average: Literal["sequence", "token"] = field(
        default="sequence", metadata={"help": "sequence: mean of each sequence's mean, as the paper; token: all alike."}
    )
    freeze_mixed_embedding: bool = field(
        default=False, metadata={"help": "Keep gradients from the input embedding, as the released code does."}
    )

    def __post_init__(self) -> None:
        hints = get_type_hints(IFTConfig)
        for name in (
            "propagation",
            "propagation_source",
            "propagation_norm",
            "propagation_side",
            "prediction",
            "loss_average",
        ):
            allowed = get_args(hints[name])
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must lie in [0, 1], got {self.gamma}")
        if self.prediction_top_k < 1:
            raise ValueError(f"prediction_top_k must be at least 1, got {self.prediction_top_k}")
        ift.lam_at(0, self.lam, min_lam=self.min_lam, jitter=self.lam_jitter)  # raises by name
        super().__post_init__()


class IFTTrainer(SFTTrainer):
    """TRL's `SFTTrainer` that trains with IFT: takes the same arguments, with an `IFTConfig` as `args`.

    Logged beside SFTTrainer's own metrics: `sft_loss` (pass 1, the plain states), `mixed_loss` (token mean over the
    mixed states), `lam`, and `prediction_accuracy` (share of answer tokens that pass 1 predicted).
    """

    args: IFTConfig
    model: Any
    _tag_names = ["trl", "ift"]  # noqa: RUF012  # as its base class declares it
    _name = "IFT"

    def __init__(self, model: Any, args: IFTConfig | None = None, **kwargs: Any):
        args = args if args is not None else IFTConfig()
        if not isinstance(args, IFTConfig):
            raise ValueError(f"args must be an IFTConfig, got a {type(args).__name__}")
        if args.loss_type != "nll":
            raise ValueError(f"loss_type must be nll with IFT, got {args.loss_type!r}")
        super().__init__(model, args=args, **kwargs)
        base: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        add_residual_forward(base)

    def lam(self) -> float:
        """λ at the current step."""
        args = self.args
        return ift.lam_at(
            self.state.global_step,
            args.lam,
            min_lam=args.min_lam,
            warmup_steps=args.get_warmup_steps(self.state.max_steps),
            jitter=args.lam_jitter,
            seed=args.seed,
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """IFT's loss in training, SFT's in evaluation and where IFT is switched off (λ = 0, γ = 0, token average)."""
        args = self.args
        lam = self.lam()
        plain = lam == 0 and args.gamma == 0 and args.loss_average == "token"
        if plain or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs["use_cache"] = False
        residual = None
        if lam > 0:
            generator = None
            if args.prediction == "sampled":
                generator = torch.Generator(inputs["input_ids"].device)
                generator.manual_seed(
                    (args.seed * 1_000_003 + self.state.global_step) * 4096 + self.accelerator.process_index
                )
            residual = Residual(lam, args.prediction, args.prediction_top_k, args.freeze_mixed_embedding, generator)
        outputs: Any = model(**inputs, fused_lm_head=True, residual=residual)
        loss = self._ift_loss(outputs.log_probs, outputs.label_mask, inputs.get("position_ids"), num_items_in_batch)
        self._log_ift(outputs, lam, inputs)
        return (loss, outputs) if return_outputs else loss

    def _ift_loss(self, log_probs: Tensor, mask: Tensor, position_ids: Tensor | None, num_items: Any) -> Tensor:
        args = self.args
        if position_ids is not None:
            log_probs, mask = split_sequences(log_probs, mask, position_ids[:, 1:])
        losses = ift.ift_loss(
            log_probs,
            mask,
            args.gamma,
            form=args.propagation,
            source=args.propagation_source,
            norm=args.propagation_norm,
            side=args.propagation_side,
        )
        tokens = mask.sum(-1)
        if args.loss_average == "sequence":
            loss = losses.sum() / (tokens > 0).sum().clamp(min=1)
            # With `num_items_in_batch`, Trainer leaves gradient accumulation to the loss.
            return loss / self.current_gradient_accumulation_steps if num_items is not None else loss
        loss = (losses * tokens).sum() / torch.as_tensor(tokens.sum() if num_items is None else num_items).clamp(min=1)
        if args.average_tokens_across_devices and num_items is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients, `num_items` counts all ranks' tokens
        return loss

    def _log_ift(self, outputs: Any, lam: float, inputs: dict[str, Tensor]) -> None:
        mask = outputs.label_mask
        mixed = outputs.log_probs.detach()
        # Without a residual there is one pass, whose states are the plain ones.
        plain = getattr(outputs, "plain_log_probs", mixed)
        agrees = getattr(outputs, "agrees", outputs.is_top1)
        seen = (
            inputs["attention_mask"].sum() if "attention_mask" in inputs else mask.new_tensor(mask.shape[1] + 1).long()
        )
        sums = torch.stack(
            [
                mask.sum().float(),
                -plain.sum().float(),
                -mixed.sum().float(),
                agrees.sum().float(),
                outputs.entropy.detach().sum().float(),
                outputs.is_top1.sum().float(),
                seen.to(mask.device).float(),
            ]
        )
        count, *totals, tokens = self.accelerator.gather(sums[None]).sum(0).tolist()
        names = ("sft_loss", "mixed_loss", "prediction_accuracy", "entropy", "mean_token_accuracy")
        for name, total in zip(names, totals, strict=True):
            self._metrics["train"][name].append(total / max(count, 1))
        self._metrics["train"]["lam"].append(lam)
        self._total_train_tokens += int(tokens)
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]


def split_sequences(log_probs: Tensor, mask: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Packed rows `[rows, tokens]` as one padded row per sequence: nothing propagates across a boundary.

    A sequence begins where its position is 0, or with its row.
    """
    begins = position_ids == 0
    begins[:, 0] = True
    sequence = begins.flatten().cumsum(0) - 1
    first = begins.flatten().nonzero()[:, 0]
    place = torch.arange(len(sequence), device=sequence.device) - first[sequence]
    shape = (len(first), int(place.max()) + 1)
    index = sequence * shape[1] + place
    padded = log_probs.new_zeros(shape).flatten().scatter(0, index, log_probs.flatten()).view(shape)
    return padded, mask.new_zeros(shape).flatten().scatter(0, index, mask.flatten()).view(shape)
