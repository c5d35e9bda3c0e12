"""One training for each of several seeds, and a table of what came out: mean and interval of the held-out loss."""

import gc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy import stats

from common.folders import read_rows, reading, working_in, write_json
from lm.train.run_folder import folder_of
from lm.train.settings import TrainSettings
from lm.train.training import train


def train_seeds(settings: TrainSettings, console: Console) -> None:
    """Train each of `settings.seeds` in a folder of its own; with `resume`, those that are finished stay.

    The folder gets `seeds.json`. Raises as `lm.train.training.train`.
    """
    PartialState(cpu=not torch.cuda.is_available())  # as each training has it, and before anybody asks
    folder = folder_of(settings)
    rows = []
    for seed in settings.seeds:
        console.rule(f"seed {seed}")
        of_seed = folder / f"seed-{seed}"
        with working_in(of_seed, "output_dir") if PartialState().is_main_process else nullcontext():
            train(replace(settings, seeds=(), seed=seed, output_dir=str(of_seed)), console)
        gc.collect()  # the model goes before the next one comes
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        rows.append({"seed": seed, **losses_of(of_seed)})
    summary = summarised(rows)
    if PartialState().is_main_process:
        write_json(folder / "seeds.json", {"runs": rows, "summary": summary})
    _show(rows, summary, console)
    console.print(f"Written to [bold]{escape(str(folder))}[/bold]: seeds.json and a folder for each seed")


def losses_of(folder: Path) -> dict[str, float]:
    """The losses of a finished run, what there is of them: held out, before and after, and the last of training."""
    with reading(folder / "log.jsonl"):
        rows = read_rows(folder / "log.jsonl")
        held_out = [(row["step"], float(row["eval_loss"])) for row in rows if "eval_loss" in row]
        training = [float(row["loss"]) for row in rows if "loss" in row]
    losses = {"before": held_out[0][1]} if held_out and held_out[0][0] == 0 else {}
    losses |= {"after": held_out[-1][1]} if held_out else {}
    return losses | ({"training": training[-1]} if training else {})


def summarised(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and half the 95 % interval (Student's t) over the runs, of each loss that all of them have."""
    names = [name for name in ("before", "after", "training") if all(name in row for row in rows)]
    summary = {}
    for name in names:
        values = np.array([row[name] for row in rows], dtype=float)
        summary[name] = {"mean": float(values.mean())}
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            summary[name]["half_interval"] = float(half)
    return summary


def _show(rows: list[dict[str, Any]], summary: dict[str, dict[str, float]], console: Console) -> None:
    titles = {
        "before": "held-out loss\nbefore",
        "after": "held-out loss\nafter",
        "training": "training loss\nat the end",
    }
    table = Table(
        "seed", *(titles[name] for name in summary), box=None, title=f"{len(rows)} seeds", title_justify="left"
    )
    for row in rows:
        table.add_row(str(row["seed"]), *(f"{row[name]:.4f}" for name in summary))
    means = [f"{each['mean']:.4f}" for each in summary.values()]
    halves = [f" ±{each['half_interval']:.4f}" if "half_interval" in each else "" for each in summary.values()]
    table.add_row("mean", *(mean + half for mean, half in zip(means, halves, strict=True)))
    console.print(table)
    console.print("± is half the 95 % interval of the mean (Student's t).")
