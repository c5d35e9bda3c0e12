"""The paper's claims about Frozen Lake as comparisons between trials, and what held-out runs say of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

RESAMPLES = 2000
ROUNDING = 1e-5  # trainings in float32: a smaller difference is none
DISTANCES = ("parameter_mse", "policy_mse")  # the paper's first
PAPERS_ORDER = ("dpo", "ift", "orpo", "sft")
MORE_IS_BETTER = ("success", "cells_visited", "cells_scored", "recovered")
State = Literal["holds", "contradicted", "open", "same"]
Tables = dict[tuple[str, str], pd.DataFrame]  # (trial, metric): [lakes, seeds]


@dataclass(frozen=True)
class Claim:
    """A sentence, and the comparisons (better trial, worse trial) that all have to come out for it to hold.

    Better is nearer to the optimum, in each of `metrics`; or more of it, for those of `MORE_IS_BETTER`.
    """

    name: str
    sentence: str
    comparisons: tuple[tuple[str, str], ...]
    metrics: tuple[str, ...] = DISTANCES


def _closer(first: str, second: str) -> Claim:
    sentence = f"{first.upper()} comes closer to the optimum than {second.upper()}"
    return Claim(f"{first} closer than {second}", sentence, ((first, second),))


CLAIMS = (
    Claim("order", "The order is DPO, IFT, ORPO, SFT, from the closest to the farthest", tuple(pairwise(PAPERS_ORDER))),
    *(_closer(*pair) for pair in combinations(PAPERS_ORDER, 2)),
    Claim(
        "order of success",
        "Success falls in the same order: DPO, IFT, ORPO, SFT",
        tuple(pairwise(PAPERS_ORDER)),
        ("success",),
    ),
    *(
        Claim(
            f"{method} scores more cells",
            f"A training with {method.upper()} scores more cells than one with SFT",
            ((method, "sft"),),
            ("cells_scored",),
        )
        for method in ("ift", "dpo", "orpo")
    ),
    *(
        Claim(
            f"{method} visits more cells",
            f"The policy that {method.upper()} leaves visits more cells than the one that SFT leaves",
            ((method, "sft"),),
            ("cells_visited",),
        )
        for method in ("ift", "dpo", "orpo")
    ),
    Claim(
        "best lambda",
        "λ = 0.2 is the best λ (of 0, 0.1, 0.2, 0.3, 0.5)",
        tuple(("ift", f"ift:lam={lam:g}") for lam in (0.0, 0.1, 0.3, 0.5)),
    ),
    Claim("residual", "The temporal residual helps: λ = 0.2 is better than λ = 0", (("ift", "ift:lam=0"),)),
    Claim("propagation", "Propagation helps: γ = 0.95 is better than γ = 0", (("ift", "ift:gamma=0"),)),
    Claim(
        "released form",
        "The released form (product) is better than the paper's equation (sum)",
        (("ift:form=product", "ift:form=sum"),),
    ),
    Claim(
        "more than noise",
        "The residual does more than input noise of the same length",
        (("ift", "ift:residual=noise"),),
    ),
)


@dataclass(frozen=True)
class Cell:
    """What held-out runs say of a claim, in one protocol, by one metric, on lakes of one kind.

    `effect` is that of the weakest comparison, above 0 where the claim's direction is right, with the bounds that
    decide; `lakes_share` is the share of lakes on which all comparisons come out in the mean over seeds.
    """

    protocol: str
    metric: str
    kind: str
    effect: float
    low: float
    high: float
    lakes_share: float
    lakes: int
    state: State


@dataclass(frozen=True)
class Finding:
    """A claim with its cells."""

    claim: Claim
    cells: tuple[Cell, ...]

    def cell(self, protocol: str, metric: str, kind: str = "all") -> Cell | None:
        """One of the cells, if the claim was judged there."""
        wanted = (protocol, metric, kind)
        return next((cell for cell in self.cells if (cell.protocol, cell.metric, cell.kind) == wanted), None)

    def verdict(self, metric: str) -> str:
        """In which protocols the claim holds, and in which it is contradicted, over all lakes."""
        cells = [cell for cell in self.cells if (cell.metric, cell.kind) == (metric, "all")]
        by_state = {state: [c.protocol for c in cells if c.state == state] for state in ("holds", "contradicted")}
        if not cells:
            return "was not judged"
        if len(by_state["holds"]) == len(cells):
            return "holds in every protocol"
        if len(by_state["contradicted"]) == len(cells):
            return "is contradicted in every protocol"
        parts = [f"holds in {_listed(by_state['holds'])}"] if by_state["holds"] else []
        parts += [f"is contradicted in {_listed(by_state['contradicted'])}"] if by_state["contradicted"] else []
        decided = sum(map(len, by_state.values()))
        rest = "elsewhere" if decided else "in every protocol"
        return "; ".join([*parts, *([f"is undecided {rest}"] if decided < len(cells) else [])])


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def findings(runs: pd.DataFrame) -> list[Finding]:
    """Every claim with its cells (protocol × metric × kind of lakes).

    `runs` has a row per `protocol`, `trial`, `lake` and `seed`, with `slippery`, `second_way`, the claims' metrics and
    `start_METRIC` for the distances; a protocol need not have all trials, nor all metrics.
    """
    cells: dict[str, list[Cell]] = {claim.name: [] for claim in CLAIMS}
    for protocol, of_protocol in runs.groupby("protocol", sort=False):
        slippery, one_way = of_protocol["slippery"], ~of_protocol["second_way"]
        kinds = {"all": of_protocol, "not slippery": of_protocol[~slippery], "slippery": of_protocol[slippery],
                 "one way": of_protocol[one_way]}  # fmt: skip
        for kind, rows in kinds.items():
            if rows.empty:
                continue
            tables = tables_of(rows)
            sample = resample(sorted(rows["lake"].unique()), rows["seed"].nunique())
            for claim in CLAIMS:
                for metric in claim.metrics:
                    if all((trial, metric) in tables for pair in claim.comparisons for trial in pair):
                        judged = judge(tables, claim.comparisons, metric, sample)
                        cells[claim.name].append(Cell(str(protocol), metric, kind, *judged))
    return [Finding(claim, tuple(cells[claim.name])) for claim in CLAIMS]


def tables_of(rows: pd.DataFrame) -> Tables:
    """`lake_means` of every trial and metric that a protocol's rows have."""
    metrics = [metric for metric in (*DISTANCES, *MORE_IS_BETTER) if metric in rows and rows[metric].notna().any()]
    return _tables(rows, rows, metrics)


