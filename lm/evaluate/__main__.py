"""Score a trained model: the open LLM leaderboard's benchmarks, AlpacaEval, or a task file of your own.

Examples:
  python -m lm.evaluate --model results/lm-ift/model --suite open-llm --log-samples
  python -m lm.evaluate --model results/lm-sft/model --suite open-llm --log-samples --against results/open-llm-lm-ift
  python -m lm.evaluate --model results/lm-ift/model --suite alpaca-eval --judge gpt-4-1106-preview
  python -m lm.evaluate --model results/lm-ift/model --suite local --task lm/tasks/gsm8k_files/gsm8k_files.yaml \\
      --task-options folder=data/gsm8k
"""

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import tyro

from common.folders import write_whole
from lm.evaluate.alpaca import AlpacaOptions, instructions_file, judged, require_key, write_answers
from lm.evaluate.harness import TASKS, Questions, evaluate, samples_of, task_in
from lm.evaluate.scores import OPEN_LLM, all_scores, alpaca_in_paper, asked_alike, beside_paper, paired
from lm.train import models
from lm.train.__main__ import quieten

Flag = tyro.conf.FlagCreatePairsOff[bool]
BENCHMARKS = tuple(benchmark.name for benchmark in OPEN_LLM)


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
    """Folder for results; results/SUITE-MODEL if not given. A stopped evaluation goes on there."""
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


def run(options: Options) -> None:
    """Evaluate and print.

    Raises:
        ValueError: a bad option, a model or task that cannot be loaded, an `out` that holds something else.
    """
    for name in ("limit", "batch_size", "max_new_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if options.against is not None and (options.suite == "alpaca-eval" or not options.log_samples):
        raise ValueError("against needs --log-samples, and --suite open-llm or local: it compares scored questions")
    if options.against is not None and not any(options.against.glob("samples_*.jsonl")):
        raise ValueError(f"against {str(options.against)!r} holds no questions: evaluate that model with --log-samples")
    suite = options.local.task.stem if options.suite == "local" and options.local.task else options.suite
    out = options.out or Path("results") / f"{suite}-{_short_name(options.model)}"
    if options.suite == "alpaca-eval":
        _alpaca(options, out)
    else:
        results = evaluate(options.model, _questions(options), out, options.batch_size, options.log_samples)
        if options.suite == "open-llm":
            table, source = beside_paper(results)
            _show(table, "Percent, with standard errors of the questions")
            print(f"Paper's: {source}")
        else:
            _show(all_scores(results), "Scores, with standard errors of the questions", digits=4)
        if results["cut_contexts"]:
            cut = ", ".join(f"{task} {requests:,}" for task, requests in results["cut_contexts"].items())
            print(f"Requests too long for the model's window, asked without their beginning: {cut}")
    if options.against is not None:
        _show(paired(out, options.against), f"Above {options.against}, the same questions, 95 % intervals", digits=4)
        if not asked_alike(out, options.against):
            print("One of them was asked with its chat template, the other without: --plain asks both without.")
    print(f"Written to {out}")


def _questions(options: Options) -> Questions:
    questions = Questions({}, limit=options.limit, plain=options.plain, max_new_tokens=options.max_new_tokens)
    if options.suite == "open-llm":
        unknown = [name for name in options.benchmarks if name not in BENCHMARKS]
        if unknown or not options.benchmarks:
            raise ValueError(f"benchmarks must be some of {', '.join(BENCHMARKS)}; got {', '.join(unknown) or 'none'}")
        tasks: dict[str, int | None] = {
            benchmark.task: benchmark.fewshot for benchmark in OPEN_LLM if benchmark.name in options.benchmarks
        }
        return replace(questions, tasks=tasks)
    if options.suite == "alpaca-eval":
        file = instructions_file(options.alpaca)
        named = (f"file={json.dumps(str(file))}",)
        return replace(
            questions,
            tasks={"alpaca_answers": None},
            file=TASKS / "alpaca_answers" / "alpaca_answers.yaml",
            options=named,
        )
    task, fewshot = options.local.task, options.local.fewshot
    if task is None:
        raise ValueError("task must name a task file (YAML) with --suite local")
    if fewshot is not None and fewshot < 0:
        raise ValueError(f"fewshot must be 0 or more, got {fewshot}")
    return replace(
        questions,
        tasks={task_in(task): fewshot},
        file=task.absolute(),
        options=options.local.task_options,
    )


def _alpaca(options: Options, out: Path) -> None:
    """Answers, and with a judge the win rate."""
    if options.alpaca.judge_timeout_seconds <= 0:
        raise ValueError(f"judge_timeout_seconds must be above 0, got {options.alpaca.judge_timeout_seconds}")
    if options.alpaca.judge is not None:
        require_key()  # said before hours of answering
    answers = out / "answers.json"
    evaluate(options.model, _questions(options), out, options.batch_size, log_samples=True)
    write_answers(samples_of(out, "alpaca_answers"), _short_name(options.model), answers)
    if options.alpaca.judge is None:
        print(f"Answers are in {answers}. No judge was named: the same command with --judge MODEL (its key in")
        print("OPENAI_API_KEY, --judge-url for another endpoint than OpenAI's) goes on; or take the file elsewhere:")
        print(f"  alpaca_eval --model_outputs {answers}")
        return
    scores = judged(answers, instructions_file(options.alpaca), options.alpaca, out)
    file = out / f"judge-{options.alpaca.judge_version}.json"
    text = json.dumps({"judge": options.alpaca.judge, "version": options.alpaca.judge_version, **scores}, indent=1)
    write_whole(file, lambda path: path.write_text(text + "\n"))
    rate, pairs = f"{scores['win_rate']:.2f} % ± {scores['standard_error']:.2f}", scores["judged"]
    print(
        f"AlpacaEval {options.alpaca.judge_version}, judge {options.alpaca.judge}: raw win rate {rate} (standard error)"
    )
    print(f"over {pairs} pairs, {scores['failed']} failed")
    print(f"Paper's: {alpaca_in_paper()}")
    if scores["failed"]:
        print("Failed pairs count neither way; the same command asks for them again.")


def _short_name(model: str) -> str:
    """The last part of a model's path or name; for `RUN/model`, as trained models are kept, that of the run."""
    path = Path(model)
    return path.absolute().parent.name if path.name == "model" else path.name.removesuffix(".gguf")


def _show(table: pd.DataFrame, title: str, digits: int = 2) -> None:
    print(f"\n{title}")
    with pd.option_context("display.width", 160, "display.max_rows", 200):
        print(table.to_string(float_format=lambda value: f"{value:.{digits}f}", na_rep="–"))


def main() -> None:
    """The command: bad input is one line and exit code 2."""
    options = tyro.cli(Options, prog="python -m lm.evaluate", description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    quieten()
    models.offline()
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on with what has been answered", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
