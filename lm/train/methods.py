"""Each method as a trainer: TRL's where TRL has it, TRL's data path with the core's loss where it has not."""

import dataclasses
from typing import Any

from datasets import Dataset
from trl import DPOConfig, KTOConfig, SFTConfig

from lm.train.settings import IFTOptions, Settings
from lm.trainers.config import IFTConfig
from lm.trainers.ift import IFTTrainer
from lm.trainers.preference import (
    PreferenceTrainer,
    PreferenceWithoutReferenceTrainer,
    SupervisedTrainer,
    UnpairedTrainer,
    unpaired,
)


def make_arguments(settings: Settings, options: dict[str, Any]) -> Any:
    """The TRL configuration of `settings.method`; made before models are loaded, so that engines can shard them.

    Raises:
        ValueError: an option that the configuration does not have, refuses, or that has a name of ours.
    """
    method = settings.method
    if method == "ift":
        mine = {option.name: getattr(settings, option.name) for option in dataclasses.fields(IFTOptions)}
        return _configure(IFTConfig, options, mine)
    if method in ("sft", "dft"):
        return _configure(SFTConfig, options, {"loss_type": "nll" if method == "sft" else "dft"})
    if method == "kto":
        return _configure(KTOConfig, options, {"beta": settings.beta_or_default})
    loss = ["ipo" if method == "ipo" else "sigmoid"]  # ORPO and SimPO have the core's
    return _configure(DPOConfig, options, {"beta": settings.beta_or_default, "loss_type": loss})


def _configure(kind: type, options: dict[str, Any], mine: dict[str, Any]) -> Any:
    known = {option.name for option in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            raise ValueError(f"trainer: {kind.__name__} has no option {name!r}")
        if name in mine:
            raise ValueError(f"trainer: {name!r} follows from the command's own options")
    return kind(**options, **mine)


def make_trainer(
    settings: Settings, args: Any, model: Any, reference: Any, data: Dataset, eval_data: Dataset | None, **others: Any
) -> Any:
    """The trainer of `settings.method` over encoded data; `others` go to it as they are."""
    method = settings.method
    if method == "kto":
        data, eval_data = unpaired(data), None if eval_data is None else unpaired(eval_data)
    others |= {"args": args, "train_dataset": data, "eval_dataset": eval_data}
    if method == "ift":
        return IFTTrainer(model, **others)
    if method in ("sft", "dft"):
        return SupervisedTrainer(model, **others)
    if method in ("orpo", "simpo"):
        return PreferenceWithoutReferenceTrainer(model, method=method, margin=settings.margin, **others)
    return (UnpairedTrainer if method == "kto" else PreferenceTrainer)(model, ref_model=reference, **others)
