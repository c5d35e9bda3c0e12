"""The methods on language models that play the lake: distances to the optimum, play, and the paper's claims again."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import write_json
from experiments.claims import CLAIMS, Cell, Claim, Finding, Sample, Tables, judge, resample
from figures.style import PAGE, made_by, paper, save


@dataclass(frozen=True)
class _Metric:
    column: str  # of the scores
    maps: str  # the set of maps it is measured on
    title: str  # in verdicts


METRICS = {
    "policy_mse": _Metric("state_policy_mse", "test maps", "distance of the policy"),
    "value_gap": _Metric("state_value_gap", "test maps", "gap to the optimal value"),
    "recovered": _Metric("success", "wrong first move", "goals after a wrong first move"),
}
# What a language model can be asked of the paper's claims; its λ was chosen, and need not be 0.2.
_ASKED = ("order", "dpo closer than ift", "dpo closer than orpo", "dpo closer than sft", "ift closer than orpo",
          "ift closer than sft", "orpo closer than sft", "residual", "propagation", "released form")  # fmt: skip
_SENTENCES = {"residual": "The temporal residual helps: λ as chosen is better than λ = 0"}
_RECOVERS = (
    Claim("recovers", "IFT recovers from a wrong first move more often than SFT", (("ift", "sft"),), ("recovered",)),
    Claim(
        "residual recovers",
        "The temporal residual helps it recover: λ as chosen recovers more often than λ = 0",
        (("ift", "ift:lam=0"),),
        ("recovered",),
    ),
)
LANGUAGE_CLAIMS = (
    *(
        replace(claim, sentence=_SENTENCES.get(claim.name, claim.sentence), metrics=("policy_mse", "value_gap"))
        for claim in CLAIMS
        if claim.name in _ASKED
    ),
    *_RECOVERS,
)
_INTERVAL = (0.025, 0.975)
_COLOURS = {"tuned (policies)": "#332288", "tuned (value)": "#117733"}
_MARKERS = dict(zip(_COLOURS, "os", strict=True))
_SHOWN_ELSEWHERE = {"base": "#000000", "sft": "#0072b2", "ift": "#d55e00", "dpo": "#009e73", "orpo": "#cc79a7"}

_CAPTION = """Language models of 0.8M parameters that play the lake, trained by each method from the same base models
({count}, seeds {first} to {last}), as many updates each. They learn from optimal walks beside what the
base model itself said, on maps on which it failed at least once in up to 8 samples. Left and middle:
means with 95 % intervals over maps and seeds (those of paired differences are narrower), by what the
settings were chosen for on development maps. The policy is made of the model's probabilities for the
four moves, renormalised, read in each cell after one shortest walk. Below the methods: IFT with one
thing changed, not tuned anew. Right: settings chosen for value, on maps that are bigger, have more
holes, have placements of start and goal that no training map has (on 4×4 only 3 of 33, up to symmetry),
or where the first move was made for the model, wrongly. Maps: {maps}. {settings}. {edge} {made_by}"""


@dataclass(frozen=True)
class Standing:
    """Mean of a metric over maps and seeds with its 95 % interval; a distance is a share of the base models' mean."""

    protocol: str
    trial: str
    metric: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Findings:
    """Where each trial ends, what it was trained with (by protocol and trial), and every claim with its cells.

    `maps` counts the maps of each set; `learning_rates` are the ends of the range to choose from.
    """

    seeds: tuple[int, ...]
    learning_rates: tuple[float, float]
    maps: dict[str, int]
    settings: dict[str, dict[str, str]]
    standing: tuple[Standing, ...]
    findings: tuple[Finding, ...]


