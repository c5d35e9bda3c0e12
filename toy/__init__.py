"""Frozen Lake: fine-tuning methods where the optimal policy is known. `align(Lake.make("ring"), ["sft", "ift"])`."""

from toy.experiment import Result, align
from toy.lake import Lake
from toy.planning import evaluate, value_iteration
from toy.settings import Settings

__all__ = ["Lake", "Result", "Settings", "align", "evaluate", "value_iteration"]
