"""What a name of transformers must be, checked before any work: schedules, optimisers, where to log, attention."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from transformers import SchedulerType, Trainer
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.training_args import OptimizerNames

from lm.train.settings import TrainSettings


def check_names(settings: TrainSettings) -> None:
    """Raise `ValueError` for a schedule, an optimiser or a place to log to that is unknown or not installed."""
    _require("lr_scheduler_type", settings.lr_scheduler_type, (kind.value for kind in SchedulerType))
    _require("optim", settings.optim, (kind.value for kind in OptimizerNames))
    for name in reports(settings):
        _require("report_to", name, INTEGRATION_TO_CALLBACK)
        if name not in get_available_reporting_integrations():
            raise ValueError(f"report_to {name!r} needs a package that is not installed: pip install {name}")


def reports(settings: TrainSettings) -> list[str]:
    """Where else to log."""
    names = [name.strip() for name in settings.report_to.split(",")]
    return [] if names == ["none"] else names


def check_optimizer(settings: TrainSettings, args: Any, model: Any) -> None:
    """Raise `ValueError` for an optimiser that this machine cannot make; `args` are TRL's."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(args, model)
    except Exception as error:  # each optimiser's package has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        package = "; pip install bitsandbytes" if "8bit" in settings.optim or "paged" in settings.optim else ""
        raise ValueError(f"optim {settings.optim!r} cannot be made here ({reason}){package}") from error


def _require(option: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        near = get_close_matches(value.lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise ValueError(f"{option} {value[:200]!r} is unknown: {hint}")
