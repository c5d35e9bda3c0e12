"""The methods on language models that play the lake: distances to the optimum, play, and the paper's claims again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.folders import write_whole
from experiments.claims import CLAIMS, Claim, Sample, Tables, judge, resample, verdict
from figures.style import PAGE, paper, save

FILE = "lake-language.json"
# Space of a claim: the score, and the set of maps (see lm/lake/compare.py).
SPACES = {
    "policies": ("policy_mse", "test maps"),
    "value": ("value_gap", "test maps"),
    "wrong first move": ("recovered", "wrong first move"),
}
_SCORES = {"policy_mse": "state_policy_mse", "value_gap": "state_value_gap", "recovered": "success"}
_NOT_HERE = ("lambda 0.2", "not noise", "ift visits", "dpo visits", "orpo visits")
_RECOVERS = (
    Claim("recovers", "IFT recovers from a wrong first move more often than SFT", (("ift", "sft"),), "recovered"),
    Claim(
        "residual recovers",
        "The temporal residual helps it recover: λ as set recovers more often than λ = 0",
        (("ift", "ift lam=0"),),
        "recovered",
    ),
)
LANGUAGE_CLAIMS = (*(claim for claim in CLAIMS if claim.name not in _NOT_HERE), *_RECOVERS)
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
or where the first move was made for the model, wrongly. Maps: {maps}. {settings}. {edge} Made by
`{command}`."""


