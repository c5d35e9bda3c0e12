"""PyTorch, imported when it is first used: a command's `--help` lists the methods and need not wait for it.

The core's modules write `from ift import lazy_torch as torch`; to a type checker they import PyTorch itself.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    import torch

    return getattr(torch, name)
