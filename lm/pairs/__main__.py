"""Make pairs for DPO and similar methods: the data's answer is chosen, an answer of the model itself is rejected.

If a run was stopped, the same command continues it. `python -m lm.train --method dpo --dataset
OUT` trains on the file.

Examples:
  python -m lm.pairs --model results/lm-sft/model --dataset train.jsonl --out pairs.jsonl
  python -m lm.pairs --model results/lm-sft/model --dataset gsm8k.jsonl --scorer number --chosen best --out pairs.jsonl
  python -m lm.pairs --model ./sft --dataset chats.jsonl --scorer reward --reward-model NAME --out pairs.jsonl
"""

import os

from common import command
from lm.pairs.options import Options


def run() -> None:
    """Parse, then import what the work needs and do it."""
    options = command.parse(Options, "python -m lm.pairs", __doc__)
    options.check()
    os.environ.setdefault("TQDM_DISABLE", "1")
    command.quieten()
    from lm.pairs.making import make

    print(make(options))


def main() -> None:
    """The command."""
    command.main(run, "interrupted: the same command goes on where it was")


if __name__ == "__main__":
    main()
