"""Scores out of the harness's results: beside the paper's reported numbers, and two models question by question."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from common.folders import read_object, reading
from lm.evaluate.options import OPEN_LLM

RESAMPLES = 1000  # for standard errors that have no formula
_PAPER = Path(__file__).with_name("paper.json")


_IN_AVERAGE = tuple(benchmark.name for benchmark in OPEN_LLM[:5])


def beside_paper(results: dict[str, Any]) -> tuple[pd.DataFrame, str]:
    """Percentages with standard errors of this model, the paper's reported ones beside them; and the latter's source.

    The last row is the mean of the five benchmarks, where all of them were asked.
    """
    reported = json.loads(_PAPER.read_text(encoding="utf-8"))["reported"]
    rows: list[tuple[str, int | None, float, float]] = []
    for benchmark in OPEN_LLM:
        scores_of_task = results["results"].get(benchmark.task)
        if scores_of_task is not None:
            rows.append((benchmark.name, benchmark.fewshot, *_percent(scores_of_task, benchmark.metric)))
    five = [(score, error) for name, _, score, error in rows if name in _IN_AVERAGE]
    if len(five) == len(_IN_AVERAGE):
        scores, errors = np.array(five).T
        rows.append(("average", None, scores.mean(), np.sqrt((errors**2).sum()) / len(five)))
    table = pd.DataFrame(rows, columns=["benchmark", "shots", "score", "stderr"]).set_index("benchmark")
    table["shots"] = table["shots"].astype("Int64")
    for method in ("sft", "dpo", "orpo", "ift"):
        table[f"paper's {method.upper()}"] = [reported[method].get(name, np.nan) for name in table.index]
    return table, reported["source"]


def alpaca_in_paper() -> str:
    """The paper's reported win rates, of an AlpacaEval version and judge that are not recorded, and their source."""
    reported = json.loads(_PAPER.read_text(encoding="utf-8"))["reported"]
    rates = ", ".join(f"{method.upper()} {reported[method]['Alpaca-Eval']}" for method in ("sft", "dpo", "orpo", "ift"))
    return f"{rates} (version and judge not recorded; {reported['source']})"


def all_scores(results: dict[str, Any]) -> pd.DataFrame:
    """Every score of every task with its standard error, in the harness's names and units."""
    rows = [
        (task, *metric.split(",", 1), *(part / 100 for part in _percent(scores, metric)))
        for task, scores in results["results"].items()
        for metric, value in scores.items()
        if "," in metric and "_stderr," not in metric and isinstance(value, int | float)
    ]
    return pd.DataFrame(rows, columns=["task", "score", "filter", "value", "stderr"]).set_index("task")


def _percent(scores: dict[str, Any], metric: str) -> tuple[float, float]:
    name, kind = metric.split(",")
    error = scores.get(f"{name}_stderr,{kind}", np.nan)
    return 100 * scores[metric], 100 * error if isinstance(error, int | float) else np.nan


def paired(folder: Path, other: Path) -> pd.DataFrame:
    """What the model of `folder` scores above that of `other`, over the questions that both were asked.

    95 % intervals by bootstrap over questions; for scores of 0 or 1 also McNemar's exact p over the questions that one
    of them answered rightly. The subjects of MMLU count as one task.

    Raises:
        ValueError: a folder without questions, none in common, or asked in another way.
    """
    (first, asked, _), (second, _, _) = read_evaluation(folder), read_evaluation(other)
    require_alike(asked, other)
    both = first.merge(second, left_index=True, right_index=True, suffixes=(" a", " b"))
    if both.empty:
        raise ValueError(f"against {str(other)!r}: it was asked none of the questions of {str(folder)!r}")
    rows = []
    for (task, metric), group in both.groupby(["task", "metric"], sort=False):
        a, b = group["value a"].to_numpy(), group["value b"].to_numpy()
        low, high = difference_interval(a - b)
        p = mcnemar(a, b) if set(np.unique([a, b])) <= {0.0, 1.0} else np.nan
        rows.append((task, metric, len(group), (a - b).mean(), low, high, p))
    columns = ["task", "score", "questions", "difference", "from", "to", "McNemar p"]
    return pd.DataFrame(rows, columns=columns).set_index("task")


