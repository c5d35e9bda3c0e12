"""For TRL's trainers: batches that know their examples, a stop at a bad loss, tokens per second in the log."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from common.command import FailedError
from common.folders import write_json
from common.memory import peak_gigabytes

EXAMPLE_ID = "example_id"


class NonFiniteLossError(FailedError):
    """The loss of a batch is not a number; the ids of its examples are in a file that the message names."""


class KeepsExampleIds:
    """For TRL trainers over a map-style data set: batches know their examples, a bad loss stops the run, tokens/s.

    An example's id is its row in the prepared `train_dataset`. Put this before the trainer class.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._example_ids: Any = None
        self._clock = (time.perf_counter(), 0, 0)  # when the last line was logged, tokens and updates by then
        self.train_dataset: Any
        if isinstance(self.train_dataset, Dataset) and self.train_dataset.format["type"] != "custom":
            self.train_dataset = self.train_dataset.add_column(EXAMPLE_ID, list(range(len(self.train_dataset))))
            self.data_collator: Any = _WithIds(self.data_collator)

    def refuse_load_balancing(self, method: str) -> None:
        """Raise `ValueError` where TRL would add a load-balancing loss of experts: our losses have no place for it."""
        trainer: Any = self
        if trainer.aux_loss_enabled:
            raise ValueError(f"router_aux_loss_coef must be 0 with {method}: it has no load-balancing loss for experts")

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if EXAMPLE_ID not in self._signature_columns:  # type: ignore[has-type]
            self._signature_columns = [*self._signature_columns, EXAMPLE_ID]  # type: ignore[has-type]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The trainer's, unless a checkpoint of the last update is gone on from: transformers would train another."""
        trainer: Any = self
        if self._counts_alone():  # of the checkpoint that is gone on from
            trainer._total_train_tokens = max(trainer._total_train_tokens, trainer.state.num_input_tokens_seen)
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        trainer: Any = self
        if self._counts_alone():  # TRL forgets its count of tokens, the trainer's state has room for one
            trainer.state.num_input_tokens_seen = trainer._total_train_tokens
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def _counts_alone(self) -> bool:
        """Whether transformers was not asked for a count of tokens of its own."""
        trainer: Any = self
        return trainer.args.include_num_input_tokens_seen in (False, "no")

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """The trainer's step; raises `NonFiniteLossError` before the optimiser can use a bad gradient."""
        self._example_ids = inputs.pop(EXAMPLE_ID, None)
        loss: Tensor = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if not math.isfinite(loss.item()):
            self._stop(loss.item())
        return loss

    def _stop(self, loss: float) -> None:
        trainer: Any = self
        ids = [] if self._example_ids is None else self._example_ids.tolist()
        file = Path(trainer.args.output_dir) / f"nonfinite-loss-{trainer.accelerator.process_index}.json"
        step = trainer.state.global_step
        write_json(file, {"step": step, "loss": str(loss), EXAMPLE_ID: ids})
        raise NonFiniteLossError(
            f"the loss is {loss} at step {step}: stopped before the update; the batch's example ids are in {file}. "
            "A smaller learning rate or float32 often helps"
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The trainer's log; since its last line: training tokens without padding per second, seconds per update."""
        trainer: Any = self
        if trainer.model.training:
            (then, tokens, updates), now = self._clock, time.perf_counter()
            self._clock = (now, trainer._total_train_tokens, trainer.state.global_step)
            if self._clock[1] > tokens > 0:  # the first interval holds the start-up
                logs["tokens_per_second"] = (self._clock[1] - tokens) / (now - then)
                logs["seconds_per_update"] = (now - then) / max(self._clock[2] - updates, 1)
            on_gpu = torch.cuda.is_available()
            logs["peak_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_gigabytes()
        super().log(logs, *args, **kwargs)  # type: ignore[misc]


class _WithIds:
    def __init__(self, collator: Any):
        self.collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [example.pop(EXAMPLE_ID) for example in examples if EXAMPLE_ID in example]
        batch = self.collator(examples)
        return {**batch, EXAMPLE_ID: torch.tensor(ids)} if ids else batch

    def __getattr__(self, name: str) -> Any:  # TRL reads options of its collators
        if name == "collator":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.collator, name)
