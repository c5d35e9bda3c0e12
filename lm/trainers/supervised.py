"""Methods that learn from targets: TRL's supervised trainer as it is, and with any method's loss of the core."""

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from trl import SFTConfig, SFTTrainer

import ift
from common.others_code import in_training
from ift import Method
from lm.trainers.examples import EXAMPLE_ID, KeepsExampleIds
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward
from lm.trainers.reference import KeepsReference
from lm.trainers.sequences import AveragesSequences

REFERENCE = "reference_log_probs"  # of a batch's labels, beside its tokens


class SupervisedTrainer(KeepsExampleIds, SFTTrainer):
    """TRL's SFT and DFT."""


class TargetTrainer(KeepsReference, AveragesSequences, SFTTrainer):
    """TRL's `SFTTrainer` with the loss of a method that learns from targets; sequences count alike.

    `options` are the keyword arguments of `method.loss`. With `refresh` the reference is the model itself, as it was
    before so many updates: their batches are read at once, and the model asked about all of them, before it is trained
    on them (a training that is resumed in between begins a new round). Evaluation reports SFT's loss: a number that
    methods share.
    """

    def __init__(
        self,
        model: Any,
        args: SFTConfig,
        method: Method,
        options: dict[str, Any],
        ref_model: Any = None,
        refresh: int = 0,
        **kwargs: Any,
    ):
        super().__init__(model, args=args, **kwargs)
        trainer: Any = self
        self.refuse_load_balancing(method.name)
        self.method, self.options = method, options
        self.loss_of_method = in_training(method.loss, method.name, ift.METHODS.origins)
        self.refresh = refresh
        self._read: list[tuple[list[Any], Any]] = []  # batches of coming updates, with what the reference says of them
        if method.needs_reference and not refresh:
            self.keep_reference(ref_model, continued=isinstance(model, PeftModel))
        add_residual_forward(trainer.model)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of an update; with `refresh` those of several updates are read in advance."""
        trainer: Any = super()
        if not self.refresh:
            return trainer.get_batch_samples(epoch_iterator, num_batches, device)
        if not self._read:
            for _ in range(self.refresh):
                batches, items = trainer.get_batch_samples(epoch_iterator, num_batches, device)
                if batches:
                    self._read.append((batches, items))
            for batch in (batch for batches, _ in self._read for batch in batches):
                inputs = trainer._prepare_inputs({name: part for name, part in batch.items() if name != EXAMPLE_ID})
                with torch.no_grad():
                    said = self.model_wrapped(**inputs, residual=Residual(0.0, as_reference=True))
                batch[REFERENCE] = said.log_probs.cpu()
        return self._read.pop(0) if self._read else ([], None)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The method's loss in training, SFT's in evaluation."""
        trainer: Any = self
        if not trainer.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        known = inputs.pop(REFERENCE, None)
        if known is not None:
            reference = ResidualOutput(log_probs=known)
        else:
            reference = self.ask_reference(model, inputs) if self.method.needs_reference else ResidualOutput()
        outputs: ResidualOutput
        if self.method.per_token:
            residual = Residual(0.0, token_loss=self._token_loss, reference=reference.reference)
            outputs = model(**inputs, residual=residual)
            loss = self.mean_loss(
                lambda log_probs, mask, losses: ift.masked_mean(losses, mask),
                outputs, inputs, num_items_in_batch, losses=outputs.token_losses,
            )  # fmt: skip
        else:
            outputs = model(**inputs, residual=Residual(0.0))
            reads = {"reference": reference.log_probs} if "reference" in self.method.reads else {}
            loss = self.mean_loss(self._sequence_loss, outputs, inputs, num_items_in_batch, **reads)
        self.log_plain(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def _sequence_loss(self, log_probs: Tensor, mask: Tensor, **reads: Tensor) -> Tensor:
        return self.loss_of_method(log_probs, mask, **reads, **self.options)

    def _token_loss(self, log_probs: Tensor, tokens: Tensor, policy: Tensor, reference: Tensor | None) -> Tensor:
        """The loss of answer tokens `[n]`, none of which is padding."""
        reads = {"policy": policy}
        if reference is not None:
            reads |= {"reference_policy": reference, "reference": reference.gather(-1, tokens[:, None])[:, 0]}
        mask = torch.ones_like(log_probs, dtype=torch.bool)
        return self.loss_of_method(log_probs, mask, **{name: reads[name] for name in self.method.reads}, **self.options)
