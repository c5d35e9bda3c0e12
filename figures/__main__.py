"""Draw a figure of the paper from this project's own results; missing results are made first and kept.

Example:
  python -m figures frozen-lake --quick
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from figures.frozen_lake import frozen_lake

FIGURES = {"frozen-lake": frozen_lake}


@dataclass(frozen=True)
class Options:
    """Which figure, and where it goes."""

    name: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """frozen-lake: lake, policies, visits and distances to the optimum by method (the paper's figure 3)."""
    out: Path = Path("results/figures")
    """Folder for NAME.png, NAME.svg, NAME.md (the caption) and the results that they are drawn from."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fewer seeds, in a folder of their own."""


def main() -> None:
    options = tyro.cli(tyro.conf.PositionalRequiredArgs[Options], prog="python -m figures", description=__doc__)
    if options.name not in FIGURES:
        print(f"error: figure {options.name!r} is unknown (known: {', '.join(FIGURES)})", file=sys.stderr)
        sys.exit(2)
    try:
        for path in FIGURES[options.name](options.out / "quick" if options.quick else options.out, options.quick):
            print(path)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
