"""Frozen Lake: fine-tuning methods where the optimal policy is known. `align(Lake.make("ring"), ["sft", "ift"])`."""

from toy.experiment import Result, align
from toy.lake import Lake
from toy.planning import evaluate, value_iteration
from toy.scored_states import scored_states
from toy.settings import Settings
from toy.sweep import Trial, sweep

__all__ = ["Lake", "Result", "Settings", "Trial", "align", "evaluate", "scored_states", "sweep", "value_iteration"]
