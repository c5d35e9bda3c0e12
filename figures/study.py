"""The study on a real model: what each method gained on unseen questions, and what it cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import read_object, reading
from figures.style import PAGE, paper, save

_CAPTION = """{model} after LoRA of rank 16 on GSM8K, by each method:
{updates} updates of {batch_size} examples drawn from {rows}, step size {learning_rate:g} for all, untuned, {seeds}.
SFT and IFT learn from answers of the training set; DPO, ORPO and "SFT, pairs" from pairs of answers to other questions,
written in another style. Of each file those that fit whole in {max_length} tokens are taken ({fit}).
Left: loss per token of the answers to {questions} test questions of any length, difference to the model before, with
95 % intervals over questions. Middle: share of them whose last number is right, without examples in the prompt and
within {max_new_tokens} tokens, with 95 % intervals; the line is the model before. Right: seconds of an update (of the
fastest tenth, which other work beside holds up least; for lagged IFT those after the first epoch), and the most memory
that the training held. The loss favours what learned the test answers' style; one small model says little of others.

{table}

Made by `python -m experiments.study` and `python -m figures study`{quick}."""


def study(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure from `out/study-runs`; returns the files written.

    Raises:
        ValueError: no results there.
    """
    from experiments.study import table  # only here: the other figures need no language-model libraries

    folder = out / "study-runs"
    if not (folder / "runs.parquet").is_file():
        raise ValueError(
            f"{str(folder)!r} holds no finished study: python -m experiments.study --data FOLDER-OF-GSM8K makes it"
        )
    with reading(folder / "runs.parquet"):
        runs = pd.read_parquet((folder / "runs.parquet").absolute())
    numbers = table(runs)
    settings = read_object(folder / "config.json")
    with reading(folder / "config.json"):
        caption = _caption(numbers, settings["study"], quick)
    return save(_draw(numbers), out, "study", caption)


@paper
def _draw(numbers: pd.DataFrame) -> Figure:
    runs = [name for name in numbers.index if name != "base"]
    places = np.arange(len(runs))[::-1]
    figure = Figure(figsize=(PAGE, 2.1), layout="constrained")
    loss, right, cost = figure.subplots(1, 3)
    trained = numbers.loc[runs]
    loss.axvline(0, color="0.6", linewidth=0.8)
    change, matched, seconds = trained["minus base"], trained["exact match %"], trained["s per update"]
    _dots(loss, places, change, change - trained["from"], trained["to"] - change)
    right.axvline(numbers.loc["base", "exact match %"], color="0.6", linewidth=0.8)
    _dots(right, places, matched, matched - trained["at least"], trained["at most"] - matched)
    right.set_xlim(left=0)
    cost.barh(places, seconds, color="#88ccee", height=0.6)
    for place, gigabytes in zip(places, trained["peak GB"], strict=True):
        cost.text(0.02 * seconds.max(), place, f"{gigabytes:.1f} GB", va="center", fontsize=7)
    for axes, title in ((loss, "answer loss, minus before"), (right, "exact match, %"), (cost, "seconds of an update")):
        axes.set_yticks(places, runs if axes is loss else [])
        axes.set_title(title)
        axes.set_ylim(-0.6, len(runs) - 0.4)
        axes.tick_params(axis="y", length=0)
    return figure


def _dots(axes: Axes, places: np.ndarray, values: Any, below: Any, above: Any) -> None:
    axes.errorbar(
        values, places, xerr=np.clip([below, above], 0, None), fmt="o", color="#332288", markersize=4, capsize=2
    )


def _caption(numbers: pd.DataFrame, settings: dict[str, Any], quick: bool) -> str:
    seeds = settings["seeds"]
    words = {
        **settings,
        "fit": ", ".join(f"{count:,} of {file}" for file, count in settings["fit"].items()),
        "model": settings["model"].split(" sha256 ")[0],
        "seeds": f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}",
    }
    return _CAPTION.format(**words, table=_markdown(numbers), quick=" --quick" if quick else "")


def _markdown(numbers: pd.DataFrame) -> str:
    """The table, Markdown."""
    lines = [
        "| | answer loss | minus before | exact match, % | seconds of an update | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in numbers.iterrows():
        gained = f"{row['minus base']:+.3f} ({row['from']:+.3f} to {row['to']:+.3f})" if name != "base" else ""
        cost = "| | |" if name == "base" else f"| {row['s per update']:.1f} | {row['peak GB']:.2f} |"
        matched = f"{row['exact match %']:.1f} ({row['at least']:.1f} to {row['at most']:.1f})"
        shown = f"{row['answer loss']:.3f} | {gained} | {matched} {cost}"
        lines.append(f"| {'before' if name == 'base' else name} | {shown}")
    return "\n".join(lines)
