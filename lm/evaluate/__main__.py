"""Score a trained model: the open LLM leaderboard's benchmarks, AlpacaEval, or a task file of your own.

Examples:
  python -m lm.evaluate --model results/lm-ift/model --suite open-llm --log-samples
  python -m lm.evaluate --model results/lm-sft/model --suite open-llm --log-samples --against results/open-llm-lm-ift
  python -m lm.evaluate --model results/lm-ift/model --suite alpaca-eval --judge gpt-4-1106-preview
  python -m lm.evaluate --model results/lm-ift/model --suite local --task lm/tasks/gsm8k_files/gsm8k_files.yaml \\
      --task-options folder=data/gsm8k
"""

from common import command
from lm.evaluate.options import Options


def run() -> None:
    """Parse, then import what the work needs and do it."""
    options = command.parse(Options, "python -m lm.evaluate", __doc__)
    options.check()
    command.quieten()
    from lm.evaluate import suites

    suites.run(options)


def main() -> None:
    """The command."""
    command.main(run, "interrupted: the same command goes on with what has been answered")


if __name__ == "__main__":
    main()
