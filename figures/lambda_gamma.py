"""Distance to the optimum over the λ × γ plane in two protocols, and what the residual adds, by ice and prediction."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from experiments.claims import DISTANCES
from experiments.lambda_gamma import (
    FIRST_SEED,
    FORMS,
    PREDICTIONS,
    PROTOCOL_NAMES,
    RELEASED_GAMMA,
    RELEASED_LAM,
    Plane,
    relative_to_sft,
    residual_effect,
)
from experiments.lambda_gamma import lambda_gamma as run_lambda_gamma
from figures.style import PAGE, made_by, paper, save
from toy import protocol

_TITLES = {"parameter_mse": "parameter MSE", "policy_mse": "policy MSE"}
_ICE = {False: "not slippery", True: "slippery"}
_COLOURS = {False: "#d39a2f", True: "#14406b"}
_MARKERS = dict(zip(PREDICTIONS, "os^", strict=True))
_MOST = 0.75  # of the lakes: on so many the residual has to help to count as a help
_SMALL = 0.05  # percent of the start's distance: less is called no change


def lambda_gamma(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/lambda-gamma-runs` if it holds the results; returns the files written."""
    plane = run_lambda_gamma(out / "lambda-gamma-runs", quick, jobs)
    effects = {metric: residual_effect(plane.runs, metric) for metric in DISTANCES}
    return save(_draw(plane, effects), out, "lambda-gamma", _caption(plane, effects, quick), quick)


@paper
def _draw(plane: Plane, effects: dict[str, pd.DataFrame]) -> Figure:
    figure = Figure(figsize=(PAGE, 8.6), layout="constrained")
    parts = figure.subfigures(len(DISTANCES) + 1, 1, squeeze=False, height_ratios=(1, 1, 1.05))[:, 0]
    for part, metric in zip(parts, DISTANCES, strict=False):
        _draw_planes(part, relative_to_sft(plane.runs, metric), effects[metric], metric)
    parts[1].supxlabel(
        "star: the closest point · circle: the released λ 0.2, γ 0.95 · line: as close as SFT (where a plane varies by "
        "1 % or more)\ndot: closer than λ = 0 at this γ on at least three of four lakes",
        fontsize=6.5,
    )
    _draw_effects(parts[-1], effects)
    return figure


def _draw_planes(part: SubFigure, relative: pd.DataFrame, effect: pd.DataFrame, metric: str) -> None:
    """A row for each ice, two columns for each protocol, which share a scale."""
    grid = part.subplots(len(_ICE), len(PROTOCOL_NAMES) * len(FORMS), sharex=True, sharey=True)
    for i, name in enumerate(PROTOCOL_NAMES):
        columns = grid[:, len(FORMS) * i : len(FORMS) * (i + 1)]
        values = relative.loc[[name]]
        lowest, high = np.nanmin(values), np.nanquantile(values, 0.95)
        norm = LogNorm(lowest, max(high, lowest + 1))
        for (row, (slippery, ice)), (column, form) in product(enumerate(_ICE.items()), enumerate(FORMS)):
            axes = columns[row, column]
            table = values.loc[pd.IndexSlice[:, form, slippery, :], :].droplevel(["protocol", "form", "slippery"]).T
            chosen = (
                (effect["protocol"] == name) & (effect["form"] == form) & (effect["slippery"] == slippery)
                & (effect["prediction"] == "greedy") & (effect["closer"] >= _MOST * effect["lakes"])
            )  # fmt: skip
            image = _draw_plane(axes, table, effect[chosen], norm)
            if row == 0:
                axes.set_title(f"{name}, {form}", fontsize=7.5)
            if row == len(_ICE) - 1:
                axes.set_xlabel("γ")
            if column == i == 0:
                axes.set_ylabel(f"{ice}\nλ")
        bar = part.colorbar(image, ax=columns, location="bottom", shrink=0.85, aspect=40, extend="max")
        bar.ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        bar.ax.xaxis.set_minor_locator(NullLocator())
        bar.set_label(f"{name}: % of SFT's on the same lake", fontsize=7)
    part.suptitle(f"{_TITLES[metric]} to the optimum", fontsize=8, fontweight="bold", x=0.01, ha="left")


def _draw_plane(axes: Axes, table: pd.DataFrame, helps: pd.DataFrame, norm: LogNorm) -> QuadMesh:
    """Each point of the plane as a field that reaches half way to its neighbours: the axes have true distances."""
    values, lams, gammas = table.to_numpy(), table.index.to_numpy(float), table.columns.to_numpy(float)
    image = axes.pcolormesh(_edges(gammas), _edges(lams), values, cmap="cividis_r", norm=norm)
    if np.nanmax(values) - np.nanmin(values) >= 1:
        axes.contour(gammas, lams, values, levels=[100.0], colors="black", linewidths=0.8)
    axes.plot(helps["gamma"], helps["lam"], ".", color="white", markeredgecolor="black", markeredgewidth=0.3,
              markersize=3.2)  # fmt: skip
    row, column = np.unravel_index(np.nanargmin(values), values.shape)
    axes.plot(RELEASED_GAMMA, RELEASED_LAM, "o", markerfacecolor="none", markeredgecolor="black", markersize=6)
    axes.plot(gammas[column], lams[row], "*", color="white", markeredgecolor="black", markeredgewidth=0.5, markersize=7)
    axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "", "0.5", "", "1"])
    axes.set_yticks(np.arange(0, 1.01, 0.25), ["0", "", "0.5", "", "1"])
    return image


def _edges(points: np.ndarray) -> np.ndarray:
    middles = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - middles[0]], middles, [2 * points[-1] - middles[-1]]])


