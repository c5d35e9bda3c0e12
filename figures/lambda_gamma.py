"""Distance to the optimum over the λ × γ plane, for each form of the propagation and each kind of prediction."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from experiments.protocols import DISTANCES, lake_key, make_lake
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FormatStrFormatter, NullLocator

from common.parts import Part, run_parts
from figures.style import PAGE, paper, save
from toy import Settings, Trial, sweep

FORMS, PREDICTIONS = ("product", "sum"), ("greedy", "sampled", "expected")
LAMS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
GAMMAS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0)
LAKES = tuple((name, slippery) for name in ("ring", "4x4", "8x8") for slippery in (False, True))
FIRST_SEED = 40_000
_TITLES = {"policy_mse": "policies", "parameter_mse": "weights"}


def lambda_gamma(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/lambda-gamma-runs` if it holds the results; returns the files written."""
    lakes, seeds = (LAKES[:2], 4) if quick else (LAKES, 32)
    lams, gammas = (LAMS[::2], GAMMAS[::3]) if quick else (LAMS, GAMMAS)
    parts: dict[str, Part] = {
        f"{lake_key(*lake)}-{form}-{prediction}": (_sweep, (lake, form, prediction, lams, gammas, seeds))
        for lake, form, prediction in product(lakes, FORMS, PREDICTIONS)
    }
    definition = {
        "lakes": lakes,
        "seeds": [FIRST_SEED, seeds],
        "lams": lams,
        "gammas": gammas,
        "forms": FORMS,
        "predictions": PREDICTIONS,
        "defaults": Settings().as_dict(),
    }
    runs = run_parts(out / "lambda-gamma-runs", definition, parts, jobs)
    planes = relative_planes(runs)
    return save(_draw(planes), out, "lambda-gamma", _caption(planes, lakes, seeds))


def _sweep(
    lake: tuple[str, bool], form: Any, prediction: Any, lams: tuple[float], gammas: tuple[float], seeds: int
) -> pd.DataFrame:
    trials = {
        f"{lam} {gamma}": Trial(
            "ift",
            Settings(
                seed=FIRST_SEED, seeds=seeds, dtype="float32", lam=lam, gamma=gamma, propagation=form,
                prediction=prediction,
            ),
        )
        for lam, gamma in product(lams, gammas)
    }  # fmt: skip
    runs = sweep(make_lake(*lake), trials)
    points = runs["trial"].str.split(" ", expand=True).astype(float)
    columns = ["seed", *DISTANCES, "stopped_at_step"]
    return runs[columns].assign(lake=lake_key(*lake), form=form, prediction=prediction, lam=points[0], gamma=points[1])


def relative_planes(runs: pd.DataFrame) -> dict[tuple[str, str, str], pd.DataFrame]:
    """`[λ, γ]` by (prediction, form, distance): MSE in percent of SFT's (λ = 0, γ = 0), mean over lakes."""
    planes = {}
    for prediction, form, metric in product(PREDICTIONS, FORMS, DISTANCES):
        chosen = runs[(runs["form"] == form) & (runs["prediction"] == prediction)]
        means = chosen.groupby(["lake", "lam", "gamma"])[metric].mean()
        sft = means.xs((0.0, 0.0), level=("lam", "gamma"))
        planes[prediction, form, metric] = (100 * means / sft).groupby(["lam", "gamma"]).mean().unstack("gamma")
    return planes


@paper
def _draw(planes: dict[tuple[str, str, str], pd.DataFrame]) -> Figure:
    figure = Figure(figsize=(PAGE, 5.4), layout="constrained")
    grid = figure.subplots(len(PREDICTIONS), 2 * len(FORMS), sharex=True, sharey=True)
    for i, metric in enumerate(DISTANCES):
        mine = {(prediction, form): plane for (prediction, form, kind), plane in planes.items() if kind == metric}
        every = np.concatenate([plane.to_numpy().ravel() for plane in mine.values()])
        lowest, highest = float(every.min()), float(np.quantile(every, 0.9))
        norm = LogNorm(lowest, highest)
        columns = grid[:, len(FORMS) * i : len(FORMS) * (i + 1)]
        for (row, prediction), (column, form) in product(enumerate(PREDICTIONS), enumerate(FORMS)):
            axes = columns[row, column]
            image = _draw_plane(axes, mine[prediction, form], norm)
            axes.set_title(f"{_TITLES[metric]}, {form}" if row == 0 else "")
            axes.set_xlabel("γ" if row == len(PREDICTIONS) - 1 else "")
            axes.set_ylabel(f"{prediction}\nλ" if column == i == 0 else "")
        bar = figure.colorbar(image, ax=columns, location="bottom", shrink=0.8, aspect=30, extend="max")
        ticks = (100, 150, 200, 300, 500) if highest > 2 * lowest else (100, 110, 120, 130, 140, 160, 180)
        bar.set_ticks([tick for tick in ticks if lowest <= tick <= highest])
        bar.ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        bar.ax.xaxis.set_minor_locator(NullLocator())
        bar.set_label(f"MSE of {_TITLES[metric]}, % of SFT's on the same lake")
    figure.supxlabel("star: closest · circle: the released λ 0.2, γ 0.95 · line: as close as SFT", fontsize=7)
    return figure


def _draw_plane(axes: Axes, plane: pd.DataFrame, norm: LogNorm) -> AxesImage:
    values = plane.to_numpy()
    image = axes.imshow(values, cmap="cividis_r", norm=norm, aspect="auto", origin="lower")
    if values.min() < 100 < values.max():
        axes.contour(values, levels=[100.0], colors="black", linewidths=0.8)
    row, column = np.unravel_index(values.argmin(), values.shape)
    axes.plot(column, row, "*", color="white", markeredgecolor="black", markeredgewidth=0.5, markersize=8)
    lams, gammas = plane.index.to_numpy(), plane.columns.to_numpy()
    for released in zip(np.flatnonzero(gammas == 0.95), np.flatnonzero(lams == 0.2), strict=False):
        axes.plot(*released, "o", markerfacecolor="none", markeredgecolor="black", markersize=6)
    axes.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas], rotation=90)
    axes.set_yticks(range(len(lams)), [f"{lam:g}" for lam in lams])
    return image


def _caption(planes: dict[tuple[str, str, str], pd.DataFrame], lakes: tuple[tuple[str, bool], ...], seeds: int) -> str:
    best = []
    for (prediction, form, metric), plane in planes.items():
        row, column = np.unravel_index(plane.to_numpy().argmin(), plane.shape)
        point = f"λ {plane.index[int(row)]:g}, γ {plane.columns[int(column)]:g} ({plane.to_numpy().min():.0f} %)"
        best.append(f"{_TITLES[metric]}, {form}, {prediction}: {point}")
    return (
        f"IFT with {Settings().steps} updates of {Settings().optimizer} at {Settings().lr} from {seeds} start policies "
        f"(seeds from {FIRST_SEED}) on {', '.join(lake_key(*lake) for lake in lakes)}. MSE to the optimum as percent "
        f"of SFT's (λ = 0, γ = 0) on the same lake, mean over lakes; γ = 0 is no propagation, and λ = 0 no "
        f"residual. Closest points: {'; '.join(best)}. Made by `python -m figures lambda-gamma`."
    )