def require_alike(asked: dict[str, Any], other: Path) -> None:
    """Raise `ValueError` for an evaluation in `other` that cannot be read, or that asked otherwise than `asked`."""
    here, there = (
        {**way, **{f"examples of {task}": number for task, number in way["tasks"].items()}}
        for way in (json.loads(json.dumps(asked)), read_evaluation(other)[1])
    )
    for way in here:
        if way not in ("tasks", "limit") and way in there and here[way] != there[way]:
            raise ValueError(f"against {str(other)!r}: {way} was {there[way]} there and is {here[way]} here")


def asked_alike(folder: Path, other: Path) -> bool:
    """Whether both models were asked with their chat template, or both without: a base model often has none."""
    return len({read_evaluation(path)[2] for path in (folder, other)} - {None}) < 2


def read_evaluation(folder: Path) -> tuple[pd.DataFrame, dict[str, Any], bool | None]:
    """What an evaluation left: its questions with their scores, how they were asked, and whether in a template.

    Raises:
        ValueError: a folder without questions or of another command, or a file that cannot be read.
    """
    questions = _questions(folder)
    missing = [name for name in ("config.json", "results.json") if not (folder / name).is_file()]
    way = {} if missing else read_object(folder / "config.json").get("questions")
    if not isinstance(way, dict) or not isinstance(way.get("tasks"), dict):
        problem = f"there is no {missing[0]}" if missing else "its config.json names no questions"
        raise ValueError(f"{str(folder)!r} holds no results of lm.evaluate ({problem}): give the --out of one")
    return questions, way, read_object(folder / "results.json").get("templated")


def bootstrap_error(score: Callable[[Sequence[Any]], float], values: Sequence[Any], iters: int) -> float:
    """Standard error of a score by bootstrap over the questions, for the harness in place of its own.

    That one prints, and starts processes that take a signal to them for an interrupt of ours.
    """
    generator = random.Random(0)
    return float(np.std([score(generator.choices(values, k=len(values))) for _ in range(iters)], ddof=1))


def difference_interval(differences: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by bootstrap over the pairs."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(differences), size=(resamples, len(differences)))
    low, high = np.quantile(differences[draws].mean(-1), (0.025, 0.975))
    return float(low), float(high)


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """McNemar's exact two-sided p: questions that one alone has right fall to either side like a fair coin."""
    first, second = int((a > b).sum()), int((b > a).sum())
    return float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0


def _questions(folder: Path) -> pd.DataFrame:
    """A row per task, score and question, from the samples in a folder; the index says which."""
    rows: list[tuple[str, str, str, str, int, float]] = []
    for file in sorted(folder.glob("samples_*.jsonl")):
        task = file.stem.removeprefix("samples_")
        group = "mmlu" if task.startswith("mmlu_") else task
        first = len(rows)
        with reading(file):
            for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
                sample = json.loads(line)
                for metric in sample["metrics"]:
                    if isinstance(sample[metric], int | float):
                        named = metric if sample["filter"] == "none" else f"{metric}, {sample['filter']}"
                        rows.append(
                            (group, named, task, str(sample["doc_hash"]), int(sample["doc_id"]), float(sample[metric]))
                        )
        _require_one_score_each(file, rows[first:])
    if not rows:
        raise ValueError(f"{str(folder)!r} holds no questions (samples_TASK.jsonl): evaluate with --log-samples")
    index = ["task", "metric", "file", "doc_hash", "doc_id"]
    return pd.DataFrame(rows, columns=[*index, "value"]).set_index(index)


def _require_one_score_each(file: Path, rows: list[tuple[str, str, str, str, int, float]]) -> None:
    """Raise `ValueError` for a question that a file has twice, or with a score that is no finite number."""
    seen = set()
    for _, metric, _, _, number, value in rows:
        if not math.isfinite(value):
            raise ValueError(f"{str(file)!r} gives {metric} {value} to question {number}: evaluate that model again")
        if (metric, number) in seen:
            raise ValueError(f"{str(file)!r} holds question {number} more than once: evaluate that model again")
        seen.add((metric, number))
