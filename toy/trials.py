"""A trial: a method with its settings. What `--method` names is a method, or a variant of one such as `ift:lam=0`."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from ift import METHODS, Method, method_names
from toy.settings import IFTOptions, NumberOptions, PairOptions, PPOOptions, Settings, TrainingOptions

# What a variant may change: not what fixes the start policy or the seeds, which all methods share.
_CHANGEABLE = {
    field.name: get_type_hints(group)[field.name]
    for group in (NumberOptions, TrainingOptions, IFTOptions, PairOptions, PPOOptions)
    for field in fields(group)
    if field.name != "numbers"
}


@dataclass(frozen=True)
class Trial:
    """A method with its settings."""

    method: str
    settings: Settings

    @property
    def value(self) -> Method:
        """The method itself."""
        return METHODS[self.method]


def named_trials(requested: str | Iterable[str], settings: Settings) -> dict[str, Trial]:
    """The trials that a list such as `["sft", "ift", "ift:lam=0"]` names, by these names, in order.

    Raises:
        ValueError: an unknown method, or a variant that changes what is no setting of a method's own.
    """
    words = [requested] if isinstance(requested, str) else list(requested)
    trials: dict[str, Trial] = {}
    for word in words or [""]:
        if "=" in word:
            trials[word] = _variant(word, settings)
        else:
            trials |= {name: Trial(name, settings) for name in method_names(word if word else ())}
    return trials


def _variant(text: str, settings: Settings) -> Trial:
    name, colon, changes = text.partition(":")
    if not colon:
        raise ValueError(f"method {text!r} must read METHOD:NAME=VALUE to change a setting, such as ift:lam=0")
    if name == "all":
        raise ValueError(f"method {text!r} must name one method before the colon")
    (method,) = method_names(name)
    changed: dict[str, Any] = {}
    for change in changes.split(","):
        key, _, value = change.partition("=")
        if key not in _CHANGEABLE:
            raise ValueError(f"method {text!r}: {key!r} cannot differ between methods (can: {', '.join(_CHANGEABLE)})")
        changed[key] = _typed(text, key, value)
    own = {number.name for number in METHODS[method].numbers}
    for key in changed:
        if key in (field.name for field in fields(NumberOptions)) and key not in own:
            raise ValueError(f"method {text!r}: {method} has no number {key!r} (it has: {', '.join(own) or 'none'})")
    return Trial(method, replace(settings, **changed))


def _typed(text: str, key: str, value: str) -> Any:
    """The value as the setting's type: a whole number, a number, or a word."""
    kind = _CHANGEABLE[key]
    try:
        return int(value) if kind in (int, int | None) else float(value) if kind in (float, float | None) else value
    except ValueError as error:
        raise ValueError(f"method {text!r}: {key} must be a number, got {value!r}") from error
