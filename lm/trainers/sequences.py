"""Losses with one value per sequence in TRL's supervised trainer: their mean over an update, and what is logged."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lm.trainers.examples import KeepsExampleIds
from lm.trainers.forward import ResidualOutput
from lm.trainers.packing import sequences_with_labels, split_sequences


class AveragesSequences(KeepsExampleIds):
    """For a supervised trainer whose loss has one value per sequence; put this before the trainer class.

    Attributes:
        loss_average: whether sequences count alike (`sequence`) or by their answer tokens (`token`).
    """

    loss_average: Literal["sequence", "token"] = "sequence"

    def mean_loss(
        self,
        loss: Callable[..., Tensor],
        outputs: ResidualOutput,
        inputs: dict[str, Any],
        num_items: Any,
        **more: Tensor,
    ) -> Tensor:
        """The mean of `loss(log_probs, mask, **more)` over the update's sequences; packed rows are taken apart before.

        `num_items` counts sequences, or tokens, of the whole update; `more` are `[batch, tokens − 1]` too.
        """
        trainer: Any = self
        parts = [outputs.log_probs, outputs.label_mask, *more.values()]
        if inputs.get("position_ids") is not None:
            parts = split_sequences(parts, inputs["position_ids"][:, 1:])
        log_probs, mask, *others = parts
        losses = loss(log_probs, mask, **dict(zip(more, others, strict=True)))
        tokens = mask.sum(-1)
        counts = tokens > 0 if self.loss_average == "sequence" else tokens
        mean = (losses * counts).sum() / torch.as_tensor(counts.sum() if num_items is None else num_items).clamp(min=1)
        if trainer.args.average_tokens_across_devices and num_items is not None:
            mean = mean * trainer.accelerator.num_processes  # DDP averages gradients, `num_items` counts all ranks'
        return mean

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Sequences with a label in the micro-batches of an update, where sequences count alike; else tokens."""
        trainer: Any = self
        if self.loss_average == "token" or not batch_samples or "labels" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)  # type: ignore[misc]
        count = torch.tensor(sum(sequences_with_labels(batch) for batch in batch_samples), device=device)
        if trainer.args.average_tokens_across_devices:
            count = trainer.accelerator.gather(count).sum()
        return count

    def log_plain(self, outputs: ResidualOutput, inputs: dict[str, Tensor], **more: Tensor) -> None:
        """Note what a pass over the target's own states says: SFT's loss, entropy, accuracy, and `more` beside them."""
        mask = outputs.label_mask
        labels = inputs["labels"][:, 1:].to(mask.device)
        totals = {
            "sft_loss": -outputs.log_probs.detach(),
            "entropy": outputs.entropy,
            "mean_token_accuracy": mask & (outputs.most_likely == labels),
        }
        self.log_token_means(totals | more, mask, inputs)

    def log_token_means(self, totals: dict[str, Tensor], mask: Tensor, inputs: dict[str, Tensor]) -> None:
        """Note the mean over answer tokens of each of `totals [batch, tokens]`, and the tokens seen so far."""
        trainer: Any = self
        seen = inputs["attention_mask"] if "attention_mask" in inputs else torch.ones_like(inputs["labels"])
        sums = torch.stack([part.sum().float() for part in (seen.to(mask.device), mask, *totals.values())])
        tokens, count, *sums_of_totals = trainer.accelerator.gather(sums[None]).sum(0).tolist()
        for name, total in zip(totals, sums_of_totals, strict=True):
            trainer._metrics["train"][name].append(total / max(count, 1))
        trainer._total_train_tokens += int(tokens)
        trainer._metrics["train"]["num_tokens"] = [trainer._total_train_tokens]
