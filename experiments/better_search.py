"""The search that led to `still`: what was tried on development lakes, one thing changed at a time.

`python -m experiments.better_search` writes `docs/better/search.csv`: geometric means over lakes of the distances as
shares of the start's, and the mean success.
"""

from dataclasses import dataclass
from pathlib import Path

from common import command


@dataclass(frozen=True)
class Options:
    """Where the results go."""

    out: Path = Path("results/better/search")
    """Folder of the runs; the same command goes on with what is there."""
    tables: Path = Path("docs/better")
    """Folder of the table."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def run(options: Options) -> None:
    """Run what is missing, write the table and print it."""
    command.check_jobs(options.jobs)
    from experiments.better_losses import write_table

    print(write_table(options.out, options.tables, options.jobs).to_string())


def main() -> None:
    """The command."""
    command.main(
        lambda: run(command.parse(Options, "python -m experiments.better_search", __doc__)),
        "stopped: the same command goes on where it was",
    )


if __name__ == "__main__":
    main()
