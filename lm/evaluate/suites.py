"""What `python -m lm.evaluate` does: asks the suite's questions and prints the scores."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from common import models
from common.folders import working_in, write_json
from lm.evaluate.alpaca import instructions_file, judged, require_key, write_answers
from lm.evaluate.harness import TASKS, Questions, described, evaluate
from lm.evaluate.options import OPEN_LLM, Options
from lm.evaluate.scores import all_scores, alpaca_in_paper, asked_alike, beside_paper, paired, require_alike
from lm.evaluate.task_file import task_in


def run(options: Options) -> None:
    """Evaluate and print.

    Raises:
        ValueError: a model or task that cannot be loaded, an `out` that holds something else.
    """
    models.offline()
    if options.against is not None:
        require_alike(described(_questions(options)), options.against)  # said before hours of answering
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
    assert task is not None  # Options.check has seen to it
    return replace(
        questions,
        tasks={task_in(task): fewshot},
        file=task.absolute(),
        options=options.local.task_options,
    )


def _alpaca(options: Options, out: Path) -> None:
    """Answers, and with a judge the win rate."""
    if options.alpaca.judge is not None:
        require_key()  # said before hours of answering
    with working_in(out):
        _answer_and_judge(options, out)


def _answer_and_judge(options: Options, out: Path) -> None:
    answers = out / "answers.json"
    evaluate(options.model, _questions(options), out, options.batch_size, log_samples=True)
    write_answers(out / "samples_alpaca_answers.jsonl", _short_name(options.model), answers)
    if options.alpaca.judge is None:
        print(f"Answers are in {answers}. No judge was named: the same command with --judge MODEL (its key in")
        print("OPENAI_API_KEY, --judge-url for another endpoint than OpenAI's) goes on; or take the file elsewhere:")
        print(f"  alpaca_eval --model_outputs {answers}")
        return
    scores = judged(answers, instructions_file(options.alpaca), options.alpaca, out)
    file = out / f"judge-{options.alpaca.judge_version}.json"
    write_json(file, {"judge": options.alpaca.judge, "version": options.alpaca.judge_version, **scores})
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
