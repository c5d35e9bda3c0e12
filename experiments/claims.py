"""The paper's claims about Frozen Lake as comparisons between trials, and what held-out runs say of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from experiments.protocols import DISTANCES, LAMS, PROTOCOLS

RESAMPLES = 2000
ROUNDING = 1e-5  # trainings in float32: a smaller difference is none
ICE = {"all": (False, True), "not slippery": (False,), "slippery": (True,)}
SPACES = {"policy_mse": "policies", "parameter_mse": "weights", "cells_visited": "cells"}
PAPERS_ORDER = ("dpo", "ift", "orpo", "sft")
Tables = dict[tuple[str, str], pd.DataFrame]  # (trial, metric): [lakes, seeds]
MORE_IS_BETTER = ("cells_visited", "recovered")
_OTHERS = ("success", "cells_visited", "sampled_steps")


@dataclass(frozen=True)
class Claim:
    """A sentence, and the comparisons (better trial, worse trial) that all have to come out for it to hold.

    Better is nearer to the optimum, in every distance; or more of `metric`, if one of `MORE_IS_BETTER` is named.
    """

    name: str
    sentence: str
    comparisons: tuple[tuple[str, str], ...]
    metric: str | None = None
    figure: str = "audit-claims.png"


def _pairwise(first: str, second: str) -> Claim:
    name = f"{first} < {second}"
    return Claim(name, f"{first.upper()} comes closer to the optimum than {second.upper()}", ((first, second),))


CLAIMS = (
    Claim(
        "order",
        "The order is DPO, IFT, ORPO, SFT, from the closest to the farthest",
        tuple(pairwise(PAPERS_ORDER)),
    ),
    *(_pairwise(*pair) for pair in combinations(PAPERS_ORDER, 2)),
    *(
        Claim(f"{method} visits", f"{method.upper()} visits more cells than SFT", ((method, "sft"),), "cells_visited")
        for method in ("ift", "dpo", "orpo")
    ),
    Claim(
        "lambda 0.2",
        "λ = 0.2 is the best λ",
        tuple(("ift lam=0.2", f"ift lam={lam:g}") for lam in LAMS if lam != 0.2),
        figure="audit-lambda.png",
    ),
    Claim(
        "residual",
        "The temporal residual helps: λ = 0.2 is better than λ = 0",
        (("ift lam=0.2", "ift lam=0"),),
        figure="audit-lambda.png",
    ),
    Claim("propagation", "Propagation helps: γ as set is better than γ = 0", (("ift", "ift gamma=0"),)),
    Claim(
        "product",
        "The released form (product) is better than the paper's equation (sum)",
        (("ift propagation=product", "ift propagation=sum"),),
    ),
    Claim(
        "not noise",
        "The residual does more than input noise of the same length",
        (("ift", "ift residual=noise"),),
        figure="audit-lambda.png",
    ),
)


def findings(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Every claim with its cells (protocol × space × ice) and a verdict, JSON-ready; `runs` as the audit's held-out."""
    samples = {ice: resamples(runs, kinds) for ice, kinds in ICE.items()}
    by_protocol = {str(protocol): _tables(table) for protocol, table in runs.groupby("protocol", sort=False)}
    found = []
    for claim in CLAIMS:
        cells = [
            {"protocol": protocol, "space": SPACES[metric], "ice": ice, **judge(tables, claim, metric, sample)}
            for protocol, tables in by_protocol.items()
            for metric in ([claim.metric] if claim.metric else DISTANCES)
            for ice, sample in samples.items()
        ]
        found.append(
            {
                "name": claim.name,
                "claim": claim.sentence,
                "comparisons": claim.comparisons,
                "figure": claim.figure,
                "cells": cells,
                "verdict": verdict(cells),
            }
        )
    return found


def lake_means(table: pd.DataFrame, trial: str, metric: str) -> pd.DataFrame:
    """A trial's metric `[lakes, seeds]` in a protocol's runs; an MSE as a share of the lake's mean start MSE.

    A run that was stopped counts as far away as the farthest run of the protocol.
    """
    rows = table[table["trial"] == trial]
    values = rows.pivot(index="lake", columns="seed", values=metric)
    if metric in DISTANCES:
        start = table.groupby("lake")[f"start_{metric}"].mean()
        worst = (table[metric] / table["lake"].map(start)).max()
        values = values.div(start, axis=0).fillna(worst)
    return values


