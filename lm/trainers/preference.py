"""Methods that learn from pairs: TRL's trainers over data that is tokens already, and any method's loss of the core."""

from typing import Any

from datasets import Dataset, interleave_datasets
from torch import Tensor
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

import ift
from common.others_code import in_training
from ift import Method
from lm.trainers.examples import KeepsExampleIds
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward


class PreferenceTrainer(KeepsExampleIds, DPOTrainer):
    """TRL's DPO and IPO, over pairs that are tokens already: `prompt_ids`, `chosen_ids`, `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class PairTrainer(PreferenceTrainer):
    """TRL's pairs with the loss of any method that learns from them.

    The loss takes summed or mean log-probabilities of the answers' tokens, as `method.answer` says, and those of the
    reference if the method needs one, as TRL's `DPOTrainer` computes them. `options` are its keyword arguments.
    """

    def __init__(self, model: Any, args: DPOConfig, method: Method, options: dict[str, Any], **kwargs: Any):
        self.method, self.options = method, options
        self.loss_of_method = in_training(method.loss, method.name, ift.METHODS.origins)
        if not method.needs_reference:
            # DPOTrainer then keeps no reference model (under FSDP it loads one and drops it).
            args.precompute_ref_log_probs = True
        super().__init__(model, args=args, **kwargs)
        self.refuse_load_balancing(method.name)
        add_residual_forward(self.model)

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any) -> Dataset:
        if not self.method.needs_reference:
            return dataset  # nothing is computed
        return super()._precompute_ref_logps(dataset, *args)

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        mask = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        outputs: ResidualOutput = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            residual=Residual(0.0),
        )
        if self.method.answer == "mean":
            answers = ift.masked_mean(outputs.log_probs, outputs.label_mask)
        else:
            answers = outputs.log_probs.sum(-1)  # 0 where there is no label
        chosen, rejected = answers.chunk(2)
        reference = self._reference(inputs, outputs.label_mask) if self.method.needs_reference else ()
        losses = self.loss_of_method(chosen, rejected, *reference, **self.options)
        self._log_pairs(outputs, chosen.detach(), rejected.detach(), reference, inputs["attention_mask"])
        return (losses.mean(), outputs) if return_outputs else losses.mean()

    def _reference(self, inputs: Any, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The reference's log-probabilities of chosen and rejected answers, `[pairs]` each."""
        if self.precompute_ref_logps:
            chosen, rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            chosen, rejected = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        if self.method.answer == "mean":
            chosen_tokens, rejected_tokens = mask.sum(-1).clamp(min=1).chunk(2)
            chosen, rejected = chosen / chosen_tokens, rejected / rejected_tokens
        return chosen, rejected

    def _log_pairs(
        self, outputs: ResidualOutput, chosen: Tensor, rejected: Tensor, reference: tuple[Tensor, ...], seen: Tensor
    ) -> None:
        mode = "train" if self.model.training else "eval"
        gains = chosen - rejected
        if reference:
            gains = gains - (reference[0] - reference[1])
        values = {
            "logps/chosen": chosen,
            "logps/rejected": rejected,
            "rewards/margins": self.options.get("beta", 1.0) * gains,
            "rewards/accuracies": (gains > 0).float(),
            "entropy": ift.masked_mean(outputs.entropy, outputs.label_mask),
        }
        for name, value in values.items():
            self._metrics[mode][name].append(self.accelerator.gather(value).mean().item())
        if mode == "train":
            self._total_train_tokens += int(self.accelerator.gather(seen.sum()).sum())
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]


class UnpairedTrainer(KeepsExampleIds, KTOTrainer):
    """TRL's KTO, over answers that are tokens already: `prompt_ids`, `completion_ids`, `label`."""

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: KTOConfig, name: str) -> Dataset:
        # KTO estimates its KL from prompts with another example's answer: each batch's answers, turned by one.
        def turned(batch: dict[str, list]) -> dict[str, list]:
            answers = batch["completion_ids"]
            return {"KL_completion_ids": [answers[-1], *answers[:-1]]}

        return dataset.map(turned, batched=True, batch_size=args.per_device_train_batch_size)


def unpaired(pairs: Dataset) -> Dataset:
    """Chosen and rejected answers of encoded pairs, alternating, for KTO; answers that have a label already stay.

    A rejected answer stands half the data away from its chosen one, so that neighbours have different prompts: KTO's
    estimate of the KL gives each prompt its neighbour's answer.
    """
    if "label" in pairs.column_names:
        return pairs
    chosen = pairs.select_columns(["prompt_ids", "chosen_ids"]).rename_column("chosen_ids", "completion_ids")
    rejected = pairs.select_columns(["prompt_ids", "rejected_ids"]).rename_column("rejected_ids", "completion_ids")
    away = [(i + max(len(pairs) // 2, 2)) % len(pairs) for i in range(len(pairs))]
    chosen = chosen.add_column("label", [True] * len(chosen))
    rejected = rejected.select(away).add_column("label", [False] * len(rejected))
    return interleave_datasets([chosen, rejected])