def lake_language(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/lake-language-runs` if it holds the results; returns the files written."""
    from experiments.lake_language import compare  # only here: the other figures need no language-model libraries

    scores = compare(out / "lake-language-runs", quick, jobs)
    result = findings(scores)
    file = out / "lake-language.json"
    write_json(file, as_data(result, quick))
    return [file, *save(_draw(scores, result), out, "lake-language", _caption(result, quick), quick)]


def as_data(result: Findings, quick: bool) -> dict[str, Any]:
    """What the file holds: the findings, and `claims` in words, for pages."""
    claims = [{"claim": each.claim.sentence, "verdict": verdict(each)} for each in result.findings]
    return {"command": made_by("lake-language", quick).split("`")[1], **asdict(result), "claims": claims}


def verdict(finding: Finding) -> str:
    """In which protocols a claim holds, metric by metric."""
    return ". ".join(f"By {METRICS[metric].title} it {finding.verdict(metric)}" for metric in finding.claim.metrics)


def findings(scores: pd.DataFrame) -> Findings:
    """What the scores of `experiments.lake_language.compare` say."""
    from experiments.lake_language import LEARNING_RATES

    by_protocol = {str(name): _tables(rows) for name, rows in scores.groupby("protocol", sort=False)}
    settings = scores[["protocol", "trial", "settings"]].drop_duplicates()
    return Findings(
        seeds=tuple(sorted(map(int, scores["seed"].unique()))),
        learning_rates=LEARNING_RATES,
        maps={str(name): int(rows["map"].nunique()) for name, rows in scores.groupby("set", sort=False)},
        settings={
            str(name): dict(zip(rows["trial"], rows["settings"], strict=True))
            for name, rows in settings.groupby("protocol", sort=False)
        },
        standing=tuple(_standing(scores, by_protocol)),
        findings=tuple(
            Finding(
                claim,
                tuple(
                    Cell(protocol, metric, "all", *judge(tables, claim.comparisons, metric, samples[metric]))
                    for protocol, (tables, samples) in by_protocol.items()
                    for metric in claim.metrics
                ),
            )
            for claim in LANGUAGE_CLAIMS
        ),
    )


def _tables(scores: pd.DataFrame) -> tuple[Tables, dict[str, Sample]]:
    """`[maps, seeds]` of every trial and metric, distances as shares of the base models' mean, and each metric's draws.

    Maps take the place of the lakes that claims are judged on.
    """
    tables: Tables = {}
    samples = {}
    for name, metric in METRICS.items():
        rows = scores[scores["set"] == metric.maps].astype({metric.column: float})
        scale = 1.0 if name == "recovered" else rows.loc[rows["trial"] == "base", metric.column].mean()
        for trial, of_trial in rows.groupby("trial"):
            tables[str(trial), name] = of_trial.pivot(index="map", columns="seed", values=metric.column) / scale
        tables["ift:form=product", name] = tables["ift", name]  # every setting to choose from has it
        samples[name] = resample(sorted(rows["map"].unique()), rows["seed"].nunique())
    return tables, samples


def _standing(scores: pd.DataFrame, by_protocol: Mapping[str, tuple[Tables, dict[str, Sample]]]) -> Iterable[Standing]:
    for protocol, (tables, samples) in by_protocol.items():
        trials = scores.loc[scores["protocol"] == protocol, "trial"].unique()
        for metric in METRICS:
            for trial in map(str, trials):
                yield Standing(protocol, trial, metric, *_mean_and_interval(tables[trial, metric], samples[metric]))


def _mean_and_interval(table: pd.DataFrame, sample: Sample) -> tuple[float, float, float]:
    """Mean of `[maps, seeds]` and the ends of its 95 % interval."""
    low, high = np.quantile(sample.means(table.to_numpy()[None])[:, 0], _INTERVAL)
    return float(table.to_numpy().mean()), float(low), float(high)


@paper
def _draw(scores: pd.DataFrame, result: Findings) -> Figure:
    trials = list(dict.fromkeys(row.trial for row in result.standing))
    figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
    policies, value, elsewhere = figure.subplots(1, 3, width_ratios=(1, 0.8, 1.1))
    for axes, metric in ((policies, "policy_mse"), (value, "value_gap")):
        _dots(axes, [row for row in result.standing if row.metric == metric], trials)
    policies.set_yticks(range(len(trials)), [_title(trial) for trial in trials])
    value.set_yticks(range(len(trials)), [])
    policies.set_xlabel("% of the base models'")
    value.set_xlabel("% of the base models'")
    policies.set_title("MSE to the optimal policy")
    value.set_title("gap to the optimal value")
    _draw_elsewhere(elsewhere, scores)
    handles, labels = policies.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False)
    return figure


def _title(trial: str) -> str:
    return trial.replace(":", " ").replace("lam=", "λ=").replace("gamma=", "γ=")


def _dots(axes: Axes, standing: list[Standing], trials: list[str]) -> None:
    for i, (protocol, colour) in enumerate(_COLOURS.items()):
        for row in (row for row in standing if row.protocol == protocol):
            place = trials.index(row.trial) + 0.24 * (i - 0.5)
            axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, linewidth=1)
            label = protocol if row.trial == "base" else None
            axes.plot(100 * row.mean, place, _MARKERS[protocol], color=colour, markersize=3.6, label=label)
            if row.trial == "base":
                axes.axvline(100 * row.mean, color="#999999", linewidth=0.6, zorder=0)
    axes.set_ylim(len(trials) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _draw_elsewhere(axes: Axes, scores: pd.DataFrame) -> None:
    rows = scores[scores["protocol"] == "tuned (value)"].astype({"success": float})
    sets = list(rows["set"].unique())
    for i, (trial, colour) in enumerate(_SHOWN_ELSEWHERE.items()):
        for place, name in enumerate(sets):
            of_set = rows[(rows["trial"] == trial) & (rows["set"] == name)]
            table = 100 * of_set.pivot(index="map", columns="seed", values="success")
            mean, low, high = _mean_and_interval(table, resample(table.index, table.shape[1]))
            where = place + 0.15 * (i - 2)
            axes.plot([where, where], [low, high], color=colour, linewidth=0.8)
            axes.plot(where, mean, "*osDv"[i], color=colour, markersize=3.6, label=trial if place == 0 else None)
    axes.set_xticks(range(len(sets)), [name.replace(" ", "\n", 1) for name in sets], fontsize=6)
    axes.set_ylim(0, 105)  # room for the legend
    axes.set_ylabel("goal reached (greedy), % of maps")
    axes.set_title("test maps, and maps of other kinds")
    axes.legend(frameon=False, ncols=3, loc="upper right", columnspacing=1, handletextpad=0.2)


def _edge(result: Findings) -> str:
    """Says in which protocols every method took the smallest step of the range: they stay with the base model."""
    smallest = f"learning_rate={result.learning_rates[0]:.3g}"
    stay = [
        protocol
        for protocol, by_trial in result.settings.items()
        if all(smallest in text for trial, text in by_trial.items() if trial != "base")
    ]
    return " ".join(f"In {name} every method took the smallest step of the range." for name in stay)


def _caption(result: Findings, quick: bool) -> str:
    maps = ", ".join(f"{name} {count}" for name, count in result.maps.items())
    settings = "; ".join(
        f"{protocol}: {', '.join(text for trial, text in by_trial.items() if trial != 'base' and ':' not in trial)}"
        for protocol, by_trial in result.settings.items()
    )
    return _CAPTION.format(
        count=len(result.seeds),
        first=result.seeds[0],
        last=result.seeds[-1],
        maps=maps,
        settings=settings,
        edge=_edge(result),
        made_by=made_by("lake-language", quick),
    )
