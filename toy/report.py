"""What the command prints: policies as arrows, the table of metrics, differences paired by seed."""

from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from toy.experiment import Result
from toy.lake import Lake
from toy.picture import label, lake_text

_ZERO = {"mean": 0.0}
_ALL_PAIRS_UP_TO = 6  # the start and five methods; beyond, only the first method's differences are printed


def show(result: Result, summary: dict[str, Any], lake: Lake, seeds: int, console: Console) -> None:
    """Print the policies as arrows, the table of metrics, and the differences paired by seed."""
    console.print(
        Columns(
            Panel(lake_text(lake, policy, result.plan.policy), title=label(name, summary), expand=False)
            for name, policy in result.policies.items()
        )
    )
    console.print(
        "[dim]An arrow is the likeliest move of the mean policy (one of them, where several are equally likely). It is "
        "red where the optimum never makes that move.[/dim]\n"
    )
    console.print(f"[bold]Distance to the optimum[/bold], mean of {seeds} seeds ± half the 95 % interval")
    console.print(metrics_table(summary))
    if summary["paired_differences"]:
        bold = "; bold: clearly" if console.is_terminal else ""
        console.print(f"[bold]First minus second[/bold], paired by seed (below 0: the first is closer{bold})")
        console.print(differences_table(summary))
    if len(summary["methods"]) > _ALL_PAIRS_UP_TO:
        console.print("[dim]only the first method's differences are shown; all are in summary.json[/dim]")
    for name, share in summary["mixed"].items():
        console.print(f"[dim]{_mixing(name, share['steps'], share['seeds'])}[/dim]")
    stopped = pd.concat([result.start, result.runs]).query("stopped_at_step >= 0")
    for method, runs in stopped.groupby("method", sort=False):
        named = ", ".join(f"seed {row.seed} at step {row.stopped_at_step}" for row in runs.head(8).itertuples())
        console.print(
            f"[yellow]warning[/yellow] {method}: {len(runs)} of {seeds} runs no longer finite and stopped, "
            f"their metrics are empty and left out of the means: {named}{', …' if len(runs) > 8 else ''}"
        )


def _mixing(name: str, steps: float, seeds: float) -> str:
    """The sentence on how often there was something to mix."""
    if steps == 0:
        return (
            f"λ is idle in {name}: at every step, of every seed, the predicted cell is the target's cell. Try "
            "--prediction expected, or a start that prefers other moves."
        )
    return (
        f"λ mixes in a cell that is not the target's own at {_share(steps)} of the steps of {name} (over the whole "
        f"training and all seeds, without each trajectory's first step), and in {_share(seeds)} of the seeds at least "
        "once."
    )


def _share(share: float) -> str:
    """A share in percent, with a digit more where it is small."""
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def metrics_table(summary: dict[str, Any]) -> Table:
    """One row for the start, each method and the optimum."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for head in ("parameter\nMSE ×10⁻³", "policy\nMSE ×10⁻³", "KL\nnats", "\nsuccess", "value\ngap"):
        table.add_column(head, justify="right")
    for head in ("agree-\nment", "cells\nvisited"):
        table.add_column(head, justify="right")
    for name, metrics in {**summary["methods"], "optimum": summary["optimum"]["metrics"]}.items():
        mean = {metric: value["mean"] for metric, value in metrics.items()}
        table.add_row(
            label(name, summary),
            _thousandths(metrics.get("parameter_mse", _ZERO)),
            _thousandths(metrics["policy_mse"]),
            *(f"{round(mean[metric], 3) + 0:.3f}" for metric in ("policy_kl", "success", "value_gap")),
            *(f"{mean[metric]:.2f}" for metric in ("agreement", "cells_visited")),
            style="dim" if name in ("start", "optimum") else None,
        )
    return table


def differences_table(summary: dict[str, Any]) -> Table:
    """MSE differences between methods, paired by seed; those whose interval leaves out 0 in bold."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("first", "second"):
        table.add_column(head, no_wrap=True)
    for head in ("parameter\nMSE ×10⁻³", "policy\nMSE ×10⁻³"):
        table.add_column(head, justify="right")
    rows: dict[tuple[str, str], list[str]] = {}
    first_method = summary["paired_differences"][0]["first"]
    for row in summary["paired_differences"]:
        if len(summary["methods"]) > _ALL_PAIRS_UP_TO and row["first"] != first_method:
            continue
        shown = _thousandths(row)
        clear = row["low"] > 0 or row["high"] < 0
        rows.setdefault((row["first"], row["second"]), []).append(f"[bold]{shown}[/bold]" if clear else shown)
    for names, shown_metrics in rows.items():
        table.add_row(*(label(name, summary) for name in names), *shown_metrics)
    return table


def _thousandths(interval: dict[str, float]) -> str:
    mean, low, high = (1000 * interval.get(key, np.nan) for key in ("mean", "low", "high"))
    return _number(mean) if np.isnan(low) else f"{_number(mean)} ±{_number((high - low) / 2)}"


def _number(value: float) -> str:
    """With two decimals, or by its power of ten where a run has gone far off."""
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.1e}"
