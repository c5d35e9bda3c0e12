"""Where in the space of protocols the paper's order holds: random protocols, and the share of them by each factor."""

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiments.protocols import DISTANCES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from common.parts import Part, run_parts
from experiments.claims import PAPERS_ORDER
from figures.style import PAGE, paper, save
from toy import Lake, Settings, Trial, sweep

# β scales both: DPO's is 20 times ORPO's at every level, as in the toolkit's defaults (2 and 0.1, "high").
ORPO_BETA_SHARE = 0.05
BETAS = {"low": 0.1, "middle": 0.5, "high": 2.0}
FACTORS: dict[str, tuple[Any, ...]] = {
    "lake": ("ring", "4x4", "8x8", "4x4 slippery"),
    "start": ("noisy", "both", "random"),
    "optimizer": ("adam", "rmsprop", "sgd"),
    "lr": (1e-3, 3e-3, 1e-2, 3e-2),
    "steps": (30, 100, 300),
    "beta": tuple(BETAS),
    "negatives": ("current", "start", "suboptimal"),
    "propagation": ("product", "sum"),
    "prediction": ("greedy", "expected"),
}
_TITLES = {"optimizer": "optimiser", "lr": "step size", "steps": "updates", "beta": "β", "propagation": "form",
           "prediction": "predicts"}  # fmt: skip
ORDERS = (PAPERS_ORDER, *combinations(PAPERS_ORDER, 2))
FIRST_SEED = 50_000
_PART = 10  # protocols


def phase(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/phase-runs` if it holds the results; returns the files written."""
    count, seeds = (30, 4) if quick else (400, 16)
    protocols = drawn_protocols(count)
    parts: dict[str, Part] = {
        f"{first:04}": (_sweep, (protocols[first : first + _PART], first, seeds)) for first in range(0, count, _PART)
    }
    definition = {
        "protocols": protocols,
        "seeds": [FIRST_SEED, seeds],
        "betas": BETAS,
        "orpo_beta_share": ORPO_BETA_SHARE,
        "defaults": Settings().as_dict(),
    }
    runs = run_parts(out / "phase-runs", definition, parts, jobs)
    held = orders_held(runs, protocols)
    return save(_draw(held), out, "phase", _caption(held, seeds))


def drawn_protocols(count: int) -> list[dict[str, Any]]:
    """Random levels of every factor, the same for every call."""
    generator = np.random.default_rng(2405_11870)
    return [
        {factor: levels[generator.integers(len(levels))] for factor, levels in FACTORS.items()} for _ in range(count)
    ]


def _sweep(protocols: list[dict[str, Any]], first: int, seeds: int) -> pd.DataFrame:
    frames = []
    for number, protocol in enumerate(protocols, start=first):
        settings = dict(protocol)
        name, _, slippery = settings.pop("lake").partition(" ")
        beta = BETAS[settings.pop("beta")]
        common = Settings(seed=FIRST_SEED, seeds=seeds, dtype="float32", beta=beta, **settings)
        trials = {method: Trial(method, common) for method in PAPERS_ORDER}
        trials["orpo"] = Trial("orpo", Settings(**{**common.as_dict(), "beta": beta * ORPO_BETA_SHARE}))
        runs = sweep(Lake.make(name, slippery=bool(slippery)), trials)
        frames.append(runs[["method", "seed", *DISTANCES, "stopped_at_step"]].assign(protocol=number))
    return pd.concat(frames, ignore_index=True)


def orders_held(runs: pd.DataFrame, protocols: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per protocol and distance: its levels, and for each of `ORDERS` whether the means over seeds are in it.

    A method with a run that was stopped is behind all that have none.
    """
    rows = []
    for metric in DISTANCES:
        means = runs.groupby(["protocol", "method"])[metric].agg(lambda seeds: seeds.mean(skipna=False)).unstack()
        for number, values in means.fillna(np.inf).iterrows():
            order = {" < ".join(names): _in_order([values[name] for name in names]) for names in ORDERS}
            rows.append({"protocol": number, "distance": metric, **protocols[int(str(number))], **order})
    return pd.DataFrame(rows)


def _in_order(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


@paper
def _draw(held: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE, 4.6), layout="constrained")
    rows = figure.subplots(
        len(DISTANCES), len(FACTORS), sharey=True, width_ratios=[len(levels) for levels in FACTORS.values()]
    )
    for row, metric in zip(rows, DISTANCES, strict=True):
        for axes, factor in zip(row, FACTORS, strict=True):
            image = _draw_factor(axes, held[held["distance"] == metric], factor)
            axes.set_title(_TITLES.get(factor, factor) if metric == DISTANCES[0] else "", fontsize=7)
        row[0].set_ylabel("policies" if metric == "policy_mse" else "weights", fontsize=8)
    bar = figure.colorbar(image, ax=rows, shrink=0.6, aspect=30)
    bar.set_label("protocols in which the order holds, %")
    return figure


def _draw_factor(axes: Axes, held: pd.DataFrame, factor: str) -> AxesImage:
    names = [" < ".join(order) for order in ORDERS]
    levels = FACTORS[factor]
    shares = 100 * np.array([[held[held[factor] == level][name].mean() for level in levels] for name in names])
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        if np.isfinite(share):
            axes.text(
                j, i, f"{share:.0f}", ha="center", va="center", fontsize=5, color="black" if share > 50 else "white"
            )
    axes.set_xticks(range(len(levels)), [str(level) for level in levels], rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), ["all four", *names[1:]], fontsize=6.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _caption(held: pd.DataFrame, seeds: int) -> str:
    parts = []
    for metric, table in held.groupby("distance", sort=False):
        shares = "; ".join(f"{' < '.join(order)} {100 * table[' < '.join(order)].mean():.1f} %" for order in ORDERS)
        parts.append(f"{'Policies' if metric == 'policy_mse' else 'Weights'}: {shares}.")
    return (
        f"{held['protocol'].nunique()} protocols, each level of each factor drawn at random, {seeds} seeds from "
        f"{FIRST_SEED} each, the same settings for all four methods; β is DPO's "
        f"({', '.join(map(str, BETAS.values()))}), ORPO's is {ORPO_BETA_SHARE:g} of it. Each number is the percentage "
        f"of protocols at that level in which the mean distances to the optimum are in the order of the row (all four: "
        f"{' < '.join(PAPERS_ORDER)}). {' '.join(parts)} By chance alone it would be 50 % of each pair and 4.2 % of "
        f"all four. Made by `python -m figures phase`."
    )