def _tables(table: pd.DataFrame) -> Tables:
    """`lake_means` of every trial and metric of a protocol."""
    return {(trial, metric): lake_means(table, trial, metric) for trial in table["trial"].unique() for metric in SPACES}


@dataclass(frozen=True)
class Sample:
    """Bootstrap resamples as counts: maps drawn with replacement, and seeds."""

    lakes: list[str]
    of_lakes: np.ndarray  # [resamples, lakes]
    of_seeds: np.ndarray  # [resamples, lakes, seeds]

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean over lakes of the mean over seeds of `[..., lakes, seeds]`, NaN left out: `[resamples, ...]`."""
        known = ~np.isnan(values)
        totals = np.einsum("bls,...ls->b...l", self.of_seeds, np.where(known, values, 0))
        counts = np.einsum("bls,...ls->b...l", self.of_seeds, known.astype(float))
        per_lake = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)
        weights = self.of_lakes.reshape(len(self.of_lakes), *[1] * (values.ndim - 2), -1) * (counts > 0)
        return (per_lake * weights).sum(-1) / weights.sum(-1)


def resamples(runs: pd.DataFrame, kinds: Sequence[bool]) -> Sample:
    """Maps drawn with replacement, and seeds; the same draws for every claim."""
    chosen = runs[runs["slippery"].isin(kinds)]
    lakes = sorted(chosen["lake"].unique())
    # A map that is there on both ices is drawn as one.
    return resample(lakes, [lake.removesuffix("-slippery") for lake in lakes], chosen["seed"].nunique())


def resample(lakes: list[str], maps: list[str], seeds: int) -> Sample:
    """Draws of `maps`, the map of each lake, and of seeds, which are the same on every lake."""
    number = {name: i for i, name in enumerate(dict.fromkeys(maps))}
    generator = np.random.default_rng(len(lakes))
    of_maps = generator.multinomial(len(number), np.full(len(number), 1 / len(number)), RESAMPLES)
    of_lakes = of_maps[:, [number[name] for name in maps]]
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    of_seeds = np.broadcast_to(of_seeds[:, None], (RESAMPLES, len(lakes), seeds))
    return Sample(lakes, of_lakes.astype(float), of_seeds.astype(float))


def judge(tables: Tables, claim: Claim, metric: str, sample: Sample) -> dict[str, Any]:
    """Effect of the claim's weakest comparison, its interval, and the share of lakes where all comparisons come out.

    A claim of K comparisons holds if each does (intersection-union: every lower end at 2.5 %), and is contradicted if
    one is surely the other way (upper ends at 2.5 %/K): the interval is from the lowest lower to the lowest upper end.
    """
    sign = 1 if metric in MORE_IS_BETTER else -1
    differences = np.stack(
        [
            (sign * (tables[better, metric] - tables[worse, metric])).loc[sample.lakes]
            for better, worse in claim.comparisons
        ]
    )  # [comparisons, lakes, seeds]
    differences = np.where(np.abs(differences) < ROUNDING, 0, differences)
    per_lake = np.nanmean(differences, axis=-1)
    means = sample.means(differences)  # [resamples, comparisons]
    low, high = (float(np.quantile(means, q, axis=0).min()) for q in (0.025, 1 - 0.025 / len(differences)))
    effect = float(np.nanmean(per_lake, -1).min())
    return {
        "effect": effect,
        "low": low,
        "high": high,
        "lakes_share": float((per_lake > 0).all(0).mean()),
        "lakes": len(sample.lakes),
        "state": "holds" if low > 0 else "contradicted" if high < 0 else "same" if low == high == 0 else "open",
    }


def verdict(cells: Sequence[dict[str, Any]]) -> str:
    """*holds*, *does not hold*, *depends on …* or *not shown*, from all cells of a claim.

    A claim holds in a cell if its whole interval is above 0 and is contradicted if it is below; else it is undecided.
    One cell of eight may err by chance: it takes two on each side to depend on something, and half of the cells not to
    hold. What it depends on is the space or the protocol if that tells the sides apart, or the ice if one ice is for
    the claim and the other against it in half of the cells.
    """
    over_all = [cell for cell in cells if cell["ice"] == "all"]
    states = [cell["state"] for cell in over_all]
    holds, against, total = states.count("holds"), states.count("contradicted"), len(states)
    counts = f"holds in {holds} of {total} cells, contradicted in {against}"
    if set(states) == {"same"}:
        return "makes no difference"
    if holds == total:
        split = [cell for cell in cells if cell["ice"] != "all" and cell["state"] == "contradicted"]
        return f"holds over all lakes; contradicted on one ice in {len(split)} cells" if split else "holds"
    for factor in ("space", "protocol"):
        where = [level for level in _levels(over_all, factor) if _all(over_all, factor, level, "holds")]
        elsewhere = [level for level in _levels(over_all, factor) if _all(over_all, factor, level, "contradicted")]
        if where and elsewhere and len(where) + len(elsewhere) == len(_levels(over_all, factor)):
            return f"depends on the {factor}: holds for {', '.join(where)}; contradicted for {', '.join(elsewhere)}"
    by_ice = _ice_decides(cells)
    if by_ice:
        return f"depends on the ice: {by_ice}"
    if total < 4 and holds < total:
        return f"undecided: {counts}"  # too few cells to tell a rule from an error
    if min(holds, against) >= 2:
        return f"depends on protocol and space: {counts}"
    if 2 * against >= total:
        return f"does not hold: {counts}"
    if holds >= 2:
        return f"holds in part: {counts}"
    return f"not shown: {counts}"


def _ice_decides(cells: Sequence[dict[str, Any]]) -> str:
    """On which ice a claim holds and on which it is contradicted, if that is so in half of the cells, else nothing."""
    states = {(cell["ice"], cell["protocol"], cell["space"]): cell["state"] for cell in cells}
    if set(ICE) - {cell["ice"] for cell in cells}:
        return ""  # judged on one ice only
    places = [(cell["protocol"], cell["space"]) for cell in cells if cell["ice"] == "all"]
    for one, other in (("not slippery", "slippery"), ("slippery", "not slippery")):
        apart = sum((states[one, *p], states[other, *p]) == ("holds", "contradicted") for p in places)
        if 2 * apart >= len(places):
            return f"holds where it is {one} and is contradicted where it is {other}, in {apart} of {len(places)} cells"
    return ""


def _levels(cells: Sequence[dict[str, Any]], factor: str) -> list[str]:
    return list(dict.fromkeys(cell[factor] for cell in cells))


def _all(cells: Sequence[dict[str, Any]], factor: str, level: str, state: str) -> bool:
    return all(cell["state"] == state for cell in cells if cell[factor] == level)


def standing(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The start policies, then each protocol's methods: mean over lakes of seeds' means, MSEs as shares of the start's.

    `stopped` counts the runs whose numbers were no longer finite.
    """
    rows = []
    for (protocol, method), table in runs[runs["trial"] == runs["method"]].groupby(["protocol", "method"], sort=False):
        distances = {metric: float(lake_means(table, str(method), metric).mean(axis=1).mean()) for metric in DISTANCES}
        others = {name: float(table.groupby("lake")[name].mean().mean()) for name in _OTHERS}
        stopped = int((table["stopped_at_step"] >= 0).sum())
        rows.append({"protocol": str(protocol), "method": method, **distances, **others, "stopped": stopped})
    order = list(PROTOCOLS)
    rows.sort(key=lambda row: (order.index(str(row["protocol"])), row["policy_mse"]))
    starts = runs[(runs["trial"] == "sft") & (runs["protocol"] == order[0])].groupby("lake")
    before = {name: float(starts[f"start_{name}"].mean().mean()) for name in ("success", "cells_visited")}
    start = {"protocol": "all", "method": "start", **dict.fromkeys(DISTANCES, 1.0), **before}
    return [{**start, "sampled_steps": 0.0, "stopped": 0}, *rows]
