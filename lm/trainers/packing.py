"""Packed rows, in which several sequences stand one after another: where each begins and ends."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def sequences_with_labels(batch: dict[str, Any]) -> int:
    """How many sequences of a batch have an answer token that is predicted; packed rows hold several."""
    mask = batch["labels"][:, 1:] != -100
    if batch.get("position_ids") is not None:
        (mask,) = split_sequences((mask,), batch["position_ids"][:, 1:])
    return int(mask.any(-1).sum())


def split_sequences(parts: Sequence[Tensor], position_ids: Tensor) -> list[Tensor]:
    """Packed rows `[rows, tokens]` as one row per sequence, padded with 0: nothing propagates across a boundary.

    A sequence begins where its position is 0, or with its row.
    """
    begins = position_ids == 0
    begins[:, 0] = True
    sequence = begins.flatten().cumsum(0) - 1
    first = begins.flatten().nonzero()[:, 0]
    place = torch.arange(len(sequence), device=sequence.device) - first[sequence]
    shape = (len(first), int(place.max()) + 1)
    index = sequence * shape[1] + place
    return [part.new_zeros(shape).flatten().scatter(0, index, part.flatten()).view(shape) for part in parts]
