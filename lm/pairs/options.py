"""The options of `python -m lm.pairs`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Whose answers, to which prompts, and what makes one of them worse."""

    dataset: str
    """NAME, NAME:ROWS, NAME@SPLIT or NAME@SPLIT:ROWS of prompts with answers, as lm.train reads them."""
    out: Path
    """New .jsonl file of prompt, chosen and rejected."""
    model: str = "tiny-lake"
    """Folder of a model (or an adapter), .gguf file, name of the Hub, or tiny-lake."""
    columns: tuple[str, ...] = ()
    """OURS=THEIRS each, such as prompt=question completion=solution, for data in no known layout."""
    chat_template: str = "auto"
    """auto: the tokenizer's, zephyr if it has none; zephyr; none; or a .jinja file. The one that it is trained with."""
    samples: int = 4
    """Answers that are sampled for each prompt."""
    temperature: float = 1.0
    """Temperature of the samples, above 0."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that have this much probability together."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    scorer: Literal["none", "number", "reward", "command"] = "none"
    """none: rejected is a sample that differs from the data's answer. number: one whose last number is another.
    reward: the one that --reward-model likes least. command: the one to which --score-command gives least."""
    chosen: Literal["target", "best"] = "target"
    """target: the data's answer. best: the sample with the highest score."""
    reward_model: str | None = None
    """With scorer reward: a sequence classifier with one output, a folder or of the Hub."""
    score_command: str | None = None
    """With scorer command: reads lines of JSON with prompt, answer and target, and prints a number for each."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """auto: vLLM where it is installed and there is a GPU."""
    batch_size: int = 8
    """Prompts at a time."""
    seed: int = 0
    """Seed of the draw of prompts and of the samples."""

    def check(self) -> None:
        """Raise `ValueError` for a bad option."""
        if self.out.suffix != ".jsonl":
            raise ValueError(f"out must end in .jsonl, got {str(self.out)!r}")
        for name in ("samples", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.01 <= self.temperature < float("inf"):  # logits that are divided by less overflow
            raise ValueError(f"temperature must be a finite number of at least 0.01, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32 − 1], got {self.seed}")
        if self.chosen == "best" and self.scorer == "none":
            raise ValueError("chosen must be target without a scorer")
        for scorer, name in (("reward", "reward_model"), ("command", "score_command")):
            if (self.scorer == scorer) != (getattr(self, name) is not None):
                raise ValueError(f"{name} must be given with scorer {scorer}, and with no other")
