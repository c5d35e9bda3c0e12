"""A reference for TRL's supervised trainer: what the policy was when the training began."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.utils import use_adapter

from lm.trainers.forward import Residual, ResidualOutput, add_residual_forward

_ADAPTER = "ref"  # the name that TRL's trainers give to an adapter as it was


class KeepsReference:
    """For a supervised trainer whose loss compares with the policy that it began with; put this before its class.

    The reference is `ref_model`; without one it is the model with a new adapter switched off, or with a frozen copy of
    an adapter that is trained further, or a copy of a model without adapter.
    """

    ref_model: Any = None

    def keep_reference(self, ref_model: Any, continued: bool) -> None:
        """Take the reference; `continued` is whether the model came with the adapter that is trained."""
        trainer: Any = self
        if ref_model is None and not isinstance(trainer.model, PeftModel):
            ref_model = copy.deepcopy(trainer.model).requires_grad_(False)
        if ref_model is not None:
            add_residual_forward(ref_model)
            self.ref_model = trainer.accelerator.prepare_model(ref_model, evaluation_mode=True)
        elif continued:
            _copy_adapter(trainer.model)

    def ask_reference(self, model: Any, inputs: Any) -> ResidualOutput:
        """What the reference says of a batch, without gradient."""
        trainer: Any = self
        with torch.no_grad(), self._as_reference(trainer.accelerator.unwrap_model(model)):
            return (self.ref_model or model)(**inputs, residual=Residual(0.0, as_reference=True))

    def _as_reference(self, model: Any) -> AbstractContextManager[None]:
        if self.ref_model is not None:
            return nullcontext()
        return use_adapter(model, _ADAPTER if _ADAPTER in model.peft_config else None)


def _copy_adapter(model: PeftModel) -> None:
    """Add a frozen copy of the adapter that is trained, as TRL's `DPOTrainer` does."""
    trained = model.active_adapter
    model.add_adapter(_ADAPTER, model.peft_config[trained])
    for name, weight in model.named_parameters():
        if f".{_ADAPTER}." in name:
            weight.data.copy_(model.get_parameter(name.replace(f".{_ADAPTER}.", f".{trained}.")).data)
