"""The lake in words: a random map as the prompt, a walk to the goal as the answer, and a small model that plays it.

What it offers is imported when it is first used: the commands' `--help` need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

from lm.lake.maps import MOVES, SPLITS, random_maps

if TYPE_CHECKING:
    from lm.lake.base import make_model, train_base
    from lm.lake.teacher import KINDS, examples
    from lm.lake.words import in_words, make_tokenizer, prompt

__all__ = ["KINDS", "MOVES", "SPLITS", "examples", "in_words", "make_model", "make_tokenizer", "prompt", "random_maps",
           "train_base"]  # fmt: skip

_MODULES = {
    "KINDS": "teacher",
    "examples": "teacher",
    "in_words": "words",
    "make_model": "base",
    "make_tokenizer": "words",
    "prompt": "words",
    "train_base": "base",
}

gymnasium.register("lm/LakeText-v0", entry_point="lm.lake.env:LakeText")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"lm.lake.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
