"""A better loss from targets alone: candidates on development lakes, and once on lakes that nobody had looked at.

`python -m experiments.better development` and `… held-out` write `runs.parquet` and the tables that
`docs/a-better-one.md` has. `better_candidates.md` was committed before the held-out lakes were run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import command


@dataclass(frozen=True)
class Options:
    """Which lakes, and where the results go."""

    what: Annotated[tyro.conf.Positional[Literal["development", "held-out"]], tyro.conf.arg(metavar="WHAT")]
    """development: what the loss was designed on; held-out: the lakes on which it was tried once."""
    out: Path = Path("results/better")
    """Folder of the runs; the same command goes on with what is there."""
    tables: Path = Path("docs/better")
    """Folder of the tables."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def run(options: Options) -> None:
    """Run what is missing, write the tables and print where each trial stands."""
    command.check_jobs(options.jobs)
    from experiments.better_trials import write_tables

    print(write_tables(options.what, options.out, options.tables, options.jobs).to_string())


def main() -> None:
    """The command."""
    command.main(
        lambda: run(command.parse(Options, "python -m experiments.better", __doc__)),
        "stopped: the same command goes on where it was",
    )


if __name__ == "__main__":
    main()
