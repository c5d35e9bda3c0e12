"""How much of the paper's order is the length of the step: distance to the optimum against distance travelled."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.claims import DISTANCES, PAPERS_ORDER
from experiments.step_length import EQUAL_STEP, FIRST_SEED, LAKES, STEP_SIZES, StepLength, rankings
from experiments.step_length import step_length as run_step_length
from figures.style import PAGE, made_by, paper, save
from toy import protocol
from toy.metrics import mean_interval
from toy.picture import colour_of

_TITLES = {"parameter_mse": "parameter MSE", "policy_mse": "policy MSE"}
_OPTIMISERS = {"sgd": "plain gradient descent", "adam": "Adam"}
_BASES = ("equal steps", "equal distance travelled", "equal loss on the target")
_POLICIES = {"at the start": ("start", "o"), "where SFT ends": ("after sft", "x")}  # of the measured gradients
_MARKERS = dict(zip(PAPERS_ORDER, "D^so", strict=True))


def step_length(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/step-length-runs` if it holds the results; returns the files written."""
    result = run_step_length(out / "step-length-runs", quick, jobs)
    leads = leads_over_sft(result)
    return save(_draw(result, leads), out, "step-length", _caption(result, leads, quick), quick)


def leads_over_sft(result: StepLength) -> pd.DataFrame:
    """How much closer than SFT each method is, as a share of the start's distance, with its 95 % interval over seeds.

    A row per `optimizer`, `basis`, `metric` and `method`: the mean over lakes of each seed, then over seeds.
    """
    starts = result.runs.groupby("lake")[[f"start_{metric}" for metric in DISTANCES]].mean()
    rows = []
    for (optimizer, basis), ranked in rankings(result).groupby(["optimizer", "basis"], sort=False):
        for metric in DISTANCES:
            shares = ranked.assign(share=ranked[metric] / ranked["lake"].map(starts[f"start_{metric}"]))
            by_seed = shares.groupby(["method", "seed"])["share"].mean().unstack("method")
            for method in PAPERS_ORDER[:-1]:
                mean, low, high = mean_interval((by_seed["sft"] - by_seed[method]).to_numpy())
                rows.append((optimizer, basis, metric, method, mean, low, high))
    return pd.DataFrame(rows, columns=["optimizer", "basis", "metric", "method", "mean", "low", "high"])


