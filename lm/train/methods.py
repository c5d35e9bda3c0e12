"""Each method as a trainer: IFT's own, TRL's where TRL trains the method, else TRL's data path with the core's loss."""

import dataclasses
from types import NoneType
from typing import Any, get_args, get_type_hints

from datasets import Dataset
from trl import DPOConfig, KTOConfig, SFTConfig

from common.models import reason
from ift import METHODS
from lm.train.acting import refuse_idle, why_refused
from lm.train.options import IFTOptions
from lm.train.settings import TrainSettings
from lm.train.trainable import TRL_LOSSES
from lm.trainers.config import IFTConfig
from lm.trainers.ift import IFTTrainer
from lm.trainers.preference import PairTrainer, PreferenceTrainer, UnpairedTrainer, unpaired
from lm.trainers.still import StillConfig, StillTrainer
from lm.trainers.supervised import SupervisedTrainer, TargetTrainer


def make_arguments(settings: TrainSettings, options: dict[str, Any], asked: dict[str, Any] | None = None) -> Any:
    """The TRL configuration of `settings.method`; made before models are loaded, so that engines can shard them.

    `options` are ours, `asked` what the user adds to them by TRL's names.

    Raises:
        ValueError: an option that the configuration does not have, refuses, or that has a name of ours.
    """
    method = METHODS[settings.method]
    for name in asked or {}:
        why = why_refused(name, method)
        if why is not None:
            raise ValueError(f"trainer: {name!r} cannot be set: {why}")
    try:
        args = _configuration(settings, options | (asked or {}))
    except ValueError as error:
        if any(name in str(error) for name in ("trainer", *(asked or {}))) or not asked:
            raise
        raise ValueError(f"trainer: {', '.join(asked)} cannot be set so ({reason(error)})") from error
    refuse_idle(asked or {}, args, settings.lora_r > 0)
    return args


def _configuration(settings: TrainSettings, options: dict[str, Any]) -> Any:
    method = METHODS[settings.method]
    if method.mixes_states:
        own = {option.name: getattr(settings, option.name) for option in dataclasses.fields(IFTOptions)}
        own |= {"gamma": 0.0} | settings.numbers | {"residual": method.states}
        return _configure(IFTConfig, options, own)
    if method.name == "still":
        return _configure(StillConfig, options, settings.numbers)
    of_trl = TRL_LOSSES.get(method.name, {})
    if method.learns_from == "targets":
        return _configure(SFTConfig, options, {"loss_type": "nll"} | of_trl)
    beta = {name: value for name, value in settings.numbers.items() if name == "beta"}
    if method.unpaired:
        return _configure(KTOConfig, options, beta | of_trl)
    return _configure(DPOConfig, options, beta | {"loss_type": ["sigmoid"]} | of_trl)


def _configure(kind: type, options: dict[str, Any], fixed: dict[str, Any]) -> Any:
    known = {option.name for option in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            raise ValueError(f"trainer: {kind.__name__} has no option {name!r}")
        if name in fixed:
            raise ValueError(f"trainer: {name!r} follows from the command's own options")
    _require_kinds(kind, options)
    try:
        return kind(**options, **fixed)
    except (TypeError, ImportError, KeyError, AttributeError, OSError) as error:  # of values that it cannot take
        raise ValueError(f"trainer: {kind.__name__} refuses its options ({error})") from error


def _require_kinds(kind: type, options: dict[str, Any]) -> None:
    """Raise `ValueError` for a value that is no number, or neither true nor false, where a configuration wants that."""
    hints = get_type_hints(kind)
    for name, value in options.items():
        kinds = set(get_args(hints[name]) or (hints[name],))
        fits = type(value) in kinds or (isinstance(value, int | float) and not isinstance(value, bool))
        if kinds <= {bool, int, float, NoneType} and not fits:
            wanted = "true or false" if bool in kinds else "a number"
            raise ValueError(f"trainer: {name!r} must be {wanted}, got {str(value)[:40]!r}")
        if name == "pad_to_multiple_of" and value is not None and value < 1:
            raise ValueError(f"trainer: {name!r} must be at least 1, got {value}")


def make_trainer(
    settings: TrainSettings,
    args: Any,
    model: Any,
    reference: Any,
    data: Dataset,
    eval_data: Dataset | None,
    **others: Any,
) -> Any:
    """The trainer of `settings.method` over encoded data; `others` go to it as they are."""
    method = METHODS[settings.method]
    if method.unpaired:
        data, eval_data = unpaired(data), None if eval_data is None else unpaired(eval_data)
        if args.per_device_train_batch_size < 2:
            raise ValueError(
                f"per_device_train_batch_size must be at least 2 with {method.name}, which compares with answers "
                "to other prompts in the batch"
            )
    others |= {"args": args, "train_dataset": data, "eval_dataset": eval_data}
    if method.mixes_states:
        return IFTTrainer(model, **others)
    if method.name == "still":
        return StillTrainer(model, ref_model=reference, **others)
    if method.name not in TRL_LOSSES:
        others |= {"method": method, "options": _loss_options(settings)}
    if method.learns_from == "targets":
        if method.name in TRL_LOSSES:
            return SupervisedTrainer(model, **others)
        return TargetTrainer(model, ref_model=reference, refresh=int(settings.numbers.get("refresh", 0)), **others)
    if method.unpaired:
        return UnpairedTrainer(model, ref_model=reference, **others)
    return (PreferenceTrainer if method.name in TRL_LOSSES else PairTrainer)(model, ref_model=reference, **others)


def _loss_options(settings: TrainSettings) -> dict[str, Any]:
    """The keyword arguments of the method's loss: its numbers, and how it propagates."""
    method = METHODS[settings.method]
    options: dict[str, Any] = {name: settings.numbers[name] for name in method.loss_numbers}
    if method.propagates:
        options |= {name: getattr(settings, name) for name in ("form", "source", "norm", "side")}
    return options
