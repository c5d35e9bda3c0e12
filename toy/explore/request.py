"""What the page may ask for, checked before anything is done with it, and the command that asks for the same.

Everything that comes from a browser passes through here. A value that is wrong raises `ValueError` with its name.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ift import METHODS
from ift.checks import check_choice
from toy.protocols import PROTOCOLS, protocol
from toy.settings import Settings
from toy.trials import Trial, named_trials

SIDES = (3, 8)  # the fewest and the most cells along a side of a lake
METHOD_COUNTS = (2, 6)  # how many methods stand side by side
LARGEST = {"seeds": 64, "steps": 20_000, "lr": 100.0}  # of settings that decide how long an update or a run takes
SHADES = ("distance", "visits", "scored")

# Settings that the page may change; each is an option of `python -m toy.frozenlake`, in the order of its controls.
SETTINGS = (
    "optimizer", "lr", "form", "prediction", "start", "start_suboptimal_share", "negatives", "seeds", "seed", "steps",
)  # fmt: skip
TYPES: dict[str, Any] = {name: get_type_hints(Settings)[name] for name in SETTINGS}
_KEYS = ("map", "slippery", "methods", "protocol", "settings", "numbers", "shade")
_MOST_NUMBERS = 32
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Request:
    """A lake, methods and settings to train with, as the page asks for them.

    Attributes:
        rows: the map, a string of `S`, `F`, `H`, `G` per row.
        slippery: whether moves may slip.
        methods: methods and variants, 2 to 6 of them.
        protocol: the protocol whose settings hold where nothing else is asked for.
        settings: what differs from the protocol's settings.
        numbers: numbers of single methods, `{"ift.lam": 0.3}`.
        shade: what the colour of a cell says, one of `SHADES`.
    """

    rows: tuple[str, ...]
    slippery: bool
    methods: tuple[str, ...]
    protocol: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    shade: str

    @classmethod
    def of(cls, data: object) -> "Request":
        """The request that a message's data makes.

        Raises:
            ValueError: anything that is missing, unknown, of the wrong type or too large; the message names it.
        """
        given = _mapping("request", data)
        _refuse_unknown("request", given, _KEYS)
        for key in _KEYS:
            if key not in given:
                raise ValueError(f"request lacks {key!r}")
        if not isinstance(given["slippery"], bool):
            raise ValueError(f"slippery must be true or false, got {_shown(given['slippery'])}")
        check_choice("protocol", _text("protocol", given["protocol"]), tuple(PROTOCOLS))
        check_choice("shade", _text("shade", given["shade"]), SHADES)
        request = cls(
            rows=_rows(given["map"]),
            slippery=given["slippery"],
            methods=_methods(given["methods"]),
            protocol=given["protocol"],
            settings=_settings(given["settings"]),
            numbers=_numbers(given["numbers"]),
            shade=given["shade"],
        )
        named_trials(request.methods, request.all_settings)  # raises for unknown methods and bad values
        return request

    @cached_property
    def all_settings(self) -> Settings:
        """The protocol's settings with what was asked for in their place."""
        base = protocol(self.protocol)
        return replace(base, **self.settings, numbers=(*base.numbers, *self._number_words()))

    @property
    def trials(self) -> dict[str, Trial]:
        """The methods with their settings, by the names that the page shows."""
        return named_trials(self.methods, self.all_settings)

    @property
    def arguments(self) -> list[str]:
        """The arguments of `python -m toy.frozenlake` that train the same, but for the number of updates."""
        return self._arguments("on_command_line")

    def _arguments(self, named: str) -> list[str]:
        """The arguments, with methods of files as that part of their `Origin` names them."""
        arguments = [
            "--protocol",
            self.protocol,
            "--map",
            "/".join(self.rows),
            "--method",
            *(_named(name, named) for name in self.methods),
        ]
        arguments += ["--slippery"] if self.slippery else []
        for name in SETTINGS:
            if name in self.settings and name != "steps":
                arguments += [f"--{name.replace('_', '-')}", str(self.settings[name])]
        return [*arguments, "--numbers", *self._number_words()] if self.numbers else arguments

    @property
    def command(self) -> str:
        """The same as a line to copy; the page adds `--steps` with the updates that it has made."""
        return "python -m toy.frozenlake " + shlex.join(self.arguments)

    @property
    def shared_command(self) -> str:
        """The same without local paths, for files that others read."""
        return "python -m toy.frozenlake " + shlex.join(self._arguments("shown"))

    def same_lake(self, other: "Request") -> bool:
        """Whether both ask for the same lake."""
        return (self.rows, self.slippery) == (other.rows, other.slippery)

    def needs_new_start(self, before: "Request") -> bool:
        """Whether a run of the request `before` cannot go on with this one, as its start policies would differ."""
        ours, earlier = (request.all_settings for request in (self, before))
        same = all(getattr(ours, f.name) == getattr(earlier, f.name) for f in fields(ours) if f.name not in _ON_THE_WAY)
        same_shape = (len(self.rows), len(self.rows[0])) == (len(before.rows), len(before.rows[0]))
        return not (same and same_shape and self.methods == before.methods and self.protocol == before.protocol)

    def _number_words(self) -> tuple[str, ...]:
        return tuple(f"{name}={value!r}" for name, value in self.numbers.items())


