"""Frozen Lake: fine-tuning methods where the optimal policy is known. `align(Lake.make("ring"), ["sft", "ift"])`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import common as _common  # noqa: F401  # it ends commands that are stopped while they are imported

if TYPE_CHECKING:
    from toy.experiment import Result, align
    from toy.lake import Lake
    from toy.planning import evaluate, value_iteration
    from toy.protocols import PROTOCOLS, Protocol, protocol
    from toy.scored_cells import scored_states
    from toy.settings import Settings
    from toy.sweeps import sweep
    from toy.trials import Trial

__all__ = [
    "PROTOCOLS",
    "Lake",
    "Protocol",
    "Result",
    "Settings",
    "Trial",
    "align",
    "evaluate",
    "protocol",
    "scored_states",
    "sweep",
    "value_iteration",
]

_MODULE_OF = {
    "Lake": "lake",
    "PROTOCOLS": "protocols",
    "Protocol": "protocols",
    "Result": "experiment",
    "Settings": "settings",
    "Trial": "trials",
    "align": "experiment",
    "evaluate": "planning",
    "protocol": "protocols",
    "scored_states": "scored_cells",
    "sweep": "sweeps",
    "value_iteration": "planning",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: a command's `--help` should not wait for PyTorch and pandas.
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'toy' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"toy.{_MODULE_OF[name]}"), name)
    return value
