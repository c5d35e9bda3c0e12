"""The audit as pictures: the answer at a glance, every claim's effect, and what λ does."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.audit import COLUMNS, LAMS, Audit
from experiments.claims import DISTANCES, PAPERS_ORDER, lake_means, resample, tables_of
from figures.style import PAGE, paper
from toy.picture import colour_of

_NAMES = {"parameter_mse": "parameter MSE", "policy_mse": "policy MSE"}
# Four readings of the same experiment: (title, protocol, distance).
HEADLINE = (
    ("as in the paper", "paper", "parameter_mse"),
    ("at equal distance travelled", "paper, equal distance", "parameter_mse"),
    ("with Adam", "paper-adam", "parameter_mse"),
    ("as in the paper,\ndistance between policies", "paper", "policy_mse"),
)
_SHADES = ("#332288", "#88ccee", "#882255", "#cc6677", "#ddaa33", "#777777", "#117733", "#44aa99")
_MARKERS = "osD^vP*X"


@paper
def draw_headline(audit: Audit) -> Figure:
    """How much closer than SFT each method ends, in four readings of the same experiment, by kind of ice."""
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    for place, (axes, (title, protocol, metric)) in enumerate(
        zip(figure.subplots(1, len(HEADLINE), sharey=True), HEADLINE, strict=True)
    ):
        for shift, slippery, marker in ((0.14, False, "o"), (-0.14, True, "s")):
            rows = audit.runs[(audit.runs["protocol"] == protocol) & (audit.runs["slippery"] == slippery)]
            _draw_leads(axes, rows, metric, shift, marker, f"{'slippery' if slippery else 'not slippery'} ice")
        axes.axvline(0, color=colour_of("sft"), linewidth=1)
        axes.set_title(f"{title}\n" if "\n" not in title else title, fontsize=8)
        axes.set_ylim(-0.6, len(PAPERS_ORDER) - 1.4)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "SFT"))
        if place == 0:
            axes.set_yticks(range(len(PAPERS_ORDER) - 1), [name.upper() for name in PAPERS_ORDER[-2::-1]])
            axes.legend(frameon=False, fontsize=6, loc="upper center", bbox_to_anchor=(0.35, -0.22), ncols=2)
    figure.supxlabel("closer to the optimum than SFT (right), in % of the start's distance; 95 % intervals; each panel "
                     "has its own scale", fontsize=6.5)  # fmt: skip
    return figure


def _draw_leads(axes: Axes, rows: pd.DataFrame, metric: str, shift: float, marker: str, label: str) -> None:
    """Each method's lead over SFT with its interval."""
    tables = tables_of(rows)
    sample = resample(sorted(rows["lake"].unique()), rows["seed"].nunique())
    for place, method in enumerate(PAPERS_ORDER[-2::-1]):
        lead = 100 * (tables["sft", metric] - tables[method, metric]).loc[sample.lakes].to_numpy()
        low, high = np.quantile(sample.means(lead[None])[:, 0], [0.025, 0.975])
        colour = colour_of(method)
        axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.4)
        axes.plot(np.nanmean(lead), place + shift, marker, color=colour, markersize=4)
    axes.plot([], [], marker, color="black", ms=4, label=label, linestyle="none")


@paper
def draw_claims(audit: Audit) -> Figure:
    """Effect and 95 % interval of every claim about distances, by protocol; parameters first."""
    claims = [each for each in audit.findings if each.claim.metrics == DISTANCES]
    figure = Figure(figsize=(PAGE, 0.55 * len(claims) + 0.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, DISTANCES, strict=True):
        for place, protocol in enumerate(COLUMNS):
            shift, colour, marker = 0.1 * (place - 3.5), _SHADES[place], _MARKERS[place]
            axes.plot([], [], marker, color=colour, markersize=4, label=protocol)
            for row, each in enumerate(claims):
                cell = each.cell(protocol, metric)
                if cell is None:
                    continue
                axes.plot([100 * cell.low, 100 * cell.high], [row + shift] * 2, color=colour, linewidth=0.8)
                face = colour if cell.state in ("holds", "contradicted") else "white"
                axes.plot(100 * cell.effect, row + shift, marker, color=colour, markerfacecolor=face, ms=3, mew=0.7)
        axes.axvline(0, color="black", linewidth=0.6)
        for row in range(1, len(claims)):
            axes.axhline(row - 0.5, color="#e3e3e3", linewidth=0.4)
        axes.set_title(_NAMES[metric])
        axes.set_xscale("symlog", linthresh=1, linscale=0.8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
        axes.axvspan(-1, 1, color="#f4f4f4", zorder=0)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(claims)), [fill(each.claim.sentence, 27) for each in claims], fontsize=6.5)
    panels[0].set_ylim(len(claims) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.supxlabel(
        "effect in % of the start's distance (linear in the grey band, logarithmic beyond it); right of 0 the claim's "
        "direction is right\nhollow: undecided, the interval includes 0",
        fontsize=7,
    )
    return figure


@paper
def draw_lambda(audit: Audit) -> Figure:
    """Distance to the optimum against λ in the paper's protocol, with each optimiser, by kind of ice."""
    columns = (("paper", False), ("paper", True), ("paper-adam", False), ("paper-adam", True))
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    grid = figure.subplots(2, len(columns), sharex=True)
    for column, (protocol, slippery) in enumerate(columns):
        rows = audit.runs[(audit.runs["protocol"] == protocol) & (audit.runs["slippery"] == slippery)]
        for axes, metric in zip(grid[:, column], DISTANCES, strict=True):
            _draw_against_lambda(axes, rows, metric)
        grid[0, column].set_title(f"{protocol}, {'slippery' if slippery else 'not slippery'}", fontsize=7.5)
        grid[1, column].set_xlabel("λ")
    for axes, metric in zip(grid[:, 0], DISTANCES, strict=True):
        axes.set_ylabel(f"{_NAMES[metric]}, IFT's minus\nSFT's, % of the start's", fontsize=6.5)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_against_lambda(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    sample = resample(sorted(rows["lake"].unique()), rows["seed"].nunique())
    sft = lake_means(rows, "sft", metric).loc[sample.lakes].to_numpy()

    def lead(trial: str) -> np.ndarray:
        return 100 * (lake_means(rows, trial, metric).loc[sample.lakes].to_numpy() - sft)

    values = np.stack([lead("ift" if lam == 0.2 else f"ift:lam={lam:g}") for lam in LAMS])
    low, high = np.quantile(sample.means(values), [0.025, 0.975], axis=0)
    axes.fill_between(LAMS, low, high, color="#cccccc", linewidth=0)
    axes.plot(LAMS, np.nanmean(values, (1, 2)), "o-", color="black", ms=3, label="IFT at this λ, 95 % interval")
    noise = float(np.nanmean(lead("ift:residual=noise")))
    axes.axhline(noise, linestyle=(0, (1, 1)), color="#6b6b6b", label="noise in place of λ 0.2")
    axes.axhline(0, color=colour_of("sft"), linewidth=1, label="SFT")
    axes.margins(y=0.15)
