"""What `--method` names."""

import pytest

from toy import Settings
from toy.trials import named_trials


def test_a_variant_takes_numbers_whole_numbers_and_words():
    trials = named_trials(["ift:lam=0.2,form=sum", "ppo:epochs=2", "dpo:horizon=9"], Settings())
    changed = [trial.settings for trial in trials.values()]
    assert (changed[0].lam, changed[0].form, changed[1].epochs, changed[2].horizon) == (0.2, "sum", 2, 9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ift:lam=half", "lam must be a number, got 'half'"),
        ("ppo:epochs=1.5", "epochs must be"),
        ("sft,ift:lam=0", "method 'sft,ift:lam=0' must name one method before the colon"),
    ],
)
def test_a_variant_with_another_kind_of_value_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        named_trials([name], Settings())
