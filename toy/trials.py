"""A trial: a method with its settings. What `--method` names is a method, or a variant of one such as `ift:lam=0`."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_type_hints

from ift import METHODS, Method, method_names
from toy.settings import IFTOptions, NumberOptions, PairOptions, PPOOptions, Settings, TrainingOptions

# What a variant may change: not what fixes the start policy or the seeds, which all methods share.
_CHANGEABLE = {
    name: hint
    for group in (NumberOptions, TrainingOptions, IFTOptions, PairOptions, PPOOptions)
    for name, hint in get_type_hints(group).items()
    if name != "numbers"
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

    A method of a file, as in `my_method.py:mine:power=2`, has its value's name here, as in `mine:power=2`.

    Raises:
        ValueError: an unknown method, or a variant that changes what is no setting of a method's own.
    """
    words = [METHODS.named_in(word) for word in ([requested] if isinstance(requested, str) else requested)]
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
    if name == "all" or "," in name:
        raise ValueError(f"method {text!r} must name one method before the colon")
    (method,) = method_names(name)
    own = {number.name for number in METHODS[method].numbers}
    changed: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for change in changes.split(","):
        key, _, value = change.partition("=")
        if key in own and key not in _CHANGEABLE:
            numbers[key] = _typed(text, key, value, float)
        elif key in _CHANGEABLE:
            changed[key] = _typed(text, key, value, _CHANGEABLE[key])
        elif any(key == number.name for each in METHODS.values() for number in each.numbers):
            raise ValueError(f"method {text!r}: {method} has no number {key!r} (it has: {', '.join(own) or 'none'})")
        else:
            raise ValueError(f"method {text!r}: {key!r} cannot differ between methods (can: {', '.join(_CHANGEABLE)})")
    for key in changed:
        if key in (field.name for field in fields(NumberOptions)) and key not in own:
            raise ValueError(f"method {text!r}: {method} has no number {key!r} (it has: {', '.join(own) or 'none'})")
    words = tuple(f"{method}.{key}={value!r}" for key, value in numbers.items())
    return Trial(method, replace(settings, **changed, numbers=(*settings.numbers, *words)))


def _typed(text: str, key: str, value: str, hint: Any) -> Any:
    """The value as the setting's type: a whole number, a number, or a word."""
    kinds = {hint, *get_args(hint)}  # of `float | None`: float too
    try:
        return int(value) if int in kinds else float(value) if float in kinds else value
    except ValueError as error:
        raise ValueError(f"method {text!r}: {key} must be a number, got {value!r}") from error
