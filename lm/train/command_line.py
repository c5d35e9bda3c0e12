"""Settings from recipes (YAML files) and the command line."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from common import command
from common.renamed import with_new_names
from ift import METHODS
from lm.train.settings import Groups, TrainSettings, groups_type
from lm.trainers.names import NEW_NAMES

_NEW_FLAGS = {f"--{name.replace('_', '-')}": f"--{new}" for name, new in NEW_NAMES.items()}


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> TrainSettings:
    """Settings from recipes and the command line, which wins; raises `ValueError` for a bad one."""
    recipes = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    recipes.add_argument("--config", action="append", default=[])
    try:
        given, rest = recipes.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ValueError("config needs the name of a YAML file") from error
    rest = [METHODS.named_in(word) for word in rest]  # first, as help and options are made of the methods
    for path in given.config:
        METHODS.named_in(str(_mapping(path).get("method", "")))
    kind = groups_type()
    groups = kind()
    for path in given.config:
        groups = read_recipe(path, groups)
        groups.settings()  # a bad value is named here, before the parser sees it as a default
    groups = command.parse(kind, "python -m lm.train", description, arguments=rest, default=groups, renamed=_NEW_FLAGS)
    settings: TrainSettings = groups.settings()
    trainer_options(settings)
    return settings


def read_recipe(path: str | Path, groups: Groups | None = None) -> Groups:
    """The options that a YAML file sets, on top of `groups` or of the defaults.

    Raises:
        ValueError: no such file, not a mapping, or an unknown key (the message has the nearest known one).
    """
    given = with_new_names(
        _mapping(path), NEW_NAMES, lambda line: print(f"note: config {str(path)!r}: {line}", file=sys.stderr)
    )
    groups = groups or groups_type()()
    known = {option.name: option for group in vars(groups).values() for option in dataclasses.fields(group)}
    hints = {name: hint for group in vars(groups).values() for name, hint in get_type_hints(type(group)).items()}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"config {str(path)!r}: {name!r} is no option{_nearest(str(name), tuple(known))}")
        if isinstance(value, list):
            given[name] = tuple(map(str, value))
        elif isinstance(known[name].default, tuple):
            given[name] = (str(value),)
        elif hints[name] in (float, float | None) and isinstance(value, str) and _number(value) is not None:
            given[name] = _number(value)  # YAML reads 5e-7 as text
    if isinstance(given.get("method"), str):
        given["method"] = METHODS.named_in(given["method"])
    return type(groups)(
        **{
            name: dataclasses.replace(group, **{key: given[key] for key in vars(group) if key in given})
            for name, group in vars(groups).items()
        }
    )


def _mapping(path: str | Path) -> dict[str, Any]:
    """What a recipe says; raises `ValueError` if it is no file or holds no mapping."""
    if not Path(path).is_file():
        raise ValueError(f"config {str(path)!r} is not a file")
    try:
        given = yaml.safe_load(Path(path).read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"config {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ValueError(f"config {str(path)!r} must hold 'name: value' lines")
    return given


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower(), known, n=1)
    return f": did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def trainer_options(settings: TrainSettings) -> dict[str, Any]:
    """The `NAME=VALUE` pairs of `trainer`, values read as YAML.

    Raises:
        ValueError: one without `=`, a value that is not YAML, or a name that has an option of its own.
    """
    options = {}
    for pair in settings.trainer:
        name, equals, value = pair.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise ValueError(f"trainer must be NAME=VALUE, got {pair!r}")
        if name in vars(settings):
            raise ValueError(f"trainer: {name!r} has an option of its own, --{name.replace('_', '-')}")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"trainer: the value of {pair!r} is not YAML: quote it") from error
        if isinstance(options[name], str) and _number(value) is not None:  # YAML reads 5e-7 as text
            options[name] = _number(value)
    return options