def lake_language(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/lake-language-runs` if it holds the results; returns the files written."""
    from experiments.lake_language import compare  # only here: the other figures need no language-model libraries

    scores = compare(out / "lake-language-runs", quick, jobs)
    found = findings(scores) | {"command": f"python -m figures lake-language{' --quick' if quick else ''}"}
    written = [out / FILE]
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(written[0], lambda path: path.write_text(text))
    return written + save(_draw(scores, found), out, "lake-language", _caption(found))


def findings(scores: pd.DataFrame) -> dict[str, Any]:
    """Where each trial ends, what it was trained with, and every claim with a verdict; JSON-ready."""
    from experiments.lake_language import LEARNING_RATES

    protocols = [str(name) for name in scores["protocol"].unique()]
    by_protocol = {name: _tables(scores[scores["protocol"] == name]) for name in protocols}
    claims = []
    for claim in LANGUAGE_CLAIMS:
        spaces = ["wrong first move"] if claim.metric else ["policies", "value"]
        cells = [
            {"protocol": name, "space": space, "ice": "all", **judge(tables, claim, SPACES[space][0], samples[space])}
            for name, (tables, samples) in by_protocol.items()
            for space in spaces
        ]
        claims.append({"name": claim.name, "claim": claim.sentence, "cells": cells, "verdict": verdict(cells)})
    settings = scores[["protocol", "trial", "settings"]].drop_duplicates()
    return {
        "seeds": sorted(map(int, scores["seed"].unique())),
        "learning_rates": list(LEARNING_RATES),
        "maps": {str(name): int(rows["map"].nunique()) for name, rows in scores.groupby("set", sort=False)},
        "settings": {
            name: dict(zip(rows["trial"], rows["settings"], strict=True))
            for name, rows in settings.groupby("protocol", sort=False)
        },
        "standing": _standing(scores),
        "claims": claims,
    }


def _tables(scores: pd.DataFrame) -> tuple[Tables, dict[str, Sample]]:
    """`[maps, seeds]` of every trial and score, distances as shares of the base models' mean, and the draws of each."""
    tables: Tables = {}
    samples = {}
    for space, (metric, name) in SPACES.items():
        rows = scores[scores["set"] == name]
        maps = sorted(rows["map"].unique())
        scale = 1.0 if metric == "recovered" else rows.loc[rows["trial"] == "base", _SCORES[metric]].mean()
        for trial, of in rows.groupby("trial"):
            table = of.astype({_SCORES[metric]: float}).pivot(index="map", columns="seed", values=_SCORES[metric])
            tables[str(trial), metric] = table / scale
        tables["ift propagation=product", metric] = tables["ift", metric]  # every setting to choose from has it
        samples[space] = resample(maps, maps, rows["seed"].nunique())
    return tables, samples


def _standing(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean and 95 % interval over maps and seeds of every score, a row per protocol, trial and space."""
    rows = []
    for protocol, of in scores.groupby("protocol", sort=False):
        tables, samples = _tables(of)
        for space, (metric, _) in SPACES.items():
            for trial in of["trial"].unique():
                table = tables[trial, metric]
                low, high = np.quantile(samples[space].means(table.to_numpy()[None])[:, 0], _INTERVAL)
                mean = float(table.to_numpy().mean())
                rows.append(
                    {"protocol": str(protocol), "trial": str(trial), "space": space, "mean": mean, "low": float(low),
                     "high": float(high)}
                )  # fmt: skip
    return rows


@paper
def _draw(scores: pd.DataFrame, found: dict[str, Any]) -> Figure:
    trials = list(dict.fromkeys(row["trial"] for row in found["standing"]))
    figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
    policies, value, elsewhere = figure.subplots(1, 3, width_ratios=(1, 0.8, 1.1))
    for axes, space in ((policies, "policies"), (value, "value")):
        _dots(axes, found["standing"], trials, space)
    policies.set_yticks(range(len(trials)), [trial.replace("lam", "λ").replace("gamma", "γ") for trial in trials])
    value.set_yticks(range(len(trials)), [])
    policies.set_xlabel("% of the base models'")
    value.set_xlabel("% of the base models'")
    policies.set_title("MSE to the optimal policy")
    value.set_title("gap to the optimal value")
    _draw_elsewhere(elsewhere, scores)
    handles, labels = policies.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False)
    return figure


def _dots(axes: Axes, standing: list[dict[str, Any]], trials: list[str], space: str) -> None:
    for i, (protocol, colour) in enumerate(_COLOURS.items()):
        for row in (row for row in standing if (row["protocol"], row["space"]) == (protocol, space)):
            place = trials.index(row["trial"]) + 0.24 * (i - 0.5)
            axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1)
            label = protocol if row["trial"] == "base" else None
            axes.plot(100 * row["mean"], place, _MARKERS[protocol], color=colour, markersize=3.6, label=label)
            if row["trial"] == "base":
                axes.axvline(100 * row["mean"], color="#999999", linewidth=0.6, zorder=0)
    axes.set_ylim(len(trials) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _draw_elsewhere(axes: Axes, scores: pd.DataFrame) -> None:
    rows = scores[scores["protocol"] == "tuned (value)"]
    sets = list(rows["set"].unique())
    for i, (trial, colour) in enumerate(_SHOWN_ELSEWHERE.items()):
        for place, name in enumerate(sets):
            of = rows[(rows["trial"] == trial) & (rows["set"] == name)]
            table = 100 * of.astype({"success": float}).pivot(index="map", columns="seed", values="success")
            maps = list(table.index)
            low, high = np.quantile(resample(maps, maps, table.shape[1]).means(table.to_numpy()[None])[:, 0], _INTERVAL)
            where = place + 0.15 * (i - 2)
            axes.plot([where, where], [low, high], color=colour, linewidth=0.8)
            mean = float(table.to_numpy().mean())
            axes.plot(where, mean, "*osDv"[i], color=colour, markersize=3.6, label=trial if place == 0 else None)
    axes.set_xticks(range(len(sets)), [name.replace(" ", "\n", 1) for name in sets], fontsize=6)
    axes.set_ylim(0, 105)  # room for the legend
    axes.set_ylabel("goal reached (greedy), % of maps")
    axes.set_title("test maps, and maps of other kinds")
    axes.legend(frameon=False, ncols=3, loc="upper right", columnspacing=1, handletextpad=0.2)


def edge(found: dict[str, Any]) -> str:
    """Says which protocols took the smallest step of the range for every method: they stay with the base model."""
    smallest = f"learning_rate={found['learning_rates'][0]:.3g}"
    stay = [
        protocol
        for protocol, own in found["settings"].items()
        if all(smallest in text for trial, text in own.items() if trial != "base")
    ]
    return " ".join(f"In {name} every method took the smallest step of the range." for name in stay)


def _caption(found: dict[str, Any]) -> str:
    seeds = found["seeds"]
    maps = ", ".join(f"{name} {count}" for name, count in found["maps"].items())
    settings = "; ".join(
        f"{protocol}: {', '.join(text for trial, text in own.items() if trial != 'base' and '=' not in trial)}"
        for protocol, own in found["settings"].items()
    )
    return _CAPTION.format(
        count=len(seeds),
        first=seeds[0],
        last=seeds[-1],
        maps=maps,
        settings=settings,
        edge=edge(found),
        command=found["command"],
    )
