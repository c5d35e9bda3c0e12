"""The lake in words: examples for any trainer, scores of any model, a comparison of the methods.

Examples:
  python -m lm.lake data --rows 50000 --out walks.jsonl
  python -m lm.lake score --model results/lm-ift/model --size 5 --holes 0.35 --out scores.json
  python -m lm.lake compare --quick
"""

import json
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
import tyro

from common.folders import write_whole
from experiments.lake_language import compare, table
from lm.lake.examples import examples, own_pairs
from lm.lake.maps import random_maps, wrong_first_moves
from lm.lake.scores import means, score_model
from lm.train import models
from lm.train.__main__ import quieten

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
    """Of maps, ties and rejected walks."""
    english: Flag = False
    """Ask in plain English instead of the small model's words."""
    same_tie: Flag = False
    """Of several best moves always take the first of left, down, right, up (not in noisy walks)."""


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
    """The first move is made for the model, and is wrong: does it find back? Maps without such a move are left out."""
    slippery: Flag = False
    """Slippery ice, a move at a time."""
    english: Flag = False
    """Ask in plain English, for models that have not learned the small model's words."""
    seed: int = 1
    """Of the maps."""
    out: Path | None = None
    """JSON file for options and scores."""


@dataclass(frozen=True)
class Compare:
    """Every method from the same base models, with the same number of updates and of settings to choose from."""

    out: Path = Path("results/figures/lake-language-runs")
    """Folder for the results; the same command goes on with what is there. `python -m figures lake-language` draws
    them."""
    quick: Flag = False
    """Fewer seeds, maps and settings, in a folder beside it."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def write_data(options: Data) -> None:
    """Make the rows and write them, whole or not at all; raises `ValueError` for a bad option."""
    if options.out.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"out must end in .jsonl or .parquet, got {str(options.out)!r}")
    _require(options, "rows", options.rows >= 1, "at least 1")
    _require(options, "seed", options.seed >= 0, "0 or more")
    _require(options, "size", 2 <= options.size <= 12, "in [2, 12]")
    how: dict[str, Any] = {"size": options.size, "english": options.english, "same_tie": options.same_tie}
    if options.own is None:
        made = examples(options.rows, options.split, options.seed, kind=options.kind, **how)
    else:
        _require(options, "own", options.kind == "walk", "left out unless kind is walk")
        made = own_pairs(*models.load_trained(options.own), options.rows, options.split, options.seed, **how)
    rows = pd.DataFrame(made)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".parquet":
        write_whole(options.out, lambda part: rows.to_parquet(part, index=False))
    else:
        write_whole(options.out, lambda part: rows.to_json(part, orient="records", lines=True, force_ascii=False))
    print(f"Written to {options.out}: {len(rows)} rows")


def score(options: Score) -> dict[str, float]:
    """The means of `lm.lake.scores.score_model` on random maps.

    Raises:
        ValueError: a bad option, a folder without model or tokenizer.
    """
    _require(options, "maps", options.maps >= 1, "at least 1")
    _require(options, "size", 2 <= options.size <= 8, "in [2, 8]")
    _require(options, "holes", 0 <= options.holes <= 0.6, "in [0, 0.6]")
    _require(options, "seed", options.seed >= 0, "0 or more")
    _require(options, "wrong_first", not (options.wrong_first and options.slippery), "off on slippery ice")
    model, tokenizer = models.load_trained(options.model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    generator = np.random.default_rng([options.seed, 1])
    letters = random_maps(
        options.maps, options.split, generator, options.size, options.holes, new_ends=options.new_ends
    )
    first_moves = None
    if options.wrong_first:
        first_moves = wrong_first_moves(letters)
        letters, first_moves = letters[first_moves >= 0], first_moves[first_moves >= 0]
        _require(options, "wrong_first", len(letters) > 0, f"off: none of {options.maps} maps has such a move")
    rows = score_model(
        model, tokenizer, letters, english=options.english, slippery=options.slippery, first_moves=first_moves
    )
    return {"maps": float(len(letters)), **means(rows)}


def show_scores(options: Score) -> None:
    """Print the scores, and write them if `out` says so."""
    scores = score(options)
    if options.out is not None:
        known = {name: None if math.isnan(value) else value for name, value in scores.items()}
        asked = {name: value for name, value in asdict(options).items() if name != "out"}
        text = json.dumps({"options": asked, "scores": known}, indent=1) + "\n"
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, lambda part: part.write_text(text))
    for name, value in scores.items():
        print(f"{name:<28} {value:.4f}")


def show_comparison(options: Compare) -> None:
    """Run what is missing and print the table."""
    _require(options, "jobs", options.jobs >= 1 or options.jobs == -1, "at least 1, or -1 for every core")
    out = options.out.parent / "quick" / options.out.name if options.quick else options.out
    print(table(compare(out, options.quick, options.jobs)))
    print(f"Written to {out}")


def _require(options: Any, name: str, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {getattr(options, name)}")


COMMANDS: dict[type, Callable[[Any], None]] = {Data: write_data, Score: show_scores, Compare: show_comparison}


def main() -> None:
    """The command: bad input is one line and exit code 2."""
    named = Annotated[Data, tyro.conf.subcommand("data")] | Annotated[Score, tyro.conf.subcommand("score")]
    options: Any = tyro.cli(
        named | Annotated[Compare, tyro.conf.subcommand("compare")],
        prog="python -m lm.lake",
        description=__doc__,
    )
    quieten()
    models.offline()
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    try:
        COMMANDS[type(options)](options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"stopped{': the same command goes on where it was' * isinstance(options, Compare)}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
