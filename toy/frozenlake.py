"""Fine-tune policies on Frozen Lake and measure how close each method comes to the policy known to be optimal.

Examples:
  python -m toy.frozenlake --method ift
  python -m toy.frozenlake --method sft ift dpo orpo --seeds 100 --lam 0.3 --prediction expected
  python -m toy.frozenlake --method all --map 8x8 --slippery --out results/slippery
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ift import method_names
from toy import results
from toy.experiment import Result, align
from toy.lake import Lake
from toy.picture import lake_text
from toy.settings import IFTOptions, PairOptions, PPOOptions, RunOptions, Settings, StartOptions, TrainingOptions

_ZERO = {"mean": 0.0}
_ALL_PAIRS_UP_TO = 6  # the start and five methods; beyond, only the first method's differences are printed


@dataclass(frozen=True)
class Output:
    """What to run and where the results go."""

    method: tuple[str, ...] = ("ift",)
    """One or more of sft, ift, dft, dpo, ipo, orpo, kto, simpo, ppo; or all."""
    out: Path | None = None
    """Folder for config.json, runs.parquet, summary.json, picture.png; results/MAP-METHODS-DIGEST if not given."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write into a folder that holds other results."""
    render: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also play each trained policy (first seed) in Gymnasium's renderer, as play-METHOD.gif."""


@dataclass(frozen=True)
class LakeOptions:
    """The lake."""

    map: str = "ring"
    """4x4, 8x8, ring, random:SIZE:SEED, a text file, or rows such as SFFF/FHFH/FFFH/HFFG."""
    slippery: tyro.conf.FlagCreatePairsOff[bool] = False
    """Moves may slip a quarter turn to either side."""
    success_rate: float = 1 / 3
    """Probability of the intended move on slippery ice."""
    rewards: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Reward for entering a goal, a hole, any other cell."""


@dataclass(frozen=True)
class Command:
    """Options by group; `Settings` holds those that `toy.align` takes."""

    output: Output
    lake: LakeOptions
    runs: RunOptions
    start: StartOptions
    training: TrainingOptions
    ift: IFTOptions
    pairs: PairOptions
    ppo: PPOOptions

    def settings(self) -> Settings:
        groups = (self.runs, self.start, self.training, self.ift, self.pairs, self.ppo)
        return Settings(**{name: value for group in groups for name, value in vars(group).items()})


def run(command: Command, console: Console) -> None:
    """The whole command: check, train with a progress bar, write the files, print what was found."""
    methods, settings = method_names(command.output.method), command.settings()
    lake = Lake.make(
        command.lake.map,
        slippery=command.lake.slippery,
        success_rate=command.lake.success_rate,
        reward_schedule=command.lake.rewards,
    )
    config = results.describe(lake, methods, settings)
    folder = command.output.out or results.default_folder(config, command.lake.map)
    results.check_folder(folder, config, command.output.overwrite)
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        result = align(lake, methods, settings, lambda doing, done: bar.update(task, description=doing, completed=done))
        bar.update(task, description="writing files and picture")
        found = results.summary(result)
        written = results.save(result, found, lake, settings, folder, render=command.output.render)
    show(result, found, lake, settings, console)
    console.print(f"\nWritten to [bold]{folder}[/bold]: {', '.join(path.name for path in written)}")


def show(result: Result, found: dict[str, Any], lake: Lake, settings: Settings, console: Console) -> None:
    """Print the policies as arrows, the table of metrics, and the differences paired by seed."""
    console.print(
        Columns(
            Panel(lake_text(lake, policy, result.plan.policy), title=name, expand=False)
            for name, policy in result.policies.items()
        )
    )
    console.print(
        "[dim]greedy move of the mean policy, one of several that tie; red: one that the optimum never makes[/dim]\n"
    )
    console.print(f"[bold]Distance to the optimum[/bold], mean of {settings.seeds} seeds ± half the 95 % interval")
    console.print(metrics_table(found))
    if found["paired_differences"]:
        bold = "; bold: clearly" if console.is_terminal else ""
        console.print(f"[bold]First minus second[/bold], paired by seed (below 0: the first is closer{bold})")
        console.print(differences_table(found))
    if len(found["methods"]) > _ALL_PAIRS_UP_TO:
        console.print("[dim]only the first method's differences are shown; all are in summary.json[/dim]")
    if "ift" in found["methods"] and result.residual_idle:
        console.print(
            "[dim]λ had nothing to mix: the start policies' greedy moves are the target's, so the predicted cells are "
            "the target cells. Try --prediction expected, or a start that prefers other moves.[/dim]"
        )
    stopped = pd.concat([result.start, result.runs]).query("stopped_at_step >= 0")
    for method, runs in stopped.groupby("method", sort=False):
        named = ", ".join(f"seed {row.seed} at step {row.stopped_at_step}" for row in runs.head(8).itertuples())
        console.print(
            f"[yellow]warning[/yellow] {method}: {len(runs)} of {settings.seeds} runs no longer finite and stopped, "
            f"their metrics are empty and left out of the means: {named}{', …' if len(runs) > 8 else ''}"
        )


def metrics_table(found: dict[str, Any]) -> Table:
    """One row for the start, each method and the optimum."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method")
    for head in ("parameters\nMSE ×10⁻³", "policy\nMSE ×10⁻³", "KL\nnats", "\nsuccess", "value\ngap"):
        table.add_column(head, justify="right")
    for head in ("agree-\nment", "cells\nvisited"):
        table.add_column(head, justify="right")
    for name, metrics in {**found["methods"], "optimum": found["optimum"]["metrics"]}.items():
        mean = {metric: value["mean"] for metric, value in metrics.items()}
        table.add_row(
            name,
            _thousandths(metrics.get("parameter_mse", _ZERO)),
            _thousandths(metrics["policy_mse"]),
            *(f"{round(mean[metric], 3) + 0:.3f}" for metric in ("policy_kl", "success", "value_gap")),
            *(f"{mean[metric]:.2f}" for metric in ("agreement", "cells_visited")),
            style="dim" if name in ("start", "optimum") else None,
        )
    return table


