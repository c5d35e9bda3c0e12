"""`tiny-lake`: the small base model of the lake, trained on this machine the first time and kept."""

import os
from collections.abc import Callable
from pathlib import Path

from common.folders import made_once
from common.models import save_whole
from lm.lake.base import train_base
from lm.lake.words import make_tokenizer

NAME = "tiny-lake"


def tiny_lake(report: Callable[[float], None] = lambda share: None) -> Path:
    """Folder of the lake's small base model; trained the first time (about a minute on 2 cores), then kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intuitive-fine-tuning"
    folder = cache / "tiny-lake-2"  # the number changes with whatever changes the model
    return made_once(folder, lambda: save_whole(train_base(seed=0, report=report), make_tokenizer(), folder))


def located(model: str) -> str:
    """The folder of the small model for `tiny-lake`, made if it is not there; any other name as it is."""
    return str(tiny_lake()) if model == NAME else model