def _named(name: str, part: str) -> str:
    """A method or variant as a command names it, which has to be told of a file."""
    method, colon, changes = name.partition(":")
    origin = METHODS.origins.get(method)
    return f"{getattr(origin, part) if origin else method}{colon}{changes}"


_ON_THE_WAY = ("lr", "numbers", "steps")  # settings that may change while a run goes on


def _rows(value: object) -> tuple[str, ...]:
    text = _text("map", value, longest=SIDES[1] * (SIDES[1] + 1))
    rows = tuple(text.split("/"))
    if not all(SIDES[0] <= side <= SIDES[1] for side in (len(rows), *map(len, rows))):
        raise ValueError(f"map must have {SIDES[0]} to {SIDES[1]} rows of {SIDES[0]} to {SIDES[1]} cells, got {text!r}")
    from toy.lake import check_map

    check_map(rows)
    return rows


def _methods(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"methods must be a list of names, got {_shown(value)}")
    names = tuple(dict.fromkeys(_text("methods", name) for name in value))
    count = len({*names, *METHODS} - {"all"}) if "all" in names else len(names)
    if not METHOD_COUNTS[0] <= count <= METHOD_COUNTS[1] or "all" in names:
        again = f" ({names[0]!r} several times)" if count == 1 < len(value) else ""
        raise ValueError(f"methods must name {METHOD_COUNTS[0]} to {METHOD_COUNTS[1]} methods, got {count}{again}")
    for name in names:
        if ".py:" in name:  # a page must not make this process run a file
            raise ValueError(f"methods: {name!r} is a file: name it on the command line, --method {name}")
        _, _, changes = name.partition(":")
        keys = [change.partition("=")[0] for change in changes.split(",") if change]
        if set(keys) & {"steps", "rollouts", "epochs", "negatives_per_step", "horizon"}:
            raise ValueError(f"methods: {name!r} changes the number or size of updates, which is the same for all")
    return names


def _settings(value: object) -> dict[str, Any]:
    given = _mapping("settings", value)
    _refuse_unknown("setting", given, SETTINGS)
    return {name: _READ[_kind(TYPES[name])](name, given[name]) for name in SETTINGS if name in given}


def _kind(hint: Any) -> Any:
    return Literal if get_origin(hint) is Literal else hint


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {_shown(value)}")
    try:
        return _not_too_large(name, float(value))
    except OverflowError as error:
        raise ValueError(f"{name} must be a number that a float can hold, got {_shown(value)}") from error


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {_shown(value)}")
    if abs(value) >= 2**63:
        raise ValueError(f"{name} must be a whole number of at most 64 bits, got {_shown(value)}")
    return int(_not_too_large(name, value))


def _not_too_large(name: str, value: float) -> float:
    if value > LARGEST.get(name, float("inf")):
        raise ValueError(f"{name} must be at most {LARGEST[name]:g}, got {_shown(value)}")
    return value


def _word(name: str, value: object) -> str:
    check_choice(name, _text(name, value), get_args(TYPES[name]))
    return str(value)


_READ: dict[Any, Callable[[str, object], Any]] = {float: _number, int: _whole, Literal: _word}


def _numbers(value: object) -> dict[str, float]:
    given = _mapping("numbers", value)
    if len(given) > _MOST_NUMBERS:
        raise ValueError(f"numbers must be at most {_MOST_NUMBERS}, got {len(given)}")
    return {_text("numbers", name): _number(name, number) for name, number in given.items()}


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, got {_shown(value)}")
    return value


def _text(name: str, value: object, longest: int = _LONGEST_NAME) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} must be a text of at most {longest} characters, got {_shown(value)}")
    return value


def _refuse_unknown(name: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{name} {_shown(key)} is unknown (known: {', '.join(known)})")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