def differences_table(found: dict[str, Any]) -> Table:
    """MSE differences between methods, paired by seed; those whose interval leaves out 0 in bold."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("first", "second"):
        table.add_column(head)
    for head in ("parameters\nMSE ×10⁻³", "policy\nMSE ×10⁻³"):
        table.add_column(head, justify="right")
    rows: dict[tuple[str, str], list[str]] = {}
    first_method = found["paired_differences"][0]["first"]
    for row in found["paired_differences"]:
        if len(found["methods"]) > _ALL_PAIRS_UP_TO and row["first"] != first_method:
            continue
        shown = _thousandths(row)
        clear = row["low"] > 0 or row["high"] < 0
        rows.setdefault((row["first"], row["second"]), []).append(f"[bold]{shown}[/bold]" if clear else shown)
    for names, shown_metrics in rows.items():
        table.add_row(*names, *shown_metrics)
    return table


def _thousandths(interval: dict[str, float]) -> str:
    mean, low, high = (1000 * interval.get(key, np.nan) for key in ("mean", "low", "high"))
    return f"{mean:.2f}" if np.isnan(low) else f"{mean:.2f} ±{(high - low) / 2:.2f}"


def main() -> None:
    """Parse, run, and turn bad input into one line and exit code 2."""
    command = tyro.cli(
        Command, prog="python -m toy.frozenlake", description=__doc__, config=(tyro.conf.OmitArgPrefixes,)
    )
    console = Console(soft_wrap=False)
    warnings.showwarning = lambda message, *_, **__: console.print(f"[yellow]warning[/yellow] {message}")
    try:
        run(command, console)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: results are written whole or not at all", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
