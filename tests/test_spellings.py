"""Options that mean the same take the same words in `toy.frozenlake` and `lm.train`."""

import pytest

from lm.train.command_line import parse
from toy.frozenlake import parse_command


@pytest.mark.parametrize(("folder", "steps", "rate", "optimiser"), [
    ("--out", "--steps", "--lr", "--optimizer"),
    ("--output-dir", "--max-steps", "--learning-rate", "--optim"),
])  # fmt: skip
def test_both_commands_take_the_words_of_each_other(folder, steps, rate, optimiser):
    words = [folder, "here", steps, "7", rate, "0.25", optimiser]
    command = parse_command([*words, "sgd"])
    settings = command.settings()
    assert (str(command.output.out), settings.steps, settings.lr, settings.optimizer) == ("here", 7, 0.25, "sgd")
    trained = parse([*words, "rmsprop"])
    assert (trained.output_dir, trained.max_steps, trained.learning_rate, trained.optim) == ("here", 7, 0.25, "rmsprop")
