"""What the harness calls for `frozen_lake`: maps as documents, and how each answer ends."""

from typing import Any

import numpy as np
from datasets import Dataset

from lm.lake.play import judged
from lm.lake.teacher import examples


def lakes(maps: int = 500, size: int = 4, english: bool = True, seed: int = 0, **_: Any) -> dict[str, Dataset]:
    """Test maps, and training maps for few-shot examples; `--metadata` sets the arguments."""
    counts = {"train": 64, "test": maps}
    return {
        split: Dataset.from_list(examples(count, split, seed, size=size, english=english))
        for split, count in counts.items()
    }


def results(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """Shares of one map: `success`, `shortest`, `hole`, `no_move`."""
    outcome, walk = judged(_map_of(doc["prompt"]), answers[0], ended=True)
    return {
        "success": float(outcome == "goal"),
        "shortest": float(outcome == "goal" and len(walk) == len(doc["chosen"].split())),
        "hole": float(outcome == "hole"),
        "no_move": float(outcome == "no move"),
    }


def _map_of(prompt: str) -> np.ndarray:
    """The map in a prompt, in plain English between the first and the last line."""
    lines = prompt.split("\n")
    letters = [word for line in (lines[1:-1] or lines) for word in line.split() if word in "SFHG"]
    size = int(len(letters) ** 0.5)
    return np.array(letters).reshape(size, size)
