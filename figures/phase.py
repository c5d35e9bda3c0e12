"""In which settings the paper's order holds: shares of protocols, with optimiser, form and distance crossed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from experiments.claims import DISTANCES
from experiments.phase import CROSSED, DRAWN, FIRST_SEED, LAKES, ORDERS, ORPO_BETA_SHARE, STEP_SIZES, Phase
from experiments.phase import phase as run_phase
from figures.style import PAGE, made_by, paper, save
from toy import protocol

_TITLES = {"parameter_mse": "parameter MSE", "policy_mse": "policy MSE"}
_ALL_FOUR, _WITHOUT_DPO = list(ORDERS)[:2]
_COMBINATIONS = [(optimizer, form) for optimizer in STEP_SIZES for form in CROSSED["form"]]
# The rows of the lower panels: an order in a combination. (Of all four with the others, the upper panel.)
_ROWS = [
    *((_ALL_FOUR, combination) for combination in _COMBINATIONS if combination[0] == "sgd"),
    *((_WITHOUT_DPO, combination) for combination in _COMBINATIONS),
]
_SIZES = tuple(sorted({size for sizes in STEP_SIZES.values() for size in sizes}))
# The factors of the lower panels, in two rows.
_FACTORS: tuple[dict[str, tuple[Any, ...]], ...] = (
    {"start": DRAWN["start"], "lake": DRAWN["lake"], "lr": _SIZES},
    {"steps": DRAWN["steps"], "beta": CROSSED["beta"], "negatives": DRAWN["negatives"],
     "prediction": CROSSED["prediction"]},
)  # fmt: skip
_NAMES = {"lr": "step size", "steps": "updates", "beta": "β of DPO", "prediction": "IFT predicts"}
_HEADING: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "x": 0.01, "ha": "left"}


def phase(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/phase-runs` if it holds the results; returns the files written."""
    phases = run_phase(out / "phase-runs", quick, jobs)
    return save(_draw(phases.held), out, "phase", _caption(phases, quick), quick)


def shares(held: pd.DataFrame, by: list[str], orders: list[str]) -> pd.DataFrame:
    """Percentage of protocols in which each of `orders` holds, and their count `n`, by the columns `by`."""
    groups = held.groupby(by, sort=False)
    return (100 * groups[orders].mean()).assign(n=groups.size())


@paper
def _draw(held: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE, 7.4), layout="constrained")
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=(1.15, 1.1, 1.05))[:, 0]
    image = _draw_orders(parts[0], held)
    first = held[held["distance"] == DISTANCES[0]]
    for part, factors in zip(parts[1:], _FACTORS, strict=True):
        _draw_factors(part, first, factors)
    parts[0].suptitle("which orders hold, by optimiser, form and distance", **_HEADING)
    parts[1].suptitle(
        f"where they hold in {_TITLES[DISTANCES[0]]}, by the other factors (i < o < s: {_WITHOUT_DPO})", **_HEADING
    )
    bar = parts[0].colorbar(image, ax=parts[0].axes, shrink=0.9, aspect=25)
    bar.set_label("protocols in which\nthe order holds, %", fontsize=7)
    return figure


def _draw_orders(part: SubFigure, held: pd.DataFrame) -> AxesImage:
    """A row for each order, a column for each optimiser and form; a panel for each distance."""
    for axes, metric in zip(part.subplots(1, len(DISTANCES), sharey=True), DISTANCES, strict=True):
        table = shares(held[held["distance"] == metric], ["optimizer", "form"], list(ORDERS)).loc[_COMBINATIONS]
        image = _draw_table(axes, table[list(ORDERS)].to_numpy().T)
        axes.set_xticks(
            range(len(table)),
            [f"{optimizer}\n{form}\nn {n}" for (optimizer, form), n in zip(_COMBINATIONS, table["n"], strict=True)],
        )
        axes.set_yticks(range(len(ORDERS)), ["all four", *list(ORDERS)[1:]])
        axes.axhline(1.5, color="white", linewidth=2.5)
        axes.set_title(_TITLES[metric], fontsize=7.5)
    return image


