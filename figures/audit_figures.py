"""The audit as pictures: every claim's effect, and what λ does."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.claims import Sample, lake_means, resamples
from experiments.protocols import DISTANCES, LAMS, PROTOCOLS
from figures.style import PAGE, paper
from toy import Settings

_COLOURS = dict(zip(PROTOCOLS, ("#332288", "#882255", "#117733", "#777777"), strict=True))  # no method has these
_MARKERS = dict(zip(PROTOCOLS, "os^D", strict=True))
_TITLES = {"policies": "distance of the policy", "weights": "distance of the weights", "cells": "cells visited"}


@paper
def draw_claims(found: dict[str, Any]) -> Figure:
    """Effect and 95 % interval of every claim, by protocol, for policies, weights and cells visited."""
    claims = found["claims"]
    figure = Figure(figsize=(PAGE, 0.42 * len(claims) + 1.0), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 0.7))
    for axes, space in zip(panels, _TITLES, strict=True):
        _forest(axes, claims, space)
    panels[0].set_yticks(range(len(claims)), [claim["name"] for claim in claims])
    panels[0].set_ylim(len(claims) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(PROTOCOLS), frameon=False)
    figure.supxlabel("filled: the 95 % interval lies above 0, the claim holds there", fontsize=7)
    return figure


def _forest(axes: Axes, claims: list[dict[str, Any]], space: str) -> None:
    scale = 1 if space == "cells" else 100
    for i, protocol in enumerate(PROTOCOLS):
        offset, colour = 0.18 * (i - 1.5), _COLOURS[protocol]
        axes.plot([], [], _MARKERS[protocol], color=colour, markersize=4, label=protocol)
        for row, claim in enumerate(claims):
            for cell in claim["cells"]:
                if (cell["protocol"], cell["space"], cell["ice"]) != (protocol, space, "all"):
                    continue
                axes.plot([scale * cell["low"], scale * cell["high"]], [row + offset] * 2, color=colour, linewidth=1)
                face = colour if cell["state"] == "holds" else "white"
                axes.plot(
                    scale * cell["effect"], row + offset, _MARKERS[protocol], color=colour, markerfacecolor=face,
                    markersize=3.6, markeredgewidth=0.8,
                )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.6)
    for row in range(1, len(claims)):
        axes.axhline(row - 0.5, color="#e3e3e3", linewidth=0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_title(_TITLES[space])
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_xlabel("effect (cells)" if space == "cells" else "effect (% of the start's distance)")


@paper
def draw_lambda(runs: pd.DataFrame, settings: dict[str, dict[str, Settings]]) -> Figure:
    """Distance to the optimum against λ for each protocol's IFT, with intervals; beside it SFT, γ = 0, and noise."""
    figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
    grid = figure.subplots(2, len(PROTOCOLS), sharex=True)
    sample = resamples(runs, (False, True))
    for row, metric in enumerate(DISTANCES):
        for axes, protocol in zip(grid[row], PROTOCOLS, strict=True):
            _draw_lambda(axes, runs[runs["protocol"] == protocol], metric, sample)
            axes.axvline(settings[protocol]["ift"].lam, color="#b0b0b0", linestyle=":", linewidth=0.8)
            axes.set_title(protocol if row == 0 else "")
            axes.margins(y=0.15)
        grid[row][0].set_ylabel(f"MSE of {('policies', 'weights')[row]}\n(% of the start's)")
    for axes in grid[-1]:
        axes.set_xlabel("λ")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_lambda(axes: Axes, table: pd.DataFrame, metric: str, sample: Sample) -> None:
    trials = [f"ift lam={lam:g}" for lam in LAMS]
    values = np.stack([lake_means(table, trial, metric).loc[sample.lakes] for trial in trials])
    low, high = 100 * np.quantile(sample.means(values), [0.025, 0.975], axis=0)
    axes.fill_between(LAMS, low, high, color="#cccccc", linewidth=0)
    axes.plot(LAMS, 100 * values.mean((1, 2)), "o-", color="black", markersize=3, label="IFT at this λ, 95 % interval")
    for trial, style, label in (
        ("ift residual=noise", (0, (1, 1)), "IFT, noise for the residual"),
        ("ift gamma=0", "--", "IFT, γ = 0"),
        ("sft", "-.", "SFT"),
    ):
        mean = 100 * lake_means(table, trial, metric).mean(axis=1).mean()
        axes.axhline(mean, linestyle=style, color="#6b6b6b", linewidth=1, label=label)
