import re

import pytest

import ift


def test_names_are_kept_in_order_without_repeats():
    assert ift.method_names(["dpo", "sft", "dpo"]) == ("dpo", "sft")
    assert ift.method_names(["all"]) == tuple(ift.METHODS)
    assert ift.method_names(["ppo", "all"])[0] == "ppo"
    assert ift.method_names("sft") == ("sft",)
    assert ift.method_names(["sft,ift"]) == ("sft", "ift")


@pytest.mark.parametrize(("typo", "meant"), [("itf", "ift"), ("DPO", "dpo"), ("sftt", "sft"), ("simp", "simpo")])
def test_an_unknown_method_names_the_nearest(typo, meant):
    with pytest.raises(ValueError, match=f"method '{typo}' is unknown: did you mean '{meant}'"):
        ift.method_names([typo])


def test_an_unknown_method_says_how_one_of_a_file_is_named():
    with pytest.raises(ValueError, match=r"one in a file of yours is FILE\.py:NAME"):
        ift.method_names(["mine.py"])


def test_no_method_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        ift.method_names([])


def test_a_method_carries_its_loss():
    shared = {"scheduled": "sft", "neftune": "sft", "spin": "dpo", "dagger": "expert"}  # what differs is not the loss
    assert all(method.loss.__name__ == f"{shared.get(name, name)}_loss" for name, method in ift.METHODS.items())
    compare = {name for name, method in ift.METHODS.items() if method.needs_reference}
    assert compare == {"dpo", "ipo", "kto", "asft", "psft", "iwsft", "spin", "still"}


def test_every_method_has_a_colour_of_its_own():
    colours = [method.colour for method in ift.METHODS.values()]
    assert len(set(colours)) == len(colours)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("β of the pairs", "β of the pairs"),
        ("k, the weight", "k, the weight"),
        ("target margin", "Target margin"),
        ("", ""),
    ],
)
def test_the_help_of_a_number_begins_with_a_capital_but_symbols_stay(text, sentence):
    assert ift.Number("number", text, lake=1.0, text=1.0).sentence == sentence
