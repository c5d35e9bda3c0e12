"""The paper's figure 3: a lake, its trajectories, the policy after each method, and how close each comes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import package_version, reading, refuse_other
from figures.style import PAGE, paper, save
from toy import Lake, Settings, align, results
from toy.picture import colour_of, draw_cells, draw_errors, draw_lake, draw_trajectory

METHODS = ("sft", "ift", "orpo", "dpo", "ppo")
FIRST_SEED = 20_000  # seeds that nothing was chosen on


def frozen_lake(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/frozen-lake-runs` if it holds the results; returns the files written."""
    lake, settings = Lake.make("ring"), Settings(seeds=16 if quick else 200, seed=FIRST_SEED)
    folder = out / "frozen-lake-runs"
    _make_results(folder, lake, settings)
    with reading(folder), np.load(folder / "policies.npz") as held:
        tables = dict(held)
        summary = json.loads((folder / "summary.json").read_text())
        curves = pd.read_parquet(folder / "curves.parquet")
    policies, visits = (
        {key.removeprefix(kind): table for key, table in tables.items() if key.startswith(kind)}
        for kind in ("policy_", "visits_")
    )
    figure = _draw(lake, summary, policies, visits, curves)
    return save(figure, out, "frozen-lake", _caption(lake, settings, summary))


def _make_results(folder: Path, lake: Lake, settings: Settings) -> None:
    wanted = {"version": package_version(), **results.describe(lake, METHODS, settings)}
    if (folder / "config.json").exists():
        held = json.loads((folder / "config.json").read_text())
        version = held.get("versions", {}).get("intuitive-fine-tuning")
        refuse_other(folder, {"version": version, **{key: held.get(key) for key in wanted if key != "version"}}, wanted)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"out {str(folder)!r} holds files without config.json: delete it, and it is made again")
    results.check_folder(folder, wanted, overwrite=False)
    result = align(lake, METHODS, settings)
    results.save(result, results.summary(result), lake, settings, folder)


@paper
def _draw(
    lake: Lake,
    summary: dict[str, Any],
    policies: dict[str, np.ndarray],
    visits: dict[str, np.ndarray],
    curves: pd.DataFrame,
) -> Figure:
    figure = Figure(figsize=(PAGE, 5.6), layout="constrained")
    lakes, numbers = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.5, 3.1))[:, 0]
    panels = lakes.subplots(2, 4).ravel()
    _draw_trajectories(panels[0], lake, summary)
    for axes, name in zip(panels[1:], ("start", *METHODS, "optimum"), strict=True):
        draw_lake(axes, lake, policies[name], visits[name], name, colour_of(name))
        axes.set_title(axes.get_title(), fontsize=8)
    lakes.supxlabel("arrow: probability of the move · blue: probability that an episode visits the cell", fontsize=7)
    grid = numbers.subplots(2, 2, width_ratios=(1, 1.4))
    labels = {"policy_mse": "policy MSE ×10⁻³", "parameter_mse": "weight MSE ×10⁻³"}
    for (axes, curve), (metric, label) in zip(grid, labels.items(), strict=True):
        draw_errors(axes, summary["methods"], metric, label)
        axes.tick_params(labelsize=7)
        _draw_curves(curve, curves, metric, label)
    curve.legend(frameon=False, ncols=3, loc="lower center")
    return figure


def _draw_trajectories(axes: Axes, lake: Lake, summary: dict[str, Any]) -> None:
    draw_cells(axes, lake, np.zeros(len(lake.next_cell)))
    draw_trajectory(axes, lake, summary["optimal_walks"][0], "#000000", "-", 0.12, "optimal")
    draw_trajectory(axes, lake, summary["suboptimal_walks"][0], "#6b6b6b", "--", -0.12, "sub-optimal")
    axes.set_title("two trajectories: —— optimal, – – not", fontsize=7.5)


def _draw_curves(axes: Axes, curves: pd.DataFrame, metric: str, label: str) -> None:
    for i, method in enumerate(METHODS):
        means = curves[curves["method"] == method].groupby("step")[metric].mean()
        axes.plot(
            means.index, 1000 * means, color=colour_of(method), label=method, marker="os^Dv"[i], markevery=4, ms=3
        )
    axes.set_xlabel("update")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)


def _caption(lake: Lake, settings: Settings, summary: dict[str, Any]) -> str:
    metrics = summary["methods"]

    def listed(metric: str) -> str:
        order = sorted((name for name in metrics if name != "start"), key=lambda name: metrics[name][metric]["mean"])
        return "; ".join(
            f"{name} {1000 * m['mean']:.2f} [{1000 * m['low']:.2f}, {1000 * m['high']:.2f}]"
            for name, m in ((name, metrics[name][metric]) for name in ("start", *order))
        )

    idle = ", without effect as the start's greedy moves are the target's" if summary.get("residual_idle") else ""
    cells = ", ".join(f"{name} {m['cells_visited']['mean']:.2f}" for name, m in metrics.items())
    return (
        f"Lake {'/'.join(lake.rows)}, {settings.seeds} seeds from {settings.seed}, width {settings.width}, start "
        f"{settings.start}, {settings.steps} updates of {settings.optimizer} at {settings.lr}, λ {settings.lam} "
        f"({settings.prediction}{idle}), γ {settings.gamma} ({settings.propagation}), DPO β {settings.beta_of('dpo')}, "
        f"ORPO β {settings.beta_of('orpo')}, {settings.negatives_per_step} negatives of the {settings.negatives} "
        f"policy, PPO {settings.rollouts} episodes, {settings.epochs} epochs, clip {settings.clip}. Arrows: mean "
        f"policy; blue: probability that an episode visits the cell. Mean with 95 % bootstrap interval over seeds, "
        f"×10⁻³. MSE of the policy to the optimum: {listed('policy_mse')}. MSE of the weights to the optimal ones: "
        f"{listed('parameter_mse')}. Cells visited: {cells}. Made by `python -m figures frozen-lake`."
    )
