"""The options of `python -m lm.evaluate`, and the benchmarks of the open LLM leaderboard."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Benchmark:
    """A task of the harness, with the examples and the score of the open LLM leaderboard, as the paper's tables go."""

    name: str
    task: str
    fewshot: int
    metric: str


# The facts at hand do not record the paper's numbers of examples: these are the leaderboard's. ARC-Gen is our own task.
OPEN_LLM = (
    Benchmark("ARC", "arc_challenge", 25, "acc_norm,none"),
    Benchmark("MMLU", "mmlu", 5, "acc,none"),
    Benchmark("TruthfulQA", "truthfulqa_mc2", 0, "acc,none"),
    Benchmark("WinoGrande", "winogrande", 5, "acc,none"),
    Benchmark("GSM8K", "gsm8k", 5, "exact_match,strict-match"),
    Benchmark("ARC-Gen", "arc_gen", 0, "exact_match,none"),
)
BENCHMARKS = tuple(benchmark.name for benchmark in OPEN_LLM)


@dataclass(frozen=True)
class AlpacaOptions:
    """Suite alpaca-eval."""

    instructions: Path | None = None
    """JSON file of instructions with a reference's outputs; AlpacaEval's own, from the Hub, if not given."""
    judge: str | None = None
    """Model that compares the answers; without one the answers are written. Its key is read from OPENAI_API_KEY."""
    judge_url: str = "https://api.openai.com/v1"
    """Endpoint that speaks OpenAI's protocol."""
    judge_version: Literal["1", "2"] = "2"
    """AlpacaEval 1 (the judge ranks two answers) or 2 (its probabilities weigh them)."""
    judge_timeout_seconds: float = 60.0
    """Seconds after which the judge is asked again; three tries, then the pair counts as failed."""


@dataclass(frozen=True)
class LocalOptions:
    """Suite local."""

    task: Path | None = None
    """Task file of lm-evaluation-harness (YAML)."""
    task_options: tuple[str, ...] = ()
    """NAME=VALUE each, for the functions that the task file calls."""
    fewshot: int | None = None
    """Examples before each question; the task's own number if not given."""


@dataclass(frozen=True)
class Options:
    """What to ask which model."""

    model: str
    """Folder with config, tokenizer and safetensors (or an adapter), .gguf file, name of the Hub, or tiny-lake."""
    suite: Literal["open-llm", "alpaca-eval", "local"] = "open-llm"
    """open-llm: ARC, MMLU, TruthfulQA, WinoGrande, GSM8K, and ARC as generation; alpaca-eval: answers, and a judge's
    comparison of them; local: the task in a file."""
    benchmarks: tuple[str, ...] = BENCHMARKS
    """Which of open-llm."""
    out: Path | None = None
    """Folder for results; results/SUITE-MODEL if not given. An evaluation that was stopped continues there."""
    limit: int | None = None
    """Questions of each task, its first ones; all if not given."""
    batch_size: int = 8
    """Questions that the model reads at a time."""
    max_new_tokens: int | None = None
    """Longest answer, in tokens, where text is generated; the task's own if not given."""
    plain: Flag = False
    """Ask without the model's chat template."""
    log_samples: Flag = False
    """Keep each question with the model's answer and score."""
    against: Path | None = None
    """Folder of another model's evaluation, both with --log-samples: differences question by question."""
    local: LocalOptions = field(default_factory=LocalOptions)
    alpaca: AlpacaOptions = field(default_factory=AlpacaOptions)

    def check(self) -> None:
        """Raise `ValueError` for a bad option."""
        for name in ("limit", "batch_size", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.against is not None and (self.suite == "alpaca-eval" or not self.log_samples):
            raise ValueError("against needs --log-samples, and --suite open-llm or local: it compares scored questions")
        if self.against is not None and not any(self.against.glob("samples_*.jsonl")):
            raise ValueError(
                f"against {str(self.against)!r} holds no questions: evaluate that model with --log-samples"
            )
        if self.suite == "open-llm":
            unknown = [name for name in self.benchmarks if name not in BENCHMARKS]
            if unknown or not self.benchmarks:
                names = ", ".join(BENCHMARKS)
                raise ValueError(f"benchmarks must be some of {names}; got {', '.join(unknown) or 'none'}")
        elif self.suite == "alpaca-eval":
            seconds = self.alpaca.judge_timeout_seconds
            if not 0 < seconds < float("inf"):
                raise ValueError(f"judge_timeout_seconds must be a finite number above 0, got {seconds}")
        elif self.local.task is None:
            raise ValueError("task must name a task file (YAML) with --suite local")
        elif self.local.fewshot is not None and self.local.fewshot < 0:
            raise ValueError(f"fewshot must be 0 or more, got {self.local.fewshot}")
