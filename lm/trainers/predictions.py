"""What the model last said of each example's answer tokens: IFT's predictions without a pass of their own."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.command import FailedError
from common.folders import write_whole

FILE = "predictions.safetensors"  # in a checkpoint's folder


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
        """What was stored, `[batch, tokens]`, 0 where `answer` is not set; `FailedError` where lengths differ."""
        for i, wanted in zip(ids.tolist(), answer.sum(-1).tolist(), strict=True):
            if len(self.tokens[i]) != wanted:
                raise FailedError(
                    f"first_predictions have {len(self.tokens[i])} tokens for example {i}, whose answer has {wanted} "
                    "here: take those of a run on the same data, cut alike"
                )
        said = torch.cat([self.tokens[i] for i in ids.tolist()]).long().to(answer.device)
        return torch.zeros_like(answer, dtype=torch.long).masked_scatter(answer, said)

    def save(self, file: Path) -> None:
        """Write them as safetensors; nothing is left half-written."""
        if self.tokens:
            ids = torch.tensor(list(self.tokens))
            lengths = torch.tensor([len(row) for row in self.tokens.values()])
            file.parent.mkdir(parents=True, exist_ok=True)
            parts = {"ids": ids, "lengths": lengths, "tokens": torch.cat(list(self.tokens.values()))}
            write_whole(file, lambda part: save_file(parts, part))

    def load(self, file: Path) -> None:
        """Read what `save` wrote; nothing if there is no such file."""
        if file.exists():
            parts = load_file(file)
            rows = parts["tokens"].split(parts["lengths"].tolist())
            self.tokens = dict(zip(parts["ids"].tolist(), rows, strict=True))
