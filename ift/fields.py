"""Whether the parts of a method from outside are what `ift.method` says: a wrong one is named before it is used."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Container
from typing import Any, get_args

from ift.method import LearnsFrom, Method, Number, Reads, States

_NOT_A_NAME = ("all", "start", "optimum")  # rows of the tables
_TEXTS = ("title", "help", "colour")
_SWITCHES = ("needs_reference", "propagates", "unpaired")
_CHOICES: dict[str, tuple[str, ...]] = {
    "learns_from": get_args(LearnsFrom),
    "states": get_args(States),
    "answer": ("sum", "mean"),
}


def check_fields(reference: str, method: Method) -> None:
    """Raise `ValueError`, naming the method and the part, for a part that is not of its type."""
    if not isinstance(method.name, str) or not re.fullmatch(r"[a-z][\w-]*", method.name) or method.name in _NOT_A_NAME:
        raise ValueError(
            f"method {reference!r} has the name {_shown(method.name)}: it must be a word of small letters, digits, - "
            f"and _, and not {', '.join(_NOT_A_NAME[:-1])} or {_NOT_A_NAME[-1]}"
        )
    for name in _TEXTS:
        _require(method, name, isinstance(getattr(method, name), str), "a text")
    _require(method, "colour", re.fullmatch(r"#[0-9a-fA-F]{6}", method.colour) is not None, "#rrggbb")
    for name in _SWITCHES:
        _require(method, name, isinstance(getattr(method, name), bool), "True or False")
    for name, allowed in _CHOICES.items():
        value = getattr(method, name)
        _require(method, name, isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}")
    reads = isinstance(method.reads, tuple | list) and all(isinstance(each, str) for each in method.reads)
    _require(method, "reads", reads, f"a tuple of {', '.join(get_args(Reads))}")
    _require(method, "loss", _has_signature(method.loss), "a Python function, whose arguments can be seen")
    _require(method, "alone", method.alone is None or callable(method.alone), "a function or None")
    numbers = isinstance(method.numbers, tuple | list) and all(isinstance(each, Number) for each in method.numbers)
    _require(method, "numbers", numbers, "a tuple of ift.Number")
    for place, number in enumerate(method.numbers):
        _check_number(method, number, [each.name for each in method.numbers[:place]])


def check_number_names(method: Method, taken: Container[str], command: str) -> None:
    """Raise `ValueError` for a number of a method that has the name of an option of a command."""
    for number in method.numbers:
        if number.name in taken:
            raise ValueError(
                f"method {method.name!r}: its number {number.name!r} has the name of an option of {command}: give it "
                "another"
            )


def reason(error: BaseException) -> str:
    """What went wrong in someone else's code, in one line."""
    try:
        line = " ".join(str(error).split())
    except Exception:  # an error of theirs that cannot even be shown
        line = ""
    if isinstance(error, ValueError) and line:
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _is_word(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def _check_number(method: Method, number: Number, earlier: list[str]) -> None:
    name = number.name
    if not isinstance(name, str) or not _is_word(name):
        raise ValueError(
            f"method {method.name!r}: its number {_shown(name)} must be a word, as it is an option and an argument, "
            "and no keyword of Python"
        )
    what = f"its number {name!r}"
    if name in earlier:
        raise ValueError(f"method {method.name!r}: {what} is there twice")
    for part in ("lake", "text", "low", "high"):
        value = getattr(number, part)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"method {method.name!r}: {what}: {part} must be a number, got {_shown(value)}")
    for part, kind, words in (
        ("help", str, "a text"),
        ("above_low", bool, "True or False"),
        ("whole", bool, "True or False"),
    ):
        if not isinstance(getattr(number, part), kind):
            raise ValueError(
                f"method {method.name!r}: {what}: {part} must be {words}, got {_shown(getattr(number, part))}"
            )


def _require(method: Method, part: str, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"method {method.name!r}: {part} must be {allowed}, got {_shown(getattr(method, part))}")


def _has_signature(loss: Any) -> bool:
    try:
        inspect.signature(loss)
    except (TypeError, ValueError):
        return False
    return callable(loss)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
