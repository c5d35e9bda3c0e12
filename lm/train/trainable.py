"""Which methods a language model can be trained with, and by whom; light, as it is read before TRL is imported.

TRL trains those of `TRL_LOSSES`, IFT has `IFTTrainer`, and every other method is trained through its own loss.
"""

from difflib import get_close_matches
from typing import Any

from ift import METHODS, Method

# The methods that TRL itself trains, with the options by which its configurations know them.
TRL_LOSSES: dict[str, dict[str, Any]] = {
    "sft": {"loss_type": "nll"},
    "dft": {"loss_type": "dft"},
    "dpo": {"loss_type": ["sigmoid"]},
    "ipo": {"loss_type": ["ipo"]},
    "kto": {"loss_type": "kto"},
}
# Numbers that these methods have on the lake, and TRL's losses have not.
TRL_LACKS = {"dpo": ("label_smoothing",)}


def why_not(method: Method) -> str | None:
    """Why a language model cannot be trained with a method; None if it can."""
    if method.learns_from == "rollouts":
        return "it learns from rollouts"
    if method.unpaired and method.name not in TRL_LOSSES:
        return "its loss takes single answers, which only KTO's trainer has"
    if method.learns_from == "optimum":
        return "it learns from the optimal policy, which only a lake has"
    if method.mixes_states and method.name not in ("ift", "scheduled"):
        return f"it is trained in {method.states} states, which only IFT's trainer does"
    if "beside" in method.reads and method.name != "still":
        return "it reads states beside the target, which only a lake and still's trainer have"
    if any(number.name == "refresh" for number in method.numbers):
        if method.learns_from == "pairs":
            return (
                "it draws its negatives anew (one round of it is dpo on pairs with the model's own answers, which "
                "`python -m lm.lake data --own` makes)"
            )
        if method.per_token:
            return "it reads the whole policy of a reference that is refreshed, which only a lake does"
    return None


def trainable() -> tuple[str, ...]:
    """Names of the methods that a language model can be trained with."""
    return tuple(name for name, method in METHODS.items() if why_not(method) is None)


def require_trainable(name: str) -> str:
    """The name of a method that a language model can be trained with; `FILE.py:NAME` stands for one of a file.

    Raises:
        ValueError: a method that is unknown, that no language model can be trained with, or whose loss is broken.
    """
    name = METHODS.named_in(name)
    if name not in METHODS:
        near = get_close_matches(name.lower(), trainable(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(trainable())}"
        raise ValueError(f"method {name!r} is unknown: {hint}")
    problem = why_not(METHODS[name])
    if problem is not None:
        raise ValueError(
            f"method {name!r} cannot be trained on a language model: {problem}; take one of {', '.join(trainable())}"
        )
    METHODS.try_outsider(name)
    return name
