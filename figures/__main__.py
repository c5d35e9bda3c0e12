"""Draw the paper's figures from this project's own results, and audit its claims; missing results are made and kept.

Examples:
  python -m figures frozen-lake
  python -m figures all --quick
  python -m figures audit
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from figures.audit import audit
from figures.frozen_lake import frozen_lake
from figures.lake_language import lake_language
from figures.lambda_gamma import lambda_gamma
from figures.paradigms import paradigms
from figures.phase import phase
from figures.study import study
from figures.tables import tables

FIGURES: dict[str, Callable[[Path, bool, int], list[Path]]] = {
    "paradigms": paradigms,
    "frozen-lake": frozen_lake,
    "lambda-gamma": lambda_gamma,
    "phase": phase,
    "tables": tables,
}
COMMANDS = {**FIGURES, "lake-language": lake_language, "audit": audit, "study": study}


@dataclass(frozen=True)
class Options:
    """Which figure, and where it goes."""

    name: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """paradigms: which states each method scores, and what it needs. frozen-lake: policies and distances by method.
    lambda-gamma: the plane of IFT's two numbers. phase: where the paper's order holds. tables: language models. all:
    these five. lake-language: the methods on language models that play the lake. audit: the paper's claims, judged on
    lakes and seeds that nothing was chosen on. study: the methods on a pretrained model, from what python -m lm.study
    left."""
    out: Path = Path("results/figures")
    """Folder for NAME.png, NAME.svg, NAME.md (the caption) and, in NAME-runs, the results that they are drawn from."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fewer lakes, seeds and settings, in a folder of their own."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def main() -> None:
    options = tyro.cli(tyro.conf.PositionalRequiredArgs[Options], prog="python -m figures", description=__doc__)
    if options.name not in (*COMMANDS, "all"):
        print(f"error: figure {options.name!r} is unknown (known: {', '.join(COMMANDS)}, all)", file=sys.stderr)
        sys.exit(2)
    if options.jobs < 1 and options.jobs != -1:
        print(f"error: jobs must be at least 1, or -1 for every core; got {options.jobs}", file=sys.stderr)
        sys.exit(2)
    out = options.out / "quick" if options.quick else options.out
    try:
        for name in FIGURES if options.name == "all" else [options.name]:
            for path in COMMANDS[name](out, options.quick, options.jobs):
                print(path)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
