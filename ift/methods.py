"""All methods by name: the same in `toy`, `lm`, `experiments`, `figures` and on the command lines."""

from collections.abc import Iterable
from difflib import get_close_matches

from ift import ceilings, cousins, pairs, rollouts, still, targets
from ift.own import Methods

METHODS = Methods(
    (*targets.METHODS, *pairs.METHODS, *rollouts.METHODS, *cousins.METHODS, *still.METHODS, *ceilings.METHODS)
)


def method_names(requested: str | Iterable[str]) -> tuple[str, ...]:
    """Known, distinct names in the order asked for, also from `"sft,ift"`; `all` stands for every method.

    `FILE.py:NAME` stands for a method in a file of yours (`ift.own`).

    Raises:
        ValueError: nothing asked for, an unknown name (the message has the nearest known one), or a method from outside
            whose loss does not do what its value says.
    """
    names: list[str] = []
    parts = [requested] if isinstance(requested, str) else requested
    for name in (name for part in parts for name in METHODS.named_in(part).split(",")):
        if name != "all" and name not in METHODS:
            near = get_close_matches(name.lower(), (*METHODS, "all"), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"method {name!r} is unknown{hint} (known: {', '.join(METHODS)}, all; one in a file of yours is "
                "FILE.py:NAME, NAME being its ift.Method)"
            )
        names.extend(METHODS if name == "all" else [name])
    if not names:
        raise ValueError(f"method must name at least one of {', '.join(METHODS)}, all")
    for name in names:
        METHODS.try_outsider(name)
    return tuple(dict.fromkeys(names))
