"""Each method as a trainer: TRL's where TRL has it, TRL's data path with the core's loss where it has not."""

import dataclasses
from typing import Any

from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

import ift
from lm.batches import KeepsExampleIds
from lm.config import IFTConfig
from lm.forward import Residual, ResidualOutput, add_residual_forward
from lm.settings import IFTOptions, Settings
from lm.trainer import IFTTrainer


class SupervisedTrainer(KeepsExampleIds, SFTTrainer):
    """TRL's SFT and DFT."""


class PreferenceTrainer(KeepsExampleIds, DPOTrainer):
    """TRL's DPO and IPO, over pairs that are tokens already: `prompt_ids`, `chosen_ids`, `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class PreferenceWithoutReferenceTrainer(PreferenceTrainer):
    """ORPO and SimPO: TRL's pairs, the core's loss of mean token log-probabilities, no reference model."""

    def __init__(self, model: Any, args: DPOConfig, method: str, margin: float, **kwargs: Any):
        args.precompute_ref_log_probs = True  # DPOTrainer then keeps no reference model; nothing is computed below
        super().__init__(model, args=args, **kwargs)
        self.method, self.margin = method, margin
        add_residual_forward(self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model)

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
    """Chosen and rejected answers of encoded pairs, one after the other, for KTO."""

    def both(batch: dict[str, list]) -> dict[str, list]:
        answers = list(zip(batch["chosen_ids"], batch["rejected_ids"], strict=True))
        return {
            "prompt_ids": [prompt for prompt in batch["prompt_ids"] for _ in range(2)],
            "completion_ids": [answer for pair in answers for answer in pair],
            "label": [good for _ in answers for good in (True, False)],
        }

    return pairs.map(both, batched=True, remove_columns=pairs.column_names, desc="Taking pairs apart")


def make_trainer(
    settings: Settings,
    options: dict[str, Any],
    model: Any,
    reference: Any,
    data: Dataset,
    eval_data: Any,
    **others: Any,
) -> Any:
    """The trainer of `settings.method`; `options` go to its TRL configuration, `others` to the trainer.

    Raises:
        ValueError: an option that the configuration does not have or refuses.
    """
    method, beta = settings.method, settings.beta_or_default
    others |= {"train_dataset": data, "eval_dataset": eval_data}
    if method == "ift":
        mine = {option.name: getattr(settings, option.name) for option in dataclasses.fields(IFTOptions)}
        return IFTTrainer(model, args=configure(IFTConfig, **options, **mine), **others)
    if method in ("sft", "dft"):
        args = configure(SFTConfig, **options, loss_type="nll" if method == "sft" else "dft")
        return SupervisedTrainer(model, args=args, **others)
    if method == "kto":
        others |= {"train_dataset": unpaired(data), "eval_dataset": eval_data and unpaired(eval_data)}
        return UnpairedTrainer(model, args=configure(KTOConfig, **options, beta=beta), ref_model=reference, **others)
    args = configure(DPOConfig, **options, beta=beta, label_smoothing=settings.label_smoothing)
    if method in ("orpo", "simpo"):
        return PreferenceWithoutReferenceTrainer(model, args, method=method, margin=settings.margin, **others)
    args.loss_type = ["sigmoid" if method == "dpo" else "ipo"]
    return PreferenceTrainer(model, args=args, ref_model=reference, **others)


def configure(kind: type, **options: Any) -> Any:
    """A TRL configuration; raises `ValueError` for an option that it does not have."""
    known = {option.name for option in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            raise ValueError(f"trainer: {kind.__name__} has no option {name!r}")
    return kind(**options)
