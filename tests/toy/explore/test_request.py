"""What the page may ask for, and the command that asks for the same."""

import json
import shlex
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ift import METHODS
from toy.explore.catalogue import catalogue, preset, presets
from toy.explore.request import SETTINGS, Request
from toy.explore.server import read_message
from toy.frozenlake import parse_command

GOOD = {
    "map": "SFF/FHF/FFG", "slippery": False, "methods": ["sft", "ift"], "protocol": "paper", "settings": {},
    "numbers": {}, "shade": "distance",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": "S" * 1000}, "map must be a text of at most 72 characters"),
        ({"map": "SFFFFFFFF/FFFFFFFFG"}, "map must have 3 to 8 rows of 3 to 8 cells"),
        ({"map": "SF/FG"}, "map must have 3 to 8 rows"),
        ({"map": "SFF/FFF/FFF"}, "map has no goal"),
        ({"map": "SHF/HHF/FFG"}, "map has a start that no goal can be reached from"),
        ({"map": "SXF/FHF/FFG"}, "row 1, column 2 is 'X'"),
        ({"map": 3}, "map must be a text"),
        ({"map": "/etc/passwd"}, "map must have 3 to 8 rows"),
        ({"slippery": 1}, "slippery must be true or false, got 1"),
        ({"methods": ["sft"]}, "methods must name 2 to 6 methods, got 1"),
        ({"methods": ["all", "sft"]}, "methods must name 2 to 6"),
        ({"methods": ["all"]}, f"methods must name 2 to 6 methods, got {len(METHODS)}"),
        ({"methods": ["sft", "sft"]}, "methods must name 2 to 6 methods, got 1 ('sft' several times)"),
        ({"settings": {"lr": 10**400}}, "lr must be a number that a float can hold, got 1000"),
        ({"settings": {"seeds": 10**400}}, "seeds must be a whole number of at most 64 bits"),
        ({"numbers": {"ift.lam": -(10**400)}}, "ift.lam must be a number that a float can hold"),
        ({"methods": list(METHODS)[:7]}, "methods must name 2 to 6 methods, got 7"),
        ({"methods": ["sft", "itf"]}, "did you mean 'ift'"),
        ({"methods": ["sft", "ift:lam=2"]}, "lam must be in"),
        ({"methods": ["sft", "ift:steps=9"]}, "changes the number or size of updates"),
        ({"methods": ["sft", ["ift"]]}, "methods must be a text"),
        ({"protocol": "papper"}, "protocol must be one of"),
        ({"settings": {"width": 9999}}, "setting 'width' is unknown"),
        ({"settings": {"seeds": 1e9}}, "seeds must be a whole number"),
        ({"settings": {"seeds": 65}}, "seeds must be at most 64, got 65"),
        ({"settings": {"seeds": 0}}, "seeds must be at least 1"),
        ({"settings": {"seeds": True}}, "seeds must be a whole number, got True"),
        ({"settings": {"lr": "fast"}}, "lr must be a number, got 'fast'"),
        ({"settings": {"lr": -1}}, "lr must be a finite number above 0"),
        ({"settings": {"optimizer": "adamw"}}, "optimizer must be one of"),
        ({"settings": {"steps": 10**9}}, "steps must be at most 20000"),
        ({"numbers": {"ift.lam": 2}}, "ift.lam must be in"),
        ({"numbers": {"sft.lam": 0.1}}, "sft has no number 'lam'"),
        ({"numbers": {"ift.lam": "x"}}, "ift.lam must be a number"),
        ({"numbers": {f"ift.{i}": 1 for i in range(40)}}, "numbers must be at most 32"),
        ({"shade": "rainbow"}, "shade must be one of"),
        ({"more": 1}, "request 'more' is unknown"),
    ],
)
def test_a_bad_request_is_refused_by_name(change, message):
    with pytest.raises(ValueError) as error:
        Request.of({**GOOD, **change})
    assert message in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("key", GOOD)
def test_a_request_that_lacks_something_is_refused_by_name(key):
    with pytest.raises(ValueError, match=f"lacks '{key}'"):
        Request.of({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be text, got bytes"),
        ("", "must be JSON"),
        ("[" * 10_000, "must be JSON"),
        ("[]", "must be an object"),
        ('{"type": "format"}', "whose type is one of"),
        ('{"type": "set"}', "request must be an object"),
        ('{"type": "speed", "updates": 0}', "speed must be 1 to"),
        ('{"type": "speed", "updates": NaN}', "speed must be 1 to"),
    ],
)
def test_a_message_that_is_no_request_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        read_message(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(list(GOOD)), json_values)
def test_any_value_is_taken_or_refused_with_a_reason(key, value):
    with suppress(ValueError):  # and nothing else
        Request.of({**GOOD, key: value})


@settings(max_examples=16)
@given(
    st.sampled_from(["paper", "adam"]),
    st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(1e-6, 10), "optimizer": st.sampled_from(["adam", "sgd"]), "seeds": st.integers(1, 64),
            "form": st.sampled_from(["sum", "product"]), "start": st.sampled_from(["noisy", "both", "random"]),
            "prediction": st.sampled_from(["greedy", "sampled", "expected"]), "seed": st.integers(0, 9),
            "start_suboptimal_share": st.floats(0, 1), "negatives": st.sampled_from(["current", "start"]),
        },
    ),
    st.fixed_dictionaries({}, optional={"ift.lam": st.floats(0, 1), "dpo.beta": st.floats(0.01, 9)}),
    st.booleans(),
)  # fmt: skip
def test_the_command_says_what_the_request_says(protocol, changed, numbers, slippery):
    data = {**GOOD, "protocol": protocol, "settings": changed, "numbers": numbers, "slippery": slippery}
    request = Request.of({**data, "methods": ["sft", "ift:lam=0.5", "dpo"]})
    words = shlex.split(request.command)
    assert words[:3] == ["python", "-m", "toy.frozenlake"]
    command = parse_command(words[3:])
    ours, theirs = request.all_settings, command.settings()
    assert {**vars(theirs), "numbers": set(theirs.numbers)} == {**vars(ours), "numbers": set(ours.numbers)}
    assert command.lake.map == "SFF/FHF/FFG"
    assert command.lake.slippery == slippery
    assert command.output.method == request.methods


def test_presets_are_requests_and_unknown_ones_are_named():
    assert len(presets()) == 5
    for each in presets().values():
        Request.of(each.request)
    with pytest.raises(ValueError, match="preset 'nope' is unknown"):
        preset("nope")


def test_the_catalogue_has_every_method_with_its_numbers_and_is_json():
    shown = json.loads(json.dumps(catalogue(), allow_nan=False))
    assert [method["name"] for method in shown["methods"]] == list(METHODS)
    assert [number["name"] for number in shown["methods"][1]["numbers"]] == ["lam", "gamma"]
    assert [setting["name"] for setting in shown["settings"]] == list(SETTINGS)
