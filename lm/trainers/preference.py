"""TRL's other trainers over data that is tokens already, and the core's losses of pairs where TRL has none."""

from typing import Any

from datasets import Dataset, interleave_datasets
from torch import Tensor
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTTrainer

import ift
from lm.trainers.examples import KeepsExampleIds
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward


class SupervisedTrainer(KeepsExampleIds, SFTTrainer):
    """TRL's SFT and DFT."""


class PreferenceTrainer(KeepsExampleIds, DPOTrainer):
    """TRL's DPO and IPO, over pairs that are tokens already: `prompt_ids`, `chosen_ids`, `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class PreferenceWithoutReferenceTrainer(PreferenceTrainer):
    """ORPO and SimPO: TRL's pairs, the core's loss of mean token log-probabilities, no reference model."""

    def __init__(self, model: Any, args: DPOConfig, method: str, margin: float, **kwargs: Any):
        # DPOTrainer then keeps no reference model (under FSDP it loads one and drops it); nothing is computed below.
        args.precompute_ref_log_probs = True
        super().__init__(model, args=args, **kwargs)
        if self.aux_loss_enabled:
            raise ValueError(f"router_aux_loss_coef must be 0 with {method}: it has no load-balancing loss for experts")
        self.method, self.margin = method, margin
        add_residual_forward(self.model)

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        mask = inputs["completion_mask"]
        labels = inputs["input_ids"].masked_fill(mask == 0, -100)
        outputs: ResidualOutput = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            residual=Residual(0.0),
        )
        chosen, rejected = ift.masked_mean(outputs.log_probs, outputs.label_mask).chunk(2)
        if self.method == "orpo":
            losses = ift.orpo_loss(chosen, rejected, self.beta)
        else:
            losses = ift.simpo_loss(chosen, rejected, self.beta, self.margin)
        self._log_pairs(outputs, chosen.detach(), rejected.detach(), inputs["attention_mask"])
        return (losses.mean(), outputs) if return_outputs else losses.mean()

    def _log_pairs(self, outputs: ResidualOutput, chosen: Tensor, rejected: Tensor, seen: Tensor) -> None:
        mode = "train" if self.model.training else "eval"
        values = {
            "logps/chosen": chosen,
            "logps/rejected": rejected,
            "rewards/margins": self.beta * (chosen - rejected),
            "rewards/accuracies": (chosen > rejected).float(),
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
    """Chosen and rejected answers of encoded pairs, alternating, for KTO.

    A rejected answer stands half the data away from its chosen one, so that neighbours have different prompts: KTO's
    estimate of the KL gives each prompt its neighbour's answer.
    """
    chosen = pairs.select_columns(["prompt_ids", "chosen_ids"]).rename_column("chosen_ids", "completion_ids")
    rejected = pairs.select_columns(["prompt_ids", "rejected_ids"]).rename_column("rejected_ids", "completion_ids")
    away = [(i + max(len(pairs) // 2, 2)) % len(pairs) for i in range(len(pairs))]
    chosen = chosen.add_column("label", [True] * len(chosen))
    rejected = rejected.select(away).add_column("label", [False] * len(rejected))
    return interleave_datasets([chosen, rejected])
