"""The fine-tuning methods as values: the same names and needs in `toy`, `lm`, `figures` and on the command lines."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from torch import Tensor

from ift import losses


@dataclass(frozen=True)
class Method:
    """What a method learns from, whether it needs a frozen reference policy, and its loss in `ift.losses`."""

    name: str
    learns_from: Literal["targets", "pairs", "rollouts"]
    needs_reference: bool
    loss: Callable[..., Tensor]


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("sft", "targets", False, losses.sft_loss),  # Supervised fine-tuning
        Method("ift", "targets", False, losses.ift_loss),  # Intuitive fine-tuning (2405.11870)
        Method("dft", "targets", False, losses.dft_loss),  # Dynamic fine-tuning (2508.05629)
        Method("dpo", "pairs", True, losses.dpo_loss),  # Direct preference optimisation (2305.18290)
        Method("ipo", "pairs", True, losses.ipo_loss),  # Identity preference optimisation (2310.12036)
        Method("orpo", "pairs", False, losses.orpo_loss),  # Odds-ratio preference optimisation (2403.07691)
        Method("kto", "pairs", True, losses.kto_loss),  # Kahneman-Tversky optimisation (2402.01306)
        Method("simpo", "pairs", False, losses.simpo_loss),  # Simple preference optimisation (2405.14734)
        Method("ppo", "rollouts", False, losses.ppo_loss),  # Proximal policy optimisation (1707.06347)
    )
}


def method_names(requested: str | Iterable[str]) -> tuple[str, ...]:
    """Known, distinct names in the order asked for, also from `"sft,ift"`; `all` stands for every method.

    Raises:
        ValueError: nothing asked for, or an unknown name (the message has the nearest known one).
    """
    names: list[str] = []
    parts = [requested] if isinstance(requested, str) else requested
    for name in (name for part in parts for name in part.split(",")):
        if name != "all" and name not in METHODS:
            near = get_close_matches(name.lower(), (*METHODS, "all"), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"method {name!r} is unknown: {hint}(known: {', '.join(METHODS)}, all)")
        names.extend(METHODS if name == "all" else [name])
    if not names:
        raise ValueError(f"method must name at least one of {', '.join(METHODS)}, all")
    return tuple(dict.fromkeys(names))
