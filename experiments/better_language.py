"""Standing still beside SFT on the lake in words, from small base models that have read 150 updates.

`python -m experiments.better_language development` trains what was tried on a development base model, and writes
`language-development.csv`. `… held-out` lets both methods choose among eight settings there, by the policy's distance
to the optimum and by the gap of its value; the chosen ones train from five other base models and play maps that nothing
was chosen on, once. It writes `language.csv` (means) and `language-verdicts.csv` (differences with intervals).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from common import command


@dataclass(frozen=True)
class Options:
    """Which base models, and where the results go."""

    what: Annotated[tyro.conf.Positional[Literal["development", "held-out"]], tyro.conf.arg(metavar="WHAT")]
    """development: what was tried while the loss was designed; held-out: the comparison, once."""
    out: Path = Path("results/better/language")
    """Folder of the runs; the same command goes on with what is there."""
    tables: Path = Path("docs/better")
    """Folder of the tables."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def run(options: Options) -> None:
    """Run what is missing, write the tables and print the means."""
    command.check_jobs(options.jobs)
    command.quieten()
    from common import models
    from experiments.better_language_trials import write_tables

    models.offline()
    print(write_tables(options.what, options.out, options.tables, options.jobs).to_string())


def main() -> None:
    """The command."""
    command.main(
        lambda: run(command.parse(Options, "python -m experiments.better_language", __doc__)),
        "stopped: the same command goes on where it was",
    )


if __name__ == "__main__":
    main()
