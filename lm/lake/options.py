"""The options of `python -m lm.lake`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Data:
    """Write examples to a file that any trainer reads: `prompt`, `chosen`, `rejected`, `worse`; or `completion`."""

    out: Path
    """File, .jsonl or .parquet."""
    rows: int = 1024
    """Number of examples; each has a map of its own, on slippery ice ten share one."""
    kind: Literal["walk", "move", "noisy"] = "walk"
    """walk: an optimal walk and a worse one. move: on slippery ice, a best next move and another. noisy: a walk with
    30 % random moves, what the small base model has read."""
    own: str | None = None
    """Folder of a model, or tiny-lake: what is rejected is its own sampled walk."""
    split: Literal["train", "dev", "test"] = "train"
    """Which of the maps."""
    size: int = 4
    """Rows and columns of a map, 2 to 12."""
    seed: int = 0
    """Seed of maps, ties and rejected walks."""
    english: Flag = False
    """Ask in plain English instead of the small model's words."""
    same_tie: Flag = False
    """Of several best moves always take the first of left, down, right, up (not in noisy walks)."""

    def check(self) -> None:
        """Raise `ValueError` for a bad option."""
        if self.out.suffix not in (".jsonl", ".parquet"):
            raise ValueError(f"out must end in .jsonl or .parquet, got {str(self.out)!r}")
        require(self, "rows", self.rows >= 1, "at least 1")
        require(self, "seed", self.seed >= 0, "0 or more")
        require(self, "size", 2 <= self.size <= 12, "in [2, 12]")
        require(self, "own", self.own is None or self.kind == "walk", "left out unless kind is walk")


@dataclass(frozen=True)
class Score:
    """Score a model, without a judge: its play, and in every cell the distance to the optimal policy."""

    model: str = "tiny-lake"
    """Folder with config, tokenizer and safetensors (or an adapter), .gguf file, name of the Hub, or tiny-lake, the
    small base model."""
    maps: int = 200
    """Number of unseen maps."""
    split: Literal["dev", "test"] = "test"
    """dev to choose by, test to report."""
    size: int = 4
    """Rows and columns, 2 to 8; the small model has seen 4."""
    holes: float = 0.25
    """Share of holes; the small model has seen 0.25."""
    new_ends: Flag = False
    """Maps whose placement of start and goal occurs in no training map."""
    wrong_first: Flag = False
    """After a wrong first move that is made for the model: can it still reach the goal? Maps without such a
    move are left out."""
    slippery: Flag = False
    """Slippery ice, a move at a time."""
    english: Flag = False
    """Ask in plain English, for models that have not learned the small model's words."""
    seed: int = 1
    """Seed of the maps."""
    out: Path | None = None
    """JSON file for options and scores."""

    def check(self) -> None:
        """Raise `ValueError` for a bad option."""
        require(self, "maps", self.maps >= 1, "at least 1")
        require(self, "size", 2 <= self.size <= 8, "in [2, 8]")
        require(self, "holes", 0 <= self.holes <= 0.6, "in [0, 0.6]")
        require(self, "seed", self.seed >= 0, "0 or more")
        require(self, "wrong_first", not (self.wrong_first and self.slippery), "off on slippery ice")


def require(options: Any, name: str, holds: bool, allowed: str) -> None:
    """Raise `ValueError` with the option's name and value, and what is allowed, unless it holds."""
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {getattr(options, name)}")