def lake_means(rows: pd.DataFrame, trial: str, metric: str) -> pd.DataFrame:
    """A trial's metric `[lakes, seeds]` in a protocol's runs; an MSE as a share of the lake's mean start MSE.

    A run that was stopped counts as far away as the farthest run of the protocol.
    """
    return _tables(rows, rows[rows["trial"] == trial], [metric])[trial, metric]


def _tables(rows: pd.DataFrame, shown: pd.DataFrame, metrics: Sequence[str]) -> Tables:
    """`lake_means` of the trials of some of a protocol's rows."""
    by_seed = shown.set_index(["trial", "lake", "seed"])[list(metrics)].unstack("seed")
    tables: Tables = {}
    for metric in metrics:
        values: Any = by_seed[metric]
        if metric in DISTANCES:
            start = rows.groupby("lake")[f"start_{metric}"].mean()
            worst = (rows[metric] / rows["lake"].map(start)).max()
            values = values.div(start, axis=0, level="lake").fillna(worst)
        tables |= {(str(trial), metric): table.droplevel("trial") for trial, table in values.groupby(level="trial")}
    return tables


@dataclass(frozen=True)
class Sample:
    """Bootstrap resamples as counts: lakes drawn with replacement, and seeds."""

    lakes: list[str]
    of_lakes: np.ndarray  # [resamples, lakes]
    of_seeds: np.ndarray  # [resamples, seeds], the same on every lake

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean over lakes of the mean over seeds of `[..., lakes, seeds]`, NaN left out: `[resamples, ...]`."""
        known = ~np.isnan(values)
        totals = np.einsum("bs,...ls->b...l", self.of_seeds, np.where(known, values, 0), optimize=True)
        counts = np.einsum("bs,...ls->b...l", self.of_seeds, known.astype(float), optimize=True)
        per_lake = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)
        weights = self.of_lakes.reshape(len(self.of_lakes), *[1] * (values.ndim - 2), -1) * (counts > 0)
        return (per_lake * weights).sum(-1) / np.maximum(weights.sum(-1), 1)


def resample(lakes: Iterable[str], seeds: int) -> Sample:
    """Draws of lakes and of seeds, the same for every claim on as many lakes."""
    names = list(lakes)
    generator = np.random.default_rng(len(names))
    of_lakes = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    return Sample(names, of_lakes.astype(float), of_seeds.astype(float))


def judge(
    tables: Tables, comparisons: Sequence[tuple[str, str]], metric: str, sample: Sample
) -> tuple[float, float, float, float, int, State]:
    """`effect, low, high, lakes_share, lakes, state` of comparisons that all have to come out, as `Cell` has them.

    A claim of K comparisons holds if each does (intersection-union: every lower end at 2.5 %), and is contradicted if
    one is surely the other way (upper ends at 2.5 %/K): the interval is from the lowest lower to the lowest upper end.
    """
    sign = 1 if metric in MORE_IS_BETTER else -1
    each = [
        (sign * (tables[better, metric] - tables[worse, metric])).loc[sample.lakes] for better, worse in comparisons
    ]
    differences = np.stack(each)  # [comparisons, lakes, seeds]
    differences = np.where(np.abs(differences) < ROUNDING, 0, differences)
    per_lake = np.nanmean(differences, axis=-1)
    means = sample.means(differences)  # [resamples, comparisons]
    low, high = (float(np.quantile(means, q, axis=0).min()) for q in (0.025, 1 - 0.025 / len(differences)))
    effect, share = float(np.nanmean(per_lake, -1).min()), float((per_lake > 0).all(0).mean())
    state: State = "holds" if low > 0 else "contradicted" if high < 0 else "same" if low == high == 0 else "open"
    return effect, low, high, share, len(sample.lakes), state