@paper
def _draw(result: StepLength, leads: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(PAGE, 5.2), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    panels = above.subplots(1, 4)
    places = [(metric, optimizer) for metric in DISTANCES for optimizer in _OPTIMISERS]
    for axes, (metric, optimizer) in zip(panels, places, strict=True):
        _draw_paths(axes, result.runs[result.runs["optimizer"] == optimizer], metric)
        axes.set_title(f"{_TITLES[metric]},\n{_OPTIMISERS[optimizer]}", fontsize=7.5)
    panels[0].set_ylabel("distance to the optimum,\n% of the start's")
    panels[0].plot([], [], "o", color="black", ms=7, mfc="none", mew=0.8, label="shared step size")
    panels[0].plot([], [], ":", color="#9a9a9a", linewidth=0.8, label="start")
    panels[0].legend(frameon=False, fontsize=6)
    above.supxlabel("distance travelled from the start (length of the parameters' change, logarithmic)", fontsize=7)
    ranks = below.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for axes, optimizer in zip(ranks[:2], _OPTIMISERS, strict=True):
        chosen = leads[(leads["optimizer"] == optimizer) & (leads["metric"] == "parameter_mse")]
        _draw_ranking(axes, chosen, legend=optimizer == "sgd")
        axes.set_title(f"parameter MSE, {_OPTIMISERS[optimizer]}", fontsize=7.5)
    ranks[1].set_yticks([])
    _draw_gradients(ranks[2], result.gradients)
    return figure


def _draw_paths(axes: Axes, runs: pd.DataFrame, metric: str) -> None:
    """A line per method: a point per step size, means over lakes and seeds."""
    for method in PAPERS_ORDER[::-1]:
        of_method = runs[runs["method"] == method]
        share = 100 * of_method[metric] / of_method[f"start_{metric}"]
        points = of_method.assign(share=share).groupby("lr")[["travelled", "share"]].mean()
        colour, marker = colour_of(method), _MARKERS[method]
        axes.plot(points["travelled"], points["share"], color=colour, marker=marker, ms=3, label=method)
        equal = points.loc[[lr for lr in points.index if lr in EQUAL_STEP.values()]]
        axes.plot(equal["travelled"], equal["share"], marker, color=colour, ms=7, mfc="none", mew=0.8)
    axes.axhline(100, color="#9a9a9a", linestyle=":", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_ranking(axes: Axes, leads: pd.DataFrame, legend: bool) -> None:
    """The lead over SFT of each method at equal steps, equal distance travelled and equal loss."""
    for row, basis in enumerate(_BASES[::-1]):
        for shift, method in zip((0.22, 0.0, -0.22), PAPERS_ORDER[:-1], strict=True):
            lead = leads[(leads["basis"] == basis) & (leads["method"] == method)].iloc[0]
            colour = colour_of(method)
            axes.plot([100 * lead["low"], 100 * lead["high"]], [row + shift] * 2, color=colour, linewidth=1.2)
            label = method if row == 0 else None
            axes.plot(
                100 * lead["mean"], row + shift, _MARKERS[method], color=colour, ms=4, label=label, linestyle="none"
            )
    axes.axvline(0, color=colour_of("sft"), linewidth=1)
    axes.set_yticks(range(len(_BASES)), [basis.replace(" on", "\non").replace(" travelled", "\ntravelled")
                                         for basis in _BASES[::-1]])  # fmt: skip
    axes.set_ylim(-0.6, len(_BASES) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "SFT"))
    axes.set_xlabel("closer than SFT, % of the start's")
    if legend:
        axes.legend(frameon=False, loc="lower right")


def _draw_gradients(axes: Axes, gradients: pd.DataFrame) -> None:
    """Length of the gradient beside SFT's, at the start and where SFT ends, and as predicted, of each lake."""
    ratios = gradient_ratios(gradients)
    shifts = dict(zip(LAKES, (0.2, 0.0, -0.2), strict=True))
    for row, method in enumerate(PAPERS_ORDER[-2::-1]):
        of_method = ratios[ratios["method"] == method]
        for at, marker in _POLICIES.values():
            rows = of_method[of_method["at"] == at]
            axes.plot(rows["measured"], row + rows["lake"].map(shifts), marker, color=colour_of(method), ms=4)
        axes.plot(of_method["predicted"], row + of_method["lake"].map(shifts), "|", color="black", ms=8)
    for label, (_, marker) in {**_POLICIES, "predicted": ("", "|")}.items():
        axes.plot([], [], marker, color="black", ms=4, linestyle="none", label=label)
    axes.legend(frameon=False, fontsize=6, loc="lower right")
    axes.axvline(1, color=colour_of("sft"), linewidth=1)
    axes.set_yticks(range(len(PAPERS_ORDER) - 1), list(PAPERS_ORDER[-2::-1]))
    axes.set_ylim(-0.6, len(PAPERS_ORDER) - 1.4)
    axes.set_xlabel("length of the gradient, times SFT's")
    axes.set_title("why: longer gradients", fontsize=7.5)


def gradient_ratios(gradients: pd.DataFrame) -> pd.DataFrame:
    """`measured` and `predicted` length beside SFT's, a row per policy (`at`), method and lake, means over seeds."""
    means = gradients.groupby(["at", "method", "lake"], sort=False)[["norm", "predicted"]].mean().reset_index()
    sft = means[means["method"] == "sft"][["at", "lake", "norm"]].rename(columns={"norm": "sft"})
    beside = means.merge(sft, on=["at", "lake"])
    return beside.assign(measured=beside["norm"] / beside["sft"])


def _caption(result: StepLength, leads: pd.DataFrame, quick: bool) -> str:
    settings = protocol("paper")
    seeds, lakes = result.runs["seed"].nunique(), list(result.runs["lake"].unique())
    numbers = []
    for optimizer, name in _OPTIMISERS.items():
        for basis in _BASES:
            chosen = leads[(leads["optimizer"] == optimizer) & (leads["basis"] == basis)]
            for metric in DISTANCES:
                rows = chosen[chosen["metric"] == metric].to_dict("records")
                listed = ", ".join(
                    f"{row['method']} {100 * row['mean']:+.2f} [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"
                    for row in rows
                )
                numbers.append(f"{_TITLES[metric]}, {name}, {basis}: {listed}")
    ratios = gradient_ratios(result.gradients).groupby(["method", "at"])[["measured", "predicted"]].mean().sort_index()
    lengths = ", ".join(
        f"{method} {ratios['measured'][method, 'start']:.2f} at the start, "
        f"{ratios['measured'][method, 'after sft']:.2f} where SFT ends "
        f"(predicted {ratios['predicted'][method, 'start']:.2f})"
        for method in PAPERS_ORDER[:-1]
    )
    steps = "; ".join(f"{name} {', '.join(f'{lr:g}' for lr in STEP_SIZES[key])}" for key, name in _OPTIMISERS.items())
    return (
        f"The `paper` protocol on {len(lakes)} of the lakes {', '.join(LAKES)}, {seeds} seeds from {FIRST_SEED}, "
        f"{settings.steps} updates at each step size ({steps}). Above: a line per method, a point per step size, means "
        f"over lakes and seeds; a ring is around the points of the step size that all share in the protocols. Below: "
        f"how much closer than SFT each method is, at equal steps, where all have travelled equally far, and where "
        f"all have come down to the same loss on the target (read from the learning curves at the shared step size); "
        f"and the length of the gradient at the start beside SFT's. Prediction: IFT's sum weighs the k-th step by 1 + "
        f"γ + … + γ^k; DPO sums over the N steps where SFT averages, with the slope β/2; ORPO adds a term of β. "
        f"Gradients, means over lakes: {lengths}. Leads over SFT in % of the start's distance, 95 % bootstrap "
        f"intervals over seeds: {'; '.join(numbers)}. {made_by('step-length', quick)}"
    )
