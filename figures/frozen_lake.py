"""The paper's figure 3: a lake with two ways, the policy after each method, what it scores, and how close it comes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import (
    held_record,
    holds_nothing,
    read_object,
    reading,
    record,
    refuse_other,
    working_in,
    write_whole,
)
from figures.style import PAGE, made_by, paper, save
from ift import METHODS
from toy import Lake, Settings, align, protocol, results, scored_states
from toy.picture import colour_of, draw_cells, draw_lake, draw_moves, draw_trajectory

SHOWN = ("sft", "orpo", "ift", "dpo")  # from the farthest to the closest, as the paper has them
FIRST_SEED = 120_000  # seeds that nothing was chosen on
DISTANCES = {"parameter_mse": "parameter MSE ×10⁻³", "policy_mse": "policy MSE ×10⁻³"}


@dataclass(frozen=True, eq=False)
class _Results:
    methods: tuple[str, ...]
    summary: dict[str, Any]
    curves: pd.DataFrame
    policies: dict[str, np.ndarray]
    visits: dict[str, np.ndarray]
    scored: dict[str, np.ndarray]  # METHOD_KIND


def frozen_lake(out: Path, quick: bool, jobs: int, more: tuple[str, ...] = ()) -> list[Path]:
    """Draw the figure into `out`, from `out/frozen-lake-runs` if it holds the results; returns the files written.

    `more` are methods to show beside those of the paper.
    """
    lake = Lake.make("ring")
    settings = replace(protocol("paper"), seeds=16 if quick else 200, seed=FIRST_SEED)
    shown = _read(out / "frozen-lake-runs", lake, settings, tuple(dict.fromkeys((*SHOWN, *more))))
    with reading(out / "frozen-lake-runs" / "summary.json"):
        caption = _caption(lake, settings, shown, quick)
    return save(_draw(lake, shown, settings.seeds), out, "frozen-lake", caption, quick)


def _read(folder: Path, lake: Lake, settings: Settings, methods: tuple[str, ...]) -> _Results:
    """The results in `folder`, made if they are not there; raises `ValueError` if it holds others."""
    config = results.describe(lake, methods, settings, "paper")
    with working_in(folder):
        held = held_record(folder)
        if held is not None:
            refuse_other(folder, held, record(config))
        elif not holds_nothing(folder):
            raise ValueError(f"out {str(folder)!r} holds files without config.json: delete it, and it is made again")
        else:
            result = align(lake, methods, settings)
            results.save(result, results.summary(result), config, lake, settings, folder)
        if not (folder / "scored.npz").exists():
            kinds = ("states", "raised", "lowered", "cells")
            scored = {method: scored_states(lake, method, settings) for method in methods}
            tables = {f"{method}_{kind}": getattr(each, kind) for method, each in scored.items() for kind in kinds}
            write_whole(folder / "scored.npz", lambda path: np.savez_compressed(path, allow_pickle=False, **tables))
    with (
        reading(folder),
        np.load(folder / "policies.npz") as held_tables,
        np.load(folder / "scored.npz") as held_scored,
    ):
        policies, visits = (
            {key.removeprefix(kind): table for key, table in held_tables.items() if key.startswith(kind)}
            for kind in ("policy_", "visits_")
        )
        summary = read_object(folder / "summary.json")
        curves = pd.read_parquet((folder / "curves.parquet").absolute())  # else "a:b/c" is taken for an address
        return _Results(methods, summary, curves, policies, visits, dict(held_scored))


@paper
def _draw(lake: Lake, shown: _Results, seeds: int) -> Figure:
    methods = shown.methods
    figure = Figure(figsize=(PAGE * max(1.0, len(methods) / 5), 7.4), layout="constrained")
    lakes, numbers = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.5, 3.4))[:, 0]
    above, policies, scored = lakes.subplots(3, len(methods))
    _draw_trajectories(above[0], lake, shown.summary)
    for axes, name in zip(above[1:], ("start", "optimum"), strict=False):
        draw_lake(axes, lake, shown.policies[name], shown.visits[name], name, colour_of(name))
    _draw_key(above[3])
    for axes in above[4:]:
        axes.axis("off")
    for axes, name in zip(policies, methods, strict=True):
        draw_lake(axes, lake, shown.policies[name], shown.visits[name], f"after {name.upper()}", colour_of(name))
    for axes, name in zip(scored, methods, strict=True):
        cells = shown.scored[f"{name}_cells"].mean()
        draw_cells(axes, lake, shown.scored[f"{name}_states"], darkest=0.32, size=7)
        for kind, colour in (("lowered", "#aa3377"), ("raised", "#1a1a1a")):
            share = shown.scored[f"{name}_{kind}"]
            draw_moves(axes, lake, 0.5 * np.sqrt(share / share.max()) if share.any() else share, colour, width=0.014)
        axes.set_title(f"{name.upper()} scores {cells:.1f} cells", fontsize=7.5, color=colour_of(name))
    grid = numbers.subplots(2, 2, height_ratios=(1, 1.3))
    for (errors, curve), (metric, label) in zip(grid.T, DISTANCES.items(), strict=True):
        _draw_leads(errors, shown, metric, label)
        _draw_curves(curve, shown, metric, label)
    grid[1, 0].legend(frameon=False, ncols=2)
    grid[0, 0].set_title(f"mean of {seeds} seeds, differences paired by seed, 95 % interval", fontsize=7, loc="left")
    return figure


def _draw_trajectories(axes: Axes, lake: Lake, summary: dict[str, Any]) -> None:
    draw_cells(axes, lake, np.zeros(len(lake.next_cell)))
    draw_trajectory(axes, lake, summary["optimal_walks"][0], "#000000", "-", 0.12, "optimal")
    draw_trajectory(axes, lake, summary["suboptimal_walks"][0], "#6b6b6b", "--", -0.12, "sub-optimal")
    axes.set_title("the two ways", fontsize=10, fontweight="bold")


def _draw_key(axes: Axes) -> None:
    axes.axis("off")
    text = (
        "—— optimal way, – – the other one\n\npolicies: arrows as long as the\nmove is likely; blue: an episode\n"
        "visits the cell\n\nscored: blue: share of the steps;\nblack: moves made likelier,\npurple: less likely"
    )
    axes.text(0.0, 1.0, text, va="top", fontsize=6.8, linespacing=1.25, transform=axes.transAxes)


def _draw_leads(axes: Axes, shown: _Results, metric: str, label: str) -> None:
    """How much closer to the optimum than SFT each method ends, paired by seed."""
    rows = [row for row in shown.summary["paired_differences"] if row["metric"] == metric and "sft" in row.values()]
    for row in rows:
        sign, method = (1, row["second"]) if row["first"] == "sft" else (-1, row["first"])
        place, colour = shown.methods.index(method), colour_of(method)
        axes.plot([1000 * sign * row["low"], 1000 * sign * row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(1000 * sign * row["mean"], place, "o", color=colour, markersize=5)
    axes.axvline(0, color=colour_of("sft"), linewidth=1)
    axes.set_yticks(range(1, len(shown.methods)), shown.methods[1:])
    axes.set_ylim(0.4, len(shown.methods) - 0.4)
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "SFT")
    axes.set_xlabel(f"closer than SFT by {label}")


def _draw_curves(axes: Axes, shown: _Results, metric: str, label: str) -> None:
    for place, method in enumerate(shown.methods):
        means = shown.curves[shown.curves["method"] == method].groupby("step")[metric].mean()
        axes.plot(
            means.index,
            1000 * means,
            color=colour_of(method),
            label=method,
            marker="os^Dv<>p*h"[place % 10],
            markevery=4,
            ms=3,
        )
    axes.set_xlabel("update")
    axes.set_ylabel(label)


def _caption(lake: Lake, settings: Settings, shown: _Results, quick: bool) -> str:
    metrics = shown.summary["methods"]

    def listed(metric: str) -> str:
        order = sorted(shown.methods, key=lambda name: metrics[name][metric]["mean"])
        return "; ".join(
            f"{name} {1000 * m['mean']:.2f} [{1000 * m['low']:.2f}, {1000 * m['high']:.2f}]"
            for name, m in ((name, metrics[name][metric]) for name in ("start", *order))
        )

    differences = "; ".join(
        f"{row['first']} − {row['second']} {1000 * row['mean']:+.2f} [{1000 * row['low']:+.2f}, "
        f"{1000 * row['high']:+.2f}]"
        for row in shown.summary["paired_differences"]
        if row["metric"] == "parameter_mse"
    )
    numbers = "; ".join(
        f"{name} " + ", ".join(f"{key} {value:g}" for key, value in settings.numbers_of(METHODS[name]).items())
        for name in shown.methods
        if METHODS[name].numbers
    )
    success = ", ".join(f"{name} {metrics[name]['success']['mean']:.3f}" for name in ("start", *shown.methods))
    cells = ", ".join(f"{name} {shown.scored[f'{name}_cells'].mean():.2f}" for name in shown.methods)
    mixed = shown.summary["mixed"]["ift"]
    return (
        f"The `paper` protocol on the lake {'/'.join(lake.rows)}, {settings.seeds} seeds from {settings.seed}: a "
        f"network of width {settings.width} that was trained on both ways (the sub-optimal one has a share of "
        f"{settings.start_suboptimal_share:g}), then {settings.steps} updates of {settings.optimizer} at "
        f"{settings.lr:g} with each method ({numbers}; IFT in the form {settings.form}). The first update of a "
        f"training scores {cells} cells in the mean; IFT's predicted cell is another than the target's at "
        f"{mixed['steps']:.1%} of the steps after the first, over the whole training, and at least once in "
        f"{mixed['seeds']:.0%} of the seeds. Mean with 95 % bootstrap interval over seeds, "
        f"×10⁻³. Parameter MSE: {listed('parameter_mse')}. Its differences paired by seed: {differences}. Policy MSE: "
        f"{listed('policy_mse')}. Success: {success}. {made_by('frozen-lake', quick)}"
    )
