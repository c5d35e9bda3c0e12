"""Former names of options: they go on working for one version, and each use says what the option is called now."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Kind = TypeVar("Kind", bound=type)


def with_new_names(
    given: Mapping[str, Any], new_names: Mapping[str, str], note: Callable[[str], Any]
) -> dict[str, Any]:
    """The same options, each former name in `new_names` by its new one; `note` gets a line for each.

    Raises:
        ValueError: an option that is given by both of its names.
    """
    options: dict[str, Any] = {}
    for name, value in given.items():
        new = new_names.get(name, name)
        if new in options or (new != name and new in given):
            former = next(key for key in given if new_names.get(key) == new)
            raise ValueError(f"{new} is given twice: {former!r} is its former name, leave it out")
        if new != name:
            note(f"{name!r} is called {new!r} now; the former name goes with the next version")
        options[new] = value
    return options


def takes_former_names(new_names: Mapping[str, str]) -> Callable[[Kind], Kind]:
    """For a class whose keyword arguments have new names: its former ones work, with a `DeprecationWarning`."""

    def wrap(kind: Kind) -> Kind:
        init = kind.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def renaming(self: Any, *args: Any, **given: Any) -> None:
            warn = functools.partial(warnings.warn, category=DeprecationWarning, stacklevel=3)
            init(self, *args, **with_new_names(given, new_names, lambda line: warn(f"the option {line}")))

        kind.__init__ = renaming  # type: ignore[misc]
        return kind

    return wrap
