"""Write examples of the lake in words to a file that any trainer reads: `python -m lm.lake_data --out lake.jsonl`.

A row has `prompt`, `chosen` (an optimal walk), `rejected` and `worse` (why it was rejected). Splits are of maps, by
hash: no map of one is in another, not even turned or mirrored.

Examples:
  python -m lm.lake_data --rows 50000 --out walks.jsonl
  python -m lm.lake_data --split test --size 6 --english --out test.parquet
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from lm import lake


@dataclass(frozen=True)
class Options:
    """Which examples, and where they go."""

    out: Path
    """File, .jsonl or .parquet."""
    rows: int = 1024
    """Number of maps; each occurs once."""
    split: Literal["train", "dev", "test"] = "train"
    """Which of the maps."""
    size: int = 4
    """Rows and columns of a map, 2 to 12."""
    seed: int = 0
    """Of maps, ties and rejected walks."""
    english: tyro.conf.FlagCreatePairsOff[bool] = False
    """Ask in plain English instead of the small model's words."""
    same_tie: tyro.conf.FlagCreatePairsOff[bool] = False
    """Of several best moves always take the first of left, down, right, up."""


def write(options: Options) -> None:
    """Make the rows and write them, whole or not at all; raises `ValueError` for a bad option."""
    if options.out.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"out must end in .jsonl or .parquet, got {str(options.out)!r}")
    if options.rows < 1:
        raise ValueError(f"rows must be at least 1, got {options.rows}")
    if options.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {options.seed}")
    if not 2 <= options.size <= 12:
        raise ValueError(f"size must lie in [2, 12], got {options.size}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    examples = lake.examples(
        options.rows,
        options.split,
        options.seed,
        size=options.size,
        english=options.english,
        same_tie=options.same_tie,
    )
    rows = pd.DataFrame(examples)
    part = options.out.with_name(f".{options.out.name}.part")
    if options.out.suffix == ".parquet":
        rows.to_parquet(part, index=False)
    else:
        rows.to_json(part, orient="records", lines=True, force_ascii=False)
    part.replace(options.out)


def main() -> None:
    """The command: bad input is one line and exit code 2."""
    options = tyro.cli(Options, prog="python -m lm.lake_data", description=__doc__)
    try:
        write(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"Written to {options.out}: {options.rows} rows")


if __name__ == "__main__":
    main()
