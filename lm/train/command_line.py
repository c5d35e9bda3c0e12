"""Settings from YAML files (recipes, the config.yaml of a run) and the command line, and back to such a file."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from common import command
from common.renamed import with_new_names
from ift import METHODS
from lm.train.settings import Groups, TrainSettings, groups_type
from lm.trainers.names import NEW_NAMES

_NEW_FLAGS = {f"--{name.replace('_', '-')}": f"--{new}" for name, new in NEW_NAMES.items()}
_OPTIONS = {option.name: option for option in dataclasses.fields(TrainSettings)}
_SEVERAL = {f"--{name.replace('_', '-')}" for name, option in _OPTIONS.items() if isinstance(option.default, tuple)}
# What a run's config.yaml leaves out: how it was started, not what it did; and what has to be said anew.
_OF_THE_START = {"output_dir", "resume", "overwrite", "dry_run", "trust_remote_code"}
SECRETS = ("hub_token",)


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> TrainSettings:
    """Settings from YAML files and the command line, which wins; raises `ValueError` for a bad one."""
    return parse_groups(arguments, description).settings()


def parse_groups(arguments: Sequence[str] | None = None, description: str | None = None) -> Groups:
    """The same in their groups, with what is to be done with the settings themselves."""
    recipes = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    recipes.add_argument("--config", action="append", nargs="+", default=[])
    words = sys.argv[1:] if arguments is None else arguments
    try:
        given, rest = recipes.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ValueError("config needs the name of a YAML file") from error
    paths = [path for paths in given.config for path in paths]
    rest = METHODS.named_in_option(rest)  # first, as help and options are made of the methods
    kind = groups_type()
    groups = kind()
    for path in paths:
        groups = read_recipe(path, groups, words)
        groups.settings()  # a bad value is named here, before the parser sees it as a default
    parsed: Groups = command.parse(
        kind, "python -m lm.train", description, arguments=_together(rest), default=groups, renamed=_NEW_FLAGS
    )
    trainer_options(parsed.settings())
    return parsed


def _together(words: Sequence[str]) -> list[str]:
    """The words of a command line, the values of an option that takes several and is given again beside its first."""
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    current = kept
    for word in words:
        name, equals, value = word.partition("=")
        flag = name.replace("_", "-")
        if flag in _SEVERAL:
            current = values.setdefault(flag, [])
            current.extend([value] if equals else [])
        else:
            current = kept if word.startswith("--") else current
            current.append(word)
    return kept + [word for flag, several in values.items() for word in (flag, *several)]


def require_said(path: str | Path, given: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raise `ValueError` for what a YAML file would have run: a recipe may be somebody else's, and is data.

    A method's file is taken if the `words` of the command line name it, too.
    """
    method = str(given.get("method", ""))
    named = {word.removeprefix("--method=") for word in METHODS.words_of_option(words)}
    if METHODS.is_in_a_file(method) and method not in named:
        raise ValueError(
            f"config {str(path)!r} names a file that would be run: if you trust it, add --method {method[:200]}"
        )
    if given.get("trust_remote_code"):
        raise ValueError(
            f"config {str(path)!r}: trust_remote_code runs the code of a model, so no file may set it: leave it "
            "out, and give --trust-remote-code if you trust the model"
        )


def read_recipe(path: str | Path, groups: Groups | None = None, words: Sequence[str] = ()) -> Groups:
    """The options that a YAML file sets, on top of `groups` or of the defaults.

    `words` are those of the command line, which alone may have code run.

    Raises:
        ValueError: no such file, not a mapping, an unknown key (the message has the nearest known one), or code that
            the `words` do not name.
    """
    given = with_new_names(
        _mapping(path), NEW_NAMES, lambda line: print(f"note: config {str(path)!r}: {line}", file=sys.stderr)
    )
    require_said(path, given, words)
    groups = groups or groups_type()()
    known = {
        option.name: (option, get_type_hints(type(group))[option.name])
        for name, group in vars(groups).items()
        for option in dataclasses.fields(group)
        if name != "files"
    }
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f"config {str(path)!r}: {str(name)[:200]!r} is no option{_nearest(str(name), tuple(known))}"
            )
        given[name] = _read(name, value, *known[name], path)
    if isinstance(given.get("method"), str):
        given["method"] = METHODS.named_in(given["method"])
    return type(groups)(
        **{
            name: dataclasses.replace(group, **{key: given[key] for key in vars(group) if key in given})
            for name, group in vars(groups).items()
        }
    )


class _TwiceError(ValueError):
    """A key that is given twice."""


class _KeysOnce(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise _TwiceError(f"{key[:200]!r} is given twice")
        return super().construct_mapping(node, deep)


def _mapping(path: str | Path) -> dict[str, Any]:
    """What a recipe says; raises `ValueError` if it is no file or holds no mapping."""
    if not Path(path).is_file():
        raise ValueError(f"config {str(path)!r} is not a file")
    try:
        given = yaml.load(Path(path).read_text(encoding="utf-8"), _KeysOnce) or {}
    except _TwiceError as error:
        raise ValueError(f"config {str(path)!r}: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"config {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"config {str(path)!r} cannot be read: it must be YAML, as UTF-8 text") from error
    if not isinstance(given, dict):
        raise ValueError(f"config {str(path)!r} must hold 'name: value' lines")
    return given


def _read(name: str, value: Any, option: dataclasses.Field[Any], hint: Any, path: str | Path) -> Any:
    """A value of a YAML file as the option's type has it, where YAML has another."""
    if isinstance(option.default, tuple):
        kind, several = get_args(hint)[0], value if isinstance(value, list) else [value]
        if any(type(one) is not kind for one in several):
            wanted = "whole numbers" if kind is int else "text, or a list of texts"
            raise ValueError(f"config {str(path)!r}: {name} must be {wanted}, got {str(value)[:200]!r}")
        return tuple(several)
    if hint in (float, float | None) and isinstance(value, str) and _number(value) is not None:
        return _number(value)  # YAML reads 5e-7 as text
    return tuple(value) if isinstance(value, list) else value


def as_yaml(settings: TrainSettings) -> str:
    """The options as a YAML file that `--config` reads back; how the run was started is left out."""
    kept = {name: value for name, value in vars(settings).items() if name not in _OF_THE_START}
    origin = METHODS.origins.get(settings.method)
    if origin is not None and ".py:" in origin.reference:
        kept["method"] = origin.reference
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
    return yaml.safe_dump(lists, sort_keys=False, allow_unicode=True, width=1000)


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
            raise ValueError(f"trainer must be NAME=VALUE, got {pair[:200]!r}")
        if name in vars(settings):
            raise ValueError(f"trainer: {name!r} has an option of its own, --{name.replace('_', '-')}")
        if name in SECRETS:
            raise ValueError(f"trainer: {name!r} would be kept in files: set the environment variable HF_TOKEN")
        if name in options:
            raise ValueError(f"trainer: {name!r} is given twice")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"trainer: the value of {pair[:200]!r} is not YAML: quote it") from error
        if isinstance(options[name], str) and _number(value) is not None:  # YAML reads 5e-7 as text
            options[name] = _number(value)
    return options
