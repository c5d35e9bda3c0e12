"""Methods that learn from targets: TRL's supervised trainer as it is, and with any method's loss of the core."""

from typing import Any

from trl import SFTConfig, SFTTrainer

from ift import Method
from lm.trainers.examples import KeepsExampleIds
from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward
from lm.trainers.sequences import AveragesSequences


class SupervisedTrainer(KeepsExampleIds, SFTTrainer):
    """TRL's SFT and DFT."""


class TargetTrainer(AveragesSequences, SFTTrainer):
    """TRL's `SFTTrainer` with the loss of a method that learns from targets; sequences count alike.

    `options` are the keyword arguments of `method.loss`. Evaluation reports SFT's loss: a number that methods share.
    """

    def __init__(self, model: Any, args: SFTConfig, method: Method, options: dict[str, Any], **kwargs: Any):
        super().__init__(model, args=args, **kwargs)
        trainer: Any = self
        if trainer.aux_loss_enabled:
            raise ValueError(
                f"router_aux_loss_coef must be 0 with {method.name}: it has no load-balancing loss for experts"
            )
        self.method, self.options = method, options
        add_residual_forward(trainer.model)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The method's loss in training, SFT's in evaluation."""
        trainer: Any = self
        if not trainer.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs: ResidualOutput = model(**inputs, residual=Residual(0.0))
        loss = self.mean_loss(
            lambda log_probs, mask: self.method.loss(log_probs, mask, **self.options),
            outputs,
            inputs,
            num_items_in_batch,
        )
        mask = outputs.label_mask
        labels = inputs["labels"][:, 1:].to(mask.device)
        totals = {
            "sft_loss": -outputs.log_probs.detach(),
            "entropy": outputs.entropy,
            "mean_token_accuracy": mask & (outputs.most_likely == labels),
        }
        self.log_token_means(totals, mask, inputs)
        return (loss, outputs) if return_outputs else loss