def _draw_factors(part: SubFigure, held: pd.DataFrame, factors: dict[str, tuple[Any, ...]]) -> None:
    """A row for each of `_ROWS`, a column for each level; a panel for each factor."""
    panels = part.subplots(1, len(factors), sharey=True, width_ratios=[len(levels) for levels in factors.values()])
    for axes, (factor, levels) in zip(panels, factors.items(), strict=True):
        table = shares(held, ["optimizer", "form", factor], [_ALL_FOUR, _WITHOUT_DPO])
        values = [
            table[order].unstack(factor).reindex(columns=list(levels)).loc[combination] for order, combination in _ROWS
        ]
        _draw_table(axes, np.array(values, dtype=float))
        axes.axhline(sum(order == _ALL_FOUR for order, _ in _ROWS) - 0.5, color="white", linewidth=2.5)
        labels = [f"{level:g}" if isinstance(level, float) else str(level) for level in levels]
        axes.set_xticks(range(len(levels)), labels, rotation=90 if max(map(len, labels)) > 4 else 0)
        names = {_ALL_FOUR: "all four", _WITHOUT_DPO: "i < o < s"}
        axes.set_yticks(
            range(len(_ROWS)), [f"{names[order]}: {', '.join(combination)}" for order, combination in _ROWS]
        )
        fewest, most = int(table["n"].min()), int(table["n"].max())
        count = f"n {fewest}" if fewest == most else f"n {fewest} to {most}"
        axes.set_title(f"{_NAMES.get(factor, factor)} ({count})", fontsize=7)


def _draw_table(axes: Axes, values: np.ndarray) -> AxesImage:
    """Percentages `[rows, columns]` as shades and numbers; NaN is left blank."""
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(values):
        if np.isfinite(share):
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6.5,
                      color="black" if share > 50 else "white")  # fmt: skip
    axes.tick_params(length=0, labelsize=6.5)
    axes.spines[:].set_visible(False)
    return image


def _caption(phases: Phase, quick: bool) -> str:
    held, paper_protocol = phases.held, protocol("paper")
    crossed = len(held[held["distance"] == DISTANCES[0]]) // len(STEP_SIZES) // phases.draws
    lakes = ", ".join(f"{label} ({name})" if ":" in name else label for label, (name, _) in LAKES.items())
    return (
        f"For each optimiser, {phases.draws} combinations of lake, start, step size, updates and negatives were drawn "
        f"at random, each level equally often; each was run with every β, prediction and form ({crossed} protocols) on "
        f"{phases.seeds} seeds from {FIRST_SEED}. n is the number of protocols behind a percentage; the "
        f"{crossed // len(CROSSED['form'])} of one form and combination are related, so that it rests on fewer cases. "
        f"All four methods have the same settings; β is DPO's, and ORPO's is {ORPO_BETA_SHARE:g} of it. IFT has λ 0.2 "
        f"and γ 0.95, and the network has {paper_protocol.width} hidden units. The start `both, s` has learned two "
        f"ways, of which the sub-optimal one has a share of s. The lakes are {lakes}; each has a second way. In the "
        f"lower panels, i < o < s stands for {_WITHOUT_DPO}. An order holds where the means over seeds of the "
        f"distances to the optimum are in it; differences below 1e-5 of the start's distance do not count. By chance "
        f"alone an order of two would hold in 50 % of the protocols, one of three in 16.7 %, and the order of all four "
        f"({_ALL_FOUR}) in 4.2 %. {_in_words(held)} {made_by('phase', quick)}"
    )


def _in_words(held: pd.DataFrame) -> str:
    """The shares of the whole order, and what holds in the neighbourhood of the `paper` protocol."""
    parts = []
    for metric in DISTANCES:
        table = shares(held[held["distance"] == metric], ["optimizer", "form"], [_ALL_FOUR]).loc[_COMBINATIONS]
        values = "; ".join(
            f"{optimizer}, {form} {share:.1f} %"
            for (optimizer, form), share in zip(_COMBINATIONS, table[_ALL_FOUR], strict=True)
        )
        parts.append(f"The whole order holds in {_TITLES[metric]} with {values}.")
    both = held[
        (held["distance"] == DISTANCES[0]) & (held["optimizer"] == "sgd") & (held["form"] == "sum")
        & held["start"].str.startswith("both")
    ]  # fmt: skip
    current = both[both["negatives"] == "current"]
    return (
        f"{' '.join(parts)} With plain gradient descent, the form sum and a start on both ways, {_WITHOUT_DPO} holds "
        f"in {100 * both[_WITHOUT_DPO].mean():.0f} % of {len(both)} protocols in parameter MSE, dpo < ift in "
        f"{100 * both['dpo < ift'].mean():.0f} %, and the whole order in {100 * both[_ALL_FOUR].mean():.0f} %; where "
        f"negatives are sampled from the current policy, the whole order holds in "
        f"{100 * current[_ALL_FOUR].mean():.0f} % of {len(current)} "
        f"(from {len(current) // (len(CROSSED['beta']) * len(CROSSED['prediction']))} combinations)."
    )
