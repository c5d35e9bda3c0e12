"""The lake in words: examples for any trainer, and scores of any model.

Every method on it, compared: `python -m experiments.lake_language`.

Examples:
  python -m lm.lake data --rows 50000 --out walks.jsonl
  python -m lm.lake score --model results/lm-ift/model --size 5 --holes 0.35 --out scores.json
"""

import sys
from typing import Annotated

import tyro

from common import command
from lm.lake.options import Data, Score

Command = Annotated[Data, tyro.conf.subcommand("data")] | Annotated[Score, tyro.conf.subcommand("score")]


def run() -> None:
    """Parse, then import what the work needs and do it."""
    if sys.argv[1:2] == ["compare"]:
        command.hand_over("python -m lm.lake compare", "experiments.lake_language", sys.argv[2:])
    options = command.parse(Command, "python -m lm.lake", __doc__)
    options.check()
    command.quieten()
    from lm.lake import commands

    commands.run(options)


def main() -> None:
    """The command."""
    command.main(run, "interrupted: nothing was written")


if __name__ == "__main__":
    main()
