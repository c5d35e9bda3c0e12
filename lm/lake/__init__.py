"""The lake in words: a random map as the prompt, a walk to the goal as the answer, and a small model that plays it."""

import gymnasium

from lm.lake.base import make_model, train_base
from lm.lake.examples import KINDS, examples
from lm.lake.maps import MOVES, SPLITS, random_maps
from lm.lake.words import in_words, make_tokenizer, prompt

__all__ = ["KINDS", "MOVES", "SPLITS", "examples", "in_words", "make_model", "make_tokenizer", "prompt", "random_maps",
           "train_base"]  # fmt: skip

gymnasium.register("lm/LakeText-v0", entry_point="lm.lake.env:LakeText")
