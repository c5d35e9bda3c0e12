"""IFT as a drop-in for TRL's supervised trainer: `IFTConfig` for `SFTConfig`, `IFTTrainer` for `SFTTrainer`."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTTrainer

import ift
from lm.trainers.config import IFTConfig
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward
from lm.trainers.predictions import FILE, Predictions
from lm.trainers.sequences import AveragesSequences


class IFTTrainer(AveragesSequences, SFTTrainer):
    """TRL's `SFTTrainer` that trains with IFT: takes the same arguments, with an `IFTConfig` as `args`.

    Logged beside SFTTrainer's own metrics: `sft_loss` (pass 1, the plain states), `mixed_loss` (token mean over the
    mixed states), `lam`, `prediction_accuracy` (share of answer tokens that were predicted), `tokens_per_second`.
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
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError("compute_loss_func must be None with IFT: the loss is IFT's")
        super().__init__(model, args=args, **kwargs)
        self.refuse_load_balancing("IFT")
        if args.prediction == "lagged" and not isinstance(self.train_dataset, Dataset):
            raise ValueError("prediction='lagged' needs a map-style data set: a streamed one has no second epoch")
        add_residual_forward(self.model)
        self.loss_average = args.loss_average
        self._predictions = Predictions()
        if args.prediction == "lagged" and args.first_predictions not in ("fresh", "none"):
            self._predictions.load(_predictions_file(args.first_predictions))
        self._draws: tuple[int, torch.Generator | None] = (-1, None)  # of which step, from where

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
        residual = self._residual(lam, inputs["labels"])
        outputs: ResidualOutput = model(**inputs, residual=residual)
        if args.prediction == "lagged":
            self._remember(outputs)
        loss = self.mean_loss(self._ift_loss, outputs, inputs, num_items_in_batch)
        self._log_ift(outputs, residual, inputs)
        return (loss, outputs) if return_outputs else loss

    def _residual(self, lam: float, labels: Tensor) -> Residual:
        args = self.args
        options: dict[str, Any] = {"top_k": args.prediction_top_k, "freeze_embedding": args.freeze_mixed_embedding}
        options["replaced"] = args.residual == "replaced"
        if (options["replaced"] or args.prediction == "sampled") and self._draws[0] != self.state.global_step:
            generator = torch.Generator(labels.device)
            generator.manual_seed(
                (args.seed * 1_000_003 + self.state.global_step) * 4096 + self.accelerator.process_index
            )
            self._draws = (self.state.global_step, generator)  # goes on over the micro-batches of an update
        options["generator"] = self._draws[1]
        if args.prediction == "lagged":
            # Wrappers need the same calls on every rank: a rank that has to run pass 1 makes the others run it too.
            known = self._example_ids is not None and self._predictions.know(self._example_ids)
            unknown = self.accelerator.reduce(torch.tensor(int(not known), device=labels.device)).item()
            if unknown and self.args.first_predictions == "none":
                lam = 0.0  # the one pass over plain states is the one that trains; what it says is kept
            elif lam > 0 and not unknown:
                options["predicted"] = self._predictions.recall(self._example_ids, labels[:, 1:] != -100)
            return Residual(lam, **options)
        return Residual(lam, prediction=args.prediction, **options)

    def _remember(self, outputs: ResidualOutput) -> None:
        """Keep what the model said: under the plain states if pass 1 ran, else under the mixed ones, for no cost."""
        said = outputs.most_likely if outputs.predicted is None else outputs.predicted
        whole: Any = self.accelerator
        parts = (whole.pad_across_processes(part, dim=1) for part in (said, outputs.label_mask.long()))
        ids, tokens, answer = whole.gather((self._example_ids, *parts))
        self._predictions.store(ids, tokens, answer.bool())

    def _ift_loss(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        args = self.args
        return ift.ift_loss(
            log_probs, mask, args.gamma, form=args.form, source=args.source, norm=args.norm, side=args.side
        )

    def _log_ift(self, outputs: ResidualOutput, residual: Residual, inputs: dict[str, Tensor]) -> None:
        mask, labels = outputs.label_mask, inputs["labels"][:, 1:].to(outputs.label_mask.device)
        mixed = outputs.log_probs.detach()
        predicted = residual.predicted if outputs.predicted is None else outputs.predicted
        predicted = outputs.most_likely if predicted is None else predicted  # λ = 0: one pass, over plain states
        plain = mixed if residual.lam == 0 else outputs.plain_log_probs
        totals = {
            "mixed_loss": -mixed,
            "prediction_accuracy": mask & (predicted.to(mask.device) == labels),
            "entropy": outputs.entropy,
            "mean_token_accuracy": mask & (outputs.most_likely == labels),
        }
        totals |= {} if plain is None else {"sft_loss": -plain}  # lagged predictions have no pass over plain states
        self.log_token_means(totals, mask, inputs)
        self._metrics["train"]["lam"].append(residual.lam)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.args.should_save:  # first: a checkpoint counts as whole once the trainer's state is there
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            self._predictions.save(folder / FILE)
        super()._save_checkpoint(model, trial)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """TRL's training; a resumed one has the predictions of its checkpoint."""
        checkpoint = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = get_last_checkpoint(self.args.output_dir)
        if checkpoint:
            self._predictions.load(Path(checkpoint) / FILE)
        return super().train(resume_from_checkpoint, *args, **kwargs)


def _predictions_file(folder: str) -> Path:
    """The predictions in a checkpoint's folder; raises `ValueError` where there are none."""
    file = Path(folder) / FILE
    if not file.is_file():
        raise ValueError(
            f"first_predictions must be fresh, none, or the folder of a checkpoint with {FILE}, which runs with lagged "
            f"predictions keep; got {folder!r}"
        )
    return file
