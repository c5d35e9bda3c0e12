"""Score a model on the lake in words, without a judge: `python -m lm.evaluate_lake --model FOLDER`.

Examples:
  python -m lm.evaluate_lake --maps 500
  python -m lm.evaluate_lake --model results/lm-ift/model --size 5 --holes 0.35 --out scores.json
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import transformers
import tyro

from lm import lake, models
from lm.scores import score_model


@dataclass(frozen=True)
class Options:
    """Which model, on which maps."""

    model: str = "tiny-lake"
    """Folder with config, tokenizer and safetensors (or an adapter), or tiny-lake, the small base model."""
    maps: int = 200
    """Number of unseen maps."""
    split: Literal["dev", "test"] = "test"
    """dev to choose by, test to report."""
    size: int = 4
    """Rows and columns, 2 to 8; the small model has seen 4."""
    holes: float = 0.25
    """Share of holes; the small model has seen 0.25."""
    seed: int = 1
    """Of the maps."""
    out: Path | None = None
    """JSON file for options and scores."""


def evaluate(options: Options) -> dict[str, float]:
    """The scores of `lm.scores.score_model` on random maps.

    Raises:
        ValueError: a bad option, a folder without model or tokenizer, a tokenizer that merges moves, a map beyond the
            model's context.
    """
    for name, allowed, holds in (
        ("maps", "at least 1", options.maps >= 1),
        ("size", "in [2, 8]", 2 <= options.size <= 8),
        ("holes", "in [0, 0.6]", 0 <= options.holes <= 0.6),
        ("seed", "0 or more", options.seed >= 0),
    ):
        if not holds:
            raise ValueError(f"{name} must be {allowed}, got {getattr(options, name)}")
    model, tokenizer = models.load_trained(options.model)
    generator = np.random.default_rng([options.seed, 1])
    maps = lake.random_maps(options.maps, options.split, generator, options.size, options.holes)
    return score_model(model, tokenizer, maps)


def main() -> None:
    """The command: bad input is one line and exit code 2."""
    options = tyro.cli(Options, prog="python -m lm.evaluate_lake", description=__doc__)
    transformers.utils.logging.disable_progress_bar()
    try:
        scores = evaluate(options)
        if options.out is not None:
            written = {"options": asdict(options) | {"out": None}, "scores": scores}
            part = options.out.with_name(f".{options.out.name}.part")
            options.out.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(written, indent=1).replace("NaN", "null") + "\n")
            part.replace(options.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for name, value in scores.items():
        print(f"{name:<28} {value:.4f}")


if __name__ == "__main__":
    main()
