"""What a trainer keeps per example: its number in the batch, and what the model last said of it."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor

from toy.memory import peak_gigabytes

EXAMPLE_ID = "example_id"


class NonFiniteLossError(RuntimeError):
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

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if EXAMPLE_ID not in self._signature_columns:  # type: ignore[has-type]
            self._signature_columns = [*self._signature_columns, EXAMPLE_ID]  # type: ignore[has-type]

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
        file.parent.mkdir(parents=True, exist_ok=True)
        step = trainer.state.global_step
        file.write_text(json.dumps({"step": step, "loss": str(loss), EXAMPLE_ID: ids}) + "\n")
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


class Predictions:
    """The token that the model last said in place of each answer token, by example."""

    def __init__(self) -> None:
        self.tokens: dict[int, Tensor] = {}

    def know(self, ids: Tensor) -> bool:
        """Whether every one of the examples has been seen."""
        return all(i in self.tokens for i in ids.tolist())

    def store(self, ids: Tensor, tokens: Tensor, answer: Tensor) -> None:
        """Keep `tokens [batch, tokens]` where `answer` is set."""
        rows = zip(ids.tolist(), tokens.to("cpu", torch.int32), answer.cpu(), strict=True)
        self.tokens.update({i: row[mask] for i, row, mask in rows})

    def recall(self, ids: Tensor, answer: Tensor) -> Tensor:
        """What was stored, `[batch, tokens]`, 0 where `answer` is not set."""
        said = torch.cat([self.tokens[i] for i in ids.tolist()]).long().to(answer.device)
        return torch.zeros_like(answer, dtype=torch.long).masked_scatter(answer, said)

    def save(self, file: Path) -> None:
        """Write them as safetensors; nothing is left half-written."""
        if self.tokens:
            ids = torch.tensor(list(self.tokens))
            lengths = torch.tensor([len(row) for row in self.tokens.values()])
            file.parent.mkdir(parents=True, exist_ok=True)
            parts = {"ids": ids, "lengths": lengths, "tokens": torch.cat(list(self.tokens.values()))}
            save_file(parts, file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)

    def load(self, file: Path) -> None:
        """Read what `save` wrote; nothing if there is no such file."""
        if file.exists():
            parts = load_file(file)
            rows = parts["tokens"].split(parts["lengths"].tolist())
            self.tokens = dict(zip(parts["ids"].tolist(), rows, strict=True))


def sequences_with_labels(batch: dict[str, Any]) -> int:
    """How many sequences of a batch have an answer token that is predicted; packed rows hold several."""
    mask = batch["labels"][:, 1:] != -100
    if batch.get("position_ids") is not None:
        _, mask = split_sequences(mask.float(), mask, batch["position_ids"][:, 1:])
    return int(mask.any(-1).sum())


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
