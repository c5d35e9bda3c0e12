"""What a name of transformers must be, checked before any work: schedules, optimisers, where to log, attention."""

import copy
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from transformers import SchedulerType, Trainer
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.training_args import OptimizerNames
from transformers.utils import is_liger_kernel_available

from lm.train.settings import TrainSettings

# Options of TRL's configurations that some optimisers have no use for.
_OF_OPTIMIZERS = frozenset(("optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon"))


def check_names(settings: TrainSettings, asked: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a schedule, an optimiser, a place to log to or kernels that are unknown or not there.

    `asked` are the options of TRL's that the user has set.
    """
    _require("lr_scheduler_type", settings.lr_scheduler_type, (kind.value for kind in SchedulerType))
    _require("optim", settings.optim, (kind.value for kind in OptimizerNames))
    for name in reports(settings):
        _require("report_to", name, INTEGRATION_TO_CALLBACK)
        if name not in get_available_reporting_integrations():
            raise ValueError(f"report_to {name!r} needs a package that is not installed: pip install {name}")
    if asked.get("use_liger_kernel") and not (is_liger_kernel_available() and torch.cuda.is_available()):
        raise ValueError("trainer: 'use_liger_kernel' needs a GPU and a package of its own: pip install liger-kernel")


def reports(settings: TrainSettings) -> list[str]:
    """Where else to log."""
    names = [name.strip() for name in settings.report_to.split(",")]
    return [] if names == ["none"] else names


def check_optimizer(settings: TrainSettings, args: Any, model: Any, asked: Iterable[str] = ()) -> None:
    """Raise `ValueError` for an optimiser that this machine cannot make, or that has none of the numbers `asked` for.

    `args` are TRL's, `asked` the names that the user has set there.
    """
    try:
        made = Trainer.get_optimizer_cls_and_kwargs(args, model)
    except Exception as error:  # each optimiser's package has its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        package = "; pip install bitsandbytes" if "8bit" in settings.optim or "paged" in settings.optim else ""
        raise ValueError(f"optim {settings.optim!r} cannot be made here ({reason}){package}") from error
    for name in _OF_OPTIMIZERS.intersection(asked):
        default = type(args).__dataclass_fields__[name].default
        if getattr(args, name) != default and made == _made_with(args, model, name, default):
            raise ValueError(f"trainer: {name!r} cannot be set: it does nothing with optim {settings.optim}")


def _made_with(args: Any, model: Any, name: str, value: Any) -> Any:
    """What the optimiser would be with another value of an option; None if it cannot be made."""
    other = copy.copy(args)
    setattr(other, name, value)
    try:
        return Trainer.get_optimizer_cls_and_kwargs(other, model)
    except Exception:  # optimisers of many packages, each with errors of its own: all mean that it cannot be made
        return None


def _require(option: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        near = get_close_matches(value.lower(), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        raise ValueError(f"{option} {value[:200]!r} is unknown: {hint}")
