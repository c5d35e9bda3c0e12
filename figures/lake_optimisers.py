"""Language models that play the lake, by optimiser: distance to the optimum against distance travelled, and ranks."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import write_json
from experiments.lake_optimisers import CANDIDATE_RATES, LEARNING_RATES, PAPERS_METHODS, TRIALS
from experiments.lake_optimisers import run as run_trainings
from experiments.lake_optimisers_findings import (
    BASES,
    Account,
    Difference,
    Standing,
    accounts,
    differences,
    mean_interval,
    readings,
    standings,
)
from figures.style import PAGE, made_by, paper, save
from toy.picture import colour_of

OPTIMISERS = {"sgd": "plain gradient descent", "adamw_torch": "Adam"}
_TITLES = {
    "travelled": "distance travelled",
    "policy_mse": "policy MSE",
    "value_gap": "gap to the optimal value",
    "success": "success",
    "agreement": "agreement",
    "held_out_loss": "held-out loss",
}
_DRAWN = ("policy_mse", "value_gap")
_IN_CAPTION = {  # scale and digits
    "travelled": (1, 2),
    "policy_mse": (1000, 1),
    "value_gap": (100, 1),
    "success": (100, 1),
    "held_out_loss": (1, 3),
}
_MARKERS = dict(zip(TRIALS, "D^sod", strict=True))

_CAPTION = """The lake in words asks what is asked on the lake: is the order of the methods the length of their steps?
Language models of 0.8M parameters start from the same base models ({count}, seeds {first} to {last}, on which nothing
was chosen) and take {updates} updates of 32 examples, with one constant learning rate for all methods ({rates}) and
without clipping: the length at which gradients are clipped (max_grad_norm) is 10⁹, which none has. The learning rates
are the largest of some at which every method ended nearer to the optimal value than it began, on development maps and
with another base model ({candidates}). The methods have the numbers of the lake's protocol `paper`: IFT is the
paper's equation (sum) with λ 0.2 and γ 0.95, ORPO has β 0.1, DPO β 1, and once more β 0.1 (dotted). Wide panels:
distance to the optimum on maps that the models have not seen, against the length of the change of all weights,
measured after {points} updates; means over seeds, each as a share of its base model's. The ring is the last update,
with the 95 % interval over seeds. The dashed line is the distance of the method that goes least far: there the
methods are compared at equal distance, seed by seed, linearly between measured updates. Narrow panels: the mean rank
of the four methods over seeds, at equal learning rate and at equal distance travelled. There are no optimal
parameters of a language model: the distance between parameters, which is the paper's, has no counterpart here.
{answer} {details} Length of the first update's gradient: {gradients}. After the last update, means over seeds with 95 %
intervals (policy MSE ×10⁻³, gap to the optimal value and success in %): {ends}. {made_by}"""


@dataclass(frozen=True)
class Findings:
    """What came out: `gradients` is the mean length of the first update's gradient, by trial."""

    seeds: tuple[int, ...]
    learning_rates: dict[str, float]
    updates: tuple[int, ...]
    gradients: dict[str, float]
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    accounts: tuple[Account, ...]

    def account(self, optimiser: str, metric: str) -> Account:
        """The one of an optimiser and a metric."""
        return next(each for each in self.accounts if (each.optimiser, each.metric) == (optimiser, metric))

    def standing(self, optimiser: str, basis: str, metric: str) -> list[Standing]:
        """Where the trials are, best mean first."""
        key = (optimiser, basis, metric)
        return [each for each in self.standings if (each.optimiser, each.basis, each.metric) == key]