def _draw_effects(part: SubFigure, effects: dict[str, pd.DataFrame]) -> None:
    """What λ adds at the released γ, a line for each prediction and ice."""
    grid = part.subplots(len(DISTANCES), len(PROTOCOL_NAMES) * len(FORMS), sharex=True, sharey="row")
    for row, metric in zip(grid, DISTANCES, strict=True):
        chosen = effects[metric][effects[metric]["gamma"] == RELEASED_GAMMA]
        for axes, (name, form) in zip(row, product(PROTOCOL_NAMES, FORMS), strict=True):
            of_panel = chosen[(chosen["protocol"] == name) & (chosen["form"] == form)]
            for prediction, slippery in product(PREDICTIONS, _ICE):
                line = of_panel[(of_panel["slippery"] == slippery) & (of_panel["prediction"] == prediction)]
                axes.plot(
                    [0, *line["lam"]], [0, *line["change"]], color=_COLOURS[slippery], marker=_MARKERS[prediction],
                    markersize=3, linewidth=0.9, linestyle="-" if slippery else "--",
                    label=f"{_ICE[slippery]}, {prediction}",
                )  # fmt: skip
            axes.axhline(0, color="black", linewidth=0.5)
            axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "", "0.5", "", "1"])
            axes.set_yscale("symlog", linthresh=0.1, linscale=0.5)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
            axes.yaxis.set_minor_locator(NullLocator())
            if metric == DISTANCES[0]:
                axes.set_title(f"{name}, {form}", fontsize=7.5)
            else:
                axes.set_xlabel("λ")
        row[0].set_ylabel(f"change of\n{_TITLES[metric]}", fontsize=7)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=len(PREDICTIONS), frameon=False, fontsize=6.5)
    part.suptitle(
        f"what λ adds to λ = 0 at γ {RELEASED_GAMMA:g}, % of the start's distance (logarithmic beyond ±0.1); below 0 "
        "it helps",
        fontsize=7.5, x=0.01, ha="left",
    )  # fmt: skip


def _caption(plane: Plane, effects: dict[str, pd.DataFrame], quick: bool) -> str:
    numbers = ". ".join(
        f"{_TITLES[metric][0].upper()}{_TITLES[metric][1:]}: {_added(effects[metric])}" for metric in DISTANCES
    )
    lakes = "; ".join(
        f"{ice}: {', '.join(lake.map for lake in plane.lakes if lake.slippery == slippery)}"
        for slippery, ice in _ICE.items()
    )
    settings = " and ".join(
        f"`{name}` ({each.steps} updates of {each.optimizer} at {each.lr:g})"
        for name, each in ((name, protocol(name)) for name in PROTOCOL_NAMES)
    )
    return (
        f"IFT in the protocols {settings}, in both forms, from {plane.seeds} start policies (seeds from {FIRST_SEED}) "
        f"on lakes with a second way ({lakes}). The planes show the distance to the optimum as a percentage of SFT's "
        f"(λ = 0, γ = 0) on the same lake, in the mean over lakes, with greedy predictions; each pair of columns has a "
        f"scale of its own, and the axes have true distances. The lines show what λ adds at γ {RELEASED_GAMMA:g} with "
        f"each prediction. With λ {RELEASED_LAM:g} in place of 0 and greedy predictions, the distance changes by so "
        f"many percent of the start's, and so many lakes end closer. {numbers}. {_where(effects['parameter_mse'])} "
        f"{made_by('lambda-gamma', quick)}"
    )


def _added(effect: pd.DataFrame) -> str:
    """What the released λ adds with greedy predictions, in every protocol and form, on each ice."""
    at = effect[(effect["lam"] == RELEASED_LAM) & (effect["gamma"] == RELEASED_GAMMA)]
    parts = []
    for name, form in product(PROTOCOL_NAMES, FORMS):
        of_form = at[(at["prediction"] == "greedy") & (at["protocol"] == name) & (at["form"] == form)]
        sides = [(ice, of_form[of_form["slippery"] == slippery].iloc[0]) for slippery, ice in _ICE.items()]
        text = ", ".join(f"{ice} {row['change']:+.2f} ({row['closer']} of {row['lakes']})" for ice, row in sides)
        parts.append(f"{name}, {form}: {text}")
    return "; ".join(parts)


def _where(effect: pd.DataFrame) -> str:
    """The settings in which the released λ helps, and those in which it harms."""
    at = effect[(effect["lam"] == RELEASED_LAM) & (effect["gamma"] == RELEASED_GAMMA)]
    closer = at["closer"] / at["lakes"]
    helps = at[(closer >= _MOST) & (at["change"] <= -_SMALL)]
    harms = at[(closer <= 1 - _MOST) & (at["change"] >= _SMALL)]
    bound = f"on at least three of four lakes, by {_SMALL:g} % of the start's distance or more in the mean"
    return (
        f"In parameter MSE the residual helps ({bound}) in: {_listed(helps)}. It harms as surely in: {_listed(harms)}. "
        f"Elsewhere it changes little, or lakes differ."
    )


def _listed(rows: pd.DataFrame) -> str:
    """Settings in words, predictions together."""
    parts = []
    for name, form, (slippery, ice) in product(PROTOCOL_NAMES, FORMS, _ICE.items()):
        of_setting = rows[(rows["protocol"] == name) & (rows["form"] == form) & (rows["slippery"] == slippery)]
        predictions = list(of_setting["prediction"])
        if predictions:
            which = "every prediction" if len(predictions) == len(PREDICTIONS) else " and ".join(predictions)
            parts.append(f"{name}, {form}, {ice} ({which})")
    return "; ".join(parts) or "none"
