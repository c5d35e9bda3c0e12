"""All that the page is built from: methods, protocols, settings with their choices, presets and limits.

Nothing of it is written into the page, so a method that someone adds as a value stands there by itself.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ift import METHODS
from toy.explore import request
from toy.protocols import PROTOCOLS

_PRESETS = Path(__file__).with_name("presets.toml")


@dataclass(frozen=True)
class Preset:
    """A lake with settings on which a finding can be seen, and the sentence that says it."""

    name: str
    title: str
    sentence: str
    map: str
    methods: list[str]
    protocol: str
    slippery: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    shade: str = "distance"

    @property
    def request(self) -> dict[str, Any]:
        """The data of its request."""
        return {key: value for key, value in vars(self).items() if key not in ("name", "title", "sentence")}


def presets() -> dict[str, Preset]:
    """The presets by name, in the order of the page."""
    with _PRESETS.open("rb") as file:
        return {row["name"]: Preset(**row) for row in tomllib.load(file)["preset"]}


def preset(name: str) -> Preset:
    """A preset by its name; raises `ValueError` for an unknown one."""
    known = presets()
    if name not in known:
        raise ValueError(f"preset {name!r} is unknown (known: {', '.join(known)})")
    return known[name]


def catalogue() -> dict[str, Any]:
    """What the page is built from, as JSON-ready data."""
    return {
        "methods": [
            {
                "name": method.name,
                "title": method.title,
                "help": method.help,
                "colour": method.colour,
                "mixes": method.mixes_states,
                "numbers": [
                    {
                        "name": number.name,
                        "help": number.help,
                        "allowed": number.allowed,
                        "default": number.lake,
                        "low": number.low if abs(number.low) < float("inf") else None,
                        "high": number.high if number.high < float("inf") else None,
                    }
                    for number in method.numbers
                ],
            }
            for method in METHODS.values()
        ],
        "protocols": [
            {
                "name": each.name,
                "summary": each.summary,
                "source": each.source,
                "settings": {name: getattr(each.settings, name) for name in request.SETTINGS},
            }
            for each in PROTOCOLS.values()
        ],
        "settings": [_setting(name) for name in request.SETTINGS],
        "presets": [
            {"name": p.name, "title": p.title, "sentence": p.sentence, "request": p.request} for p in presets().values()
        ],
        "shades": list(request.SHADES),
        "sides": list(request.SIDES),
        "methodCounts": list(request.METHOD_COUNTS),
        "mostUpdates": request.LARGEST["steps"],
    }


def _setting(name: str) -> dict[str, Any]:
    hint = request.TYPES[name]
    choices = list(get_args(hint)) if get_origin(hint) is Literal else None
    return {"name": name, "choices": choices, "whole": hint is int, "most": request.LARGEST.get(name)}
