"""How good an answer is: by its last number, by a reward model, or by a command of the user's."""

import json
import math
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lm.pairs.options import Options

Messages = list[dict[str, Any]]
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Answer:
    """An answer to a prompt, and the data's own."""

    prompt: Messages
    text: str
    target: str


Scorer = Callable[[list[Answer]], list[float]]  # higher is better


def scorer_of(options: Options) -> Scorer:
    """The scorer that the options name; raises `ValueError` for one that cannot be had."""
    if options.scorer == "number":
        return lambda answers: [float(same_number(answer.text, answer.target)) for answer in answers]
    if options.scorer == "reward":
        assert options.reward_model is not None
        return _reward(options.reward_model)
    if options.scorer == "command":
        assert options.score_command is not None
        return _command(options.score_command)
    return lambda answers: [float(answer.text == answer.target.strip()) for answer in answers]


def same_number(text: str, target: str) -> bool:
    """Whether the last numbers of two texts are equal, as 1,200 and 1200.0 are; without a number nothing is."""
    numbers = [_NUMBER.findall(part) for part in (text, target)]
    if not all(numbers):
        return False
    one, other = (float(each[-1].replace(",", "")) for each in numbers)
    return one == other


def _reward(name: str) -> Scorer:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from common import models
    from common.weights import require_fitting

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = models.load_checked(AutoModelForSequenceClassification, name).eval().to(device)
        tokenizer = models.load(AutoTokenizer, name)
        require_fitting(tokenizer, model, name)
    except ValueError as error:
        raise ValueError(f"reward_model: {error}") from error
    if model.config.num_labels != 1:
        raise ValueError(f"reward_model {name!r} must have one output, it has {model.config.num_labels}")

    def score(answers: list[Answer]) -> list[float]:
        scores = []
        for answer in answers:
            chat = [*answer.prompt, {"role": "assistant", "content": answer.text}]
            if tokenizer.chat_template is None:
                ids = tokenizer("\n".join(turn["content"] for turn in chat))["input_ids"]
            else:
                ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
            with torch.no_grad():
                scores.append(model(torch.tensor([ids], device=device)).logits[0, 0].item())
        return scores

    return score


def _command(command: str) -> Scorer:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"score_command {command!r} cannot be read as words: {error}") from error
    if not words:
        raise ValueError("score_command must name a program")

    def score(answers: list[Answer]) -> list[float]:
        asked = [{"prompt": one.prompt, "answer": one.text, "target": one.target} for one in answers]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked)
        try:
            done = subprocess.run(
                words, input=text, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
        except OSError as error:
            raise ValueError(f"score_command {words[0]!r} cannot be run: {error.strerror}") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ValueError(f"score_command ended with {done.returncode}: {last[:200]}")
        lines = done.stdout.split()
        try:
            scores = [float(line) for line in lines]
        except ValueError as error:
            raise ValueError(f"score_command must print a number a line: {error}") from error
        if len(scores) != len(answers) or not all(map(math.isfinite, scores)):
            raise ValueError(f"score_command must print a finite number for each of {len(answers)} answers")
        return scores

    return score
