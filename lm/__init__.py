"""Language models: the core's loss inside TRL's trainer, `IFTTrainer(model, args=IFTConfig(…), train_dataset=…)`.

The names are imported when they are first used: the commands of `lm` need not wait for TRL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import common as _common  # noqa: F401  # it ends commands that are stopped while they are imported

if TYPE_CHECKING:
    from lm.trainers.config import IFTConfig
    from lm.trainers.ift import IFTTrainer
    from lm.trainers.still import StillConfig, StillTrainer

__all__ = ["IFTConfig", "IFTTrainer", "StillConfig", "StillTrainer"]

_MODULES = {
    "IFTConfig": "lm.trainers.config",
    "IFTTrainer": "lm.trainers.ift",
    "StillConfig": "lm.trainers.still",
    "StillTrainer": "lm.trainers.still",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
