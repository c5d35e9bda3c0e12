"""What the harness calls for `alpaca_answers`."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset


def instructions(file: str = "", **_: Any) -> dict[str, Dataset]:
    """The rows of a JSON file in AlpacaEval's format: `instruction`, the reference's `output`, `dataset`."""
    rows = json.loads(Path(file).read_text(encoding="utf-8"))
    names = ("instruction", "output", "generator", "dataset")
    return {"test": Dataset.from_list([{name: row.get(name, "") for name in names} for row in rows])}


def results(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """The length of an answer, in words."""
    return {"words": float(len(answers[0].split()))}
