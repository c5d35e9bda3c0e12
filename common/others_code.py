"""Losses of methods from outside this project in a training: what goes wrong in one is said in a line that names it."""

import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from common.command import FailedError


def in_training(loss: Callable[..., Any], method: str, origins: Mapping[str, Any]) -> Callable[..., Any]:
    """The loss of a method; if the method is one of `origins`, whatever it raises becomes a `FailedError`.

    An interrupt stays one, and so does a memory that is too small, which is no fault of the loss.
    """
    if method not in origins:
        return loss
    file = str(origins[method].reference).rpartition(":")[0]

    @wraps(loss)
    def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return loss(*arguments, **named)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | MemoryError) or "out of memory" in str(error):
                raise
            raise FailedError(f"method {method!r}: its loss failed in the training: {_cause(error, file)}") from error

    return guarded


def _cause(error: BaseException, file: str) -> str:
    """The type of an error, what it says, and the line that it is from, in the method's file where that has a part."""
    frames = traceback.extract_tb(error.__traceback__)
    where = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if said else ''}{said} ({Path(where.filename).name}, line {where.lineno})"