def lake_optimisers(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw into `out`, from `out/lake-optimisers-runs` if it holds the results; returns the files written."""
    rows = run_trainings(out / "lake-optimisers-runs", quick, jobs)
    result = findings(rows)
    file = out / "lake-optimisers.json"
    write_json(file, as_data(result, quick))
    return [file, *save(_draw(rows, result), out, "lake-optimisers", _caption(result, quick), quick)]


def findings(rows: pd.DataFrame) -> Findings:
    """Everything that the page, the picture and the answer take from the curves."""
    read = readings(rows)
    gradients = rows[rows["optimiser"] == "sgd"].groupby("trial", sort=False)["gradient"].mean()
    return Findings(
        seeds=tuple(sorted(map(int, rows["seed"].unique()))),
        learning_rates=LEARNING_RATES,
        updates=tuple(sorted(map(int, rows["update"].unique()))),
        gradients={trial: float(gradients[trial]) for trial in TRIALS},
        standings=tuple(standings(read)),
        differences=tuple(differences(read)),
        accounts=tuple(accounts(read)),
    )


def as_data(result: Findings, quick: bool) -> dict[str, Any]:
    """What the file holds: the answer in words, and all numbers."""
    command = made_by("lake-optimisers", quick).split("`")[1]
    return {
        "command": command,
        "answer": answer(result),
        "verdict": verdict(result),
        "trials": TRIALS,
        **asdict(result),
    }


def verdict(result: Findings) -> dict[str, str]:
    """By each metric drawn, whether the length of the step accounts for the order under plain gradient descent.

    Yes: whoever goes farther at equal learning rate is better, or worse (rank correlation of 0.8 or more either way),
    and at equal distance surely less than half of the differences is left. No: the correlation is surely within ±0.8,
    or surely more than half is left.
    """
    words = {}
    for metric in _DRAWN:
        account = result.account("sgd", metric)
        if abs(account.by_length) >= 0.8 and account.spread_high < 0.5:
            words[metric] = "yes"
        else:
            sure = max(-account.by_length_low, account.by_length_high) < 0.8 or account.spread_low > 0.5
            words[metric] = "no" if sure else "cannot be told"
    return words


def answer(result: Findings) -> str:
    """The answer in a sentence, and one more per optimiser, from the numbers."""
    parts = "; ".join(f"by {_TITLES[metric]}, {word}" for metric, word in verdict(result).items())
    sentences = [
        "Is the order of the methods the length of their steps on a language model, as it is on the lake? "
        f"{parts[0].upper()}{parts[1:]}."
    ]
    for optimiser, name in OPTIMISERS.items():
        lengths = _lengths(result, optimiser)
        farthest, nearest = max(lengths, key=lambda trial: lengths[trial]), min(lengths, key=lambda t: lengths[t])
        left = [
            f"{account.spread_left:.0%} of what they were by {_TITLES[account.metric]} "
            f"[{account.spread_low:.0%}, {account.spread_high:.0%}]"
            for account in (result.account(optimiser, metric) for metric in _DRAWN)
        ]
        sentences.append(
            f"At one learning rate with {name}, {farthest.upper()} travels {lengths[farthest] / lengths[nearest]:.2f} "
            f"times as far as {nearest.upper()}; where all have travelled equally far, the differences between the "
            f"methods are {_listed(left)}."
        )
    return " ".join(sentences)


def _details(result: Findings) -> str:
    """Every optimiser's distances, orders and sure differences, in words."""
    sentences = []
    for optimiser, name in OPTIMISERS.items():
        lengths = _lengths(result, optimiser)
        ordered = sorted(lengths, key=lambda trial: -lengths[trial])
        distances = _listed([f"{lengths[trial]:.2f} ({trial.upper()})" for trial in ordered])
        sentences.append(f"At one learning rate, {name} takes the methods {distances} away from the base models.")
        sentences += [_in_words(result, optimiser, metric) for metric in _DRAWN]
    return " ".join(sentences)


def _lengths(result: Findings, optimiser: str) -> dict[str, float]:
    """How far each of the four methods travels at equal learning rate."""
    rows = result.standing(optimiser, BASES[0], "travelled")
    return {each.trial: each.mean for each in rows if each.trial in PAPERS_METHODS}


def _in_words(result: Findings, optimiser: str, metric: str) -> str:
    """What an optimiser does to the order that a metric gives."""
    account = result.account(optimiser, metric)
    best, equal = (
        ", ".join(each.trial.upper() for each in sorted(rows, key=lambda each: each.rank or 0) if each.rank is not None)
        for rows in (result.standing(optimiser, basis, metric) for basis in BASES)
    )
    low, high = account.by_length_low, account.by_length_high
    return (
        f"By {_TITLES[metric]} they rank {best} (mean rank; rank correlation with the distance travelled "
        f"{account.by_length:+.2f} [{low:+.2f}, {high:+.2f}]). {_pairs(account)} Where all have travelled equally far, "
        f"they rank {equal}, and {account.at_equal_distance} of 6 pairs differ surely."
    )


def _pairs(account: Account) -> str:
    """What becomes of the pairs of methods whose order is sure at equal learning rate."""
    sure = account.kept + account.lost + account.turned
    if not sure:
        return "No pair of the four differs surely."
    return (
        f"{sure} of 6 pairs {'differs' if sure == 1 else 'differ'} surely; at equal distance travelled {account.kept} "
        f"of them surely {'keeps' if account.kept == 1 else 'keep'} the order, {account.turned} surely "
        f"{'turns' if account.turned == 1 else 'turn'} it round."
    )


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


@paper
def _draw(rows: pd.DataFrame, result: Findings) -> Figure:
    figure = Figure(figsize=(PAGE, 4.4), layout="constrained")
    grid = figure.subplots(len(_DRAWN), 4, width_ratios=(1.5, 1, 1.5, 1), squeeze=False)
    for line, metric in zip(grid, _DRAWN, strict=True):
        for place, (optimiser, name) in enumerate(OPTIMISERS.items()):
            paths, ranks = line[2 * place], line[2 * place + 1]
            _draw_paths(paths, rows[rows["optimiser"] == optimiser], metric)
            _draw_ranks(ranks, result, optimiser, metric)
            if metric == _DRAWN[0]:
                paths.set_title(name)
                ranks.set_title("ranks")
            if metric == _DRAWN[-1]:
                paths.set_xlabel("distance travelled from the base model")
        line[0].set_ylabel(f"{_TITLES[metric]},\n% of the base model's")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_paths(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    """A line per trial through the measured updates, means over seeds, with the interval of the last one."""
    starts = rows[rows["update"] == 0].groupby("seed")[metric].first()
    shares = rows.assign(share=100 * rows[metric] / rows["seed"].map(starts))
    for trial, marker in _MARKERS.items():
        curves = shares[shares["trial"] == trial]
        style: dict[str, Any] = {"color": colour_of(trial), "linestyle": ":" if ":" in trial else "-"}
        means = curves.groupby("update")[["travelled", "share"]].mean()
        axes.plot(means["travelled"], means["share"], marker=marker, ms=3, label=_title(trial), **style)
        end = float(means["travelled"].iloc[-1])
        mean, low, high = mean_interval(curves.loc[curves["update"] == means.index[-1], "share"])
        axes.plot([end, end], [low, high], linewidth=0.8, color=style["color"])
        axes.plot(end, mean, marker=marker, ms=7, mfc="none", mew=0.8, color=style["color"])
    ends = rows[(rows["update"] == rows["update"].max()) & rows["trial"].isin(PAPERS_METHODS)]
    least = ends.groupby("seed")["travelled"].min().mean()
    axes.axvline(least, color="#9a9a9a", linestyle="--", linewidth=0.8, zorder=0)
    axes.axhline(100, color="#9a9a9a", linewidth=0.6, zorder=0)


def _draw_ranks(axes: Axes, result: Findings, optimiser: str, metric: str) -> None:
    """Mean rank of the four methods on both bases, joined by a line."""
    for trial in PAPERS_METHODS:
        ranks = [
            each.rank
            for basis in BASES
            for each in result.standing(optimiser, basis, metric)
            if each.trial == trial and each.rank is not None
        ]
        axes.plot(range(len(BASES)), ranks, marker=_MARKERS[trial], ms=4, color=colour_of(trial))
    axes.set_xticks(range(len(BASES)), ["equal\nlearning rate", "equal\ndistance"], fontsize=6)
    axes.set_xlim(-0.4, len(BASES) - 0.6)
    axes.set_ylim(len(PAPERS_METHODS) + 0.3, 0.7)
    axes.set_yticks(range(1, len(PAPERS_METHODS) + 1), ["1, best", "2", "3", "4"])


def _title(trial: str) -> str:
    return trial.replace(":beta=", ", β = ")


def _caption(result: Findings, quick: bool) -> str:
    return _CAPTION.format(
        count=len(result.seeds),
        first=result.seeds[0],
        last=result.seeds[-1],
        updates=result.updates[-1],
        rates=", ".join(f"{rate:g} with {OPTIMISERS[name]}" for name, rate in result.learning_rates.items()),
        candidates="; ".join(
            f"{OPTIMISERS[name]}: {', '.join(f'{rate:g}' for rate in rates)}" for name, rates in CANDIDATE_RATES.items()
        ),
        points=_listed([str(update) for update in result.updates[1:]]),
        answer=answer(result),
        details=_details(result),
        gradients=", ".join(f"{_title(trial)} {length:.2f}" for trial, length in result.gradients.items()),
        ends="; ".join(_ends(result, optimiser, metric) for optimiser in OPTIMISERS for metric in _IN_CAPTION),
        made_by=made_by("lake-optimisers", quick),
    )


def _ends(result: Findings, optimiser: str, metric: str) -> str:
    """Where every trial ends by a metric, in words."""
    scale, digits = _IN_CAPTION[metric]
    numbers = [
        f"{_title(each.trial)} {scale * each.mean:.{digits}f} "
        f"[{scale * each.low:.{digits}f}, {scale * each.high:.{digits}f}]"
        for each in result.standing(optimiser, BASES[0], metric)
    ]
    return f"{OPTIMISERS[optimiser]}, {_TITLES[metric]}: {', '.join(numbers)}"
