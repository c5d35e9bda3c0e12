"""What a name of transformers must be, checked before any work: schedules, optimisers, where to log, attention."""

import copy
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from peft import PeftModel
from transformers import SchedulerType, Trainer, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.training_args import OptimizerNames
from transformers.utils import is_liger_kernel_available

from common.models import reason
from lm.train.settings import TrainSettings

# Options of TRL's configurations that some optimisers have no use for.
_OF_OPTIMIZERS = frozenset(("optim_args", "optim_target_modules", "adam_beta1", "adam_beta2", "adam_epsilon"))
_UPDATES = 1000  # of a schedule that is made to see whether it can be


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
        package = "; pip install bitsandbytes" if "8bit" in settings.optim or "paged" in settings.optim else ""
        raise ValueError(f"optim {settings.optim!r} cannot be made here ({reason(error)}){package}") from error
    for name in _OF_OPTIMIZERS.intersection(asked):
        default = type(args).__dataclass_fields__[name].default
        if getattr(args, name) != default and made == _made_with(args, model, name, default):
            raise ValueError(f"trainer: {name!r} cannot be set: it does nothing with optim {settings.optim}")
    names = ", ".join(sorted(_OF_OPTIMIZERS.intersection(asked)))
    kind, options = made
    if names and isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        try:
            kind([torch.nn.Parameter(torch.zeros(1))], **{name: options[name] for name in options if name != "fused"})
        except (ValueError, TypeError, AssertionError) as error:
            raise ValueError(
                f"trainer: {names} cannot be set so with optim {settings.optim} ({reason(error)})"
            ) from error


def check_schedule(settings: TrainSettings, args: Any, asked: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a schedule that cannot be made, with the options that the user has set for it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    kind, warmup = args.lr_scheduler_type, args.get_warmup_steps(_UPDATES)
    try:
        get_scheduler(kind, optimizer, warmup, _UPDATES, args.lr_scheduler_kwargs)
    except Exception as error:  # of options of any type
        option = "trainer: 'lr_scheduler_kwargs'" if "lr_scheduler_kwargs" in asked else "lr_scheduler_type"
        raise ValueError(
            f"{option} does not fit the schedule {settings.lr_scheduler_type} ({reason(error)})"
        ) from error


def check_layers(settings: TrainSettings, model: Any) -> None:
    """Raise `ValueError` for layers that a new adapter is to be put on, or to train whole, and the model has not."""
    if not settings.lora_r or isinstance(model, PeftModel):
        return
    layers = [name for name, _ in model.named_modules() if name]
    known = sorted({layer.split(".")[-1] for layer in layers if not layer.split(".")[-1].isdigit()})
    for option in ("lora_target_modules", "modules_to_save"):
        for name in getattr(settings, option).replace(" ", "").split(","):
            if name not in ("", "all-linear") and not any(f".{layer}".endswith(f".{name}") for layer in layers):
                near = get_close_matches(name.lower(), known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"its layers are called {', '.join(known)}"
                raise ValueError(f"{option} {name[:200]!r} is no layer of the model: {hint}")


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
