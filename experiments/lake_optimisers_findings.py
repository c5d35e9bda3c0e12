"""The lake in words and the length of the step: orders at equal learning rate and at equal distance travelled."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats

from experiments.lake_optimisers import METRICS, PAPERS_METHODS

BASES = ("equal learning rate", "equal distance travelled")
PAIRS = tuple(combinations(PAPERS_METHODS, 2))


@dataclass(frozen=True)
class Standing:
    """Mean over seeds of a metric with its 95 % interval, and the mean rank among the four methods (1 is the best)."""

    optimiser: str
    basis: str
    metric: str
    trial: str
    mean: float
    low: float
    high: float
    rank: float | None  # of what is not among the four


@dataclass(frozen=True)
class Difference:
    """How much better the first method is than the second, above 0 where it is: mean over seeds and 95 % interval."""

    optimiser: str
    basis: str
    metric: str
    first: str
    second: str
    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the interval lies above 0, -1 if below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Account:
    """How far the length of the step accounts for the order that a metric gives the four methods.

    Attributes:
        by_length: rank correlation, over the methods, of the distance travelled and how good they are at equal learning
            rate: mean over seeds with its 95 % interval. 1: who goes farther ends better; -1: worse.
        spread_left: mean difference between two methods at equal distance travelled, as a share of that at equal
            learning rate: geometric mean over seeds with its 95 % interval.
        kept, lost, turned: of the pairs whose order is sure at equal learning rate, those whose order at equal distance
            is surely the same, is not sure, and is surely the other way.
        at_equal_distance: pairs that differ surely at equal distance travelled.
    """

    optimiser: str
    metric: str
    by_length: float
    by_length_low: float
    by_length_high: float
    spread_left: float
    spread_low: float
    spread_high: float
    kept: int
    lost: int
    turned: int
    at_equal_distance: int


def readings(rows: pd.DataFrame) -> pd.DataFrame:
    """Every curve where it ends, and where it has gone as far as the method that goes least far from the same start.

    A row per `optimiser`, `basis`, `trial` and `seed` with `travelled` and `METRICS`, linear between measured updates;
    NaN for a curve that does not get as far.
    """
    ends = rows[rows["update"] == rows["update"].max()]
    least = ends[ends["trial"].isin(PAPERS_METHODS)].groupby(["optimiser", "seed"])["travelled"].min()
    read = []
    for (optimiser, trial, seed), curve in rows.groupby(["optimiser", "trial", "seed"], sort=False):
        names = {"optimiser": optimiser, "trial": trial, "seed": seed}
        there = {BASES[0]: float("inf"), BASES[1]: float(least[optimiser, seed])}
        read += [{**names, "basis": basis, **_read(curve.sort_values("update"), far)} for basis, far in there.items()]
    return pd.DataFrame(read)


def _read(curve: pd.DataFrame, there: float) -> dict[str, float]:
    """`travelled` and `METRICS` where the curve first reaches a distance; its end for an infinite one."""
    travelled = curve["travelled"].to_numpy()
    beyond = [len(curve) - 1] if np.isinf(there) else np.flatnonzero(travelled >= there)
    if not len(beyond):
        return dict.fromkeys(("travelled", *METRICS), float("nan"))
    after = int(beyond[0])
    before = max(after - 1, 0)
    length = travelled[after] - travelled[before]
    share = 1.0 if np.isinf(there) or length <= 0 else float((there - travelled[before]) / length)
    values = {name: curve[name].to_numpy() for name in ("travelled", *METRICS)}
    return {name: float(value[before] + share * (value[after] - value[before])) for name, value in values.items()}


def standings(read: pd.DataFrame) -> Iterator[Standing]:
    """Where each trial is, by `travelled` and every metric; none for a trial that does not get as far on every seed."""
    for (optimiser, basis, metric), table in _tables(read).items():
        ranks = (_sign(metric) * table[list(PAPERS_METHODS)]).rank(axis=1, ascending=False).mean()
        for trial in table.columns[table.notna().all()]:
            rank = float(ranks[trial]) if trial in PAPERS_METHODS else None
            yield Standing(optimiser, basis, metric, str(trial), *mean_interval(table[trial]), rank)


def differences(read: pd.DataFrame) -> Iterator[Difference]:
    """Of all pairs of the four methods, by every metric, paired over seeds."""
    for (optimiser, basis, metric), table in _tables(read).items():
        for first, second in PAIRS if metric in METRICS else ():
            gains = _sign(metric) * (table[first] - table[second])
            yield Difference(optimiser, basis, metric, first, second, *mean_interval(gains))


def accounts(read: pd.DataFrame) -> Iterator[Account]:
    """One per optimiser and metric."""
    tables = _tables(read)
    signs = {
        (each.optimiser, each.basis, each.metric, each.first, each.second): each.sign for each in differences(read)
    }
    for optimiser, metric in product(read["optimiser"].unique(), METRICS):
        ends, equal = (tables[optimiser, basis, metric] for basis in BASES)
        lengths, goods = (
            table[list(PAPERS_METHODS)].rank(axis=1)
            for table in (tables[optimiser, BASES[0], "travelled"], _sign(metric) * ends)
        )
        by_length = pd.Series([np.corrcoef(lengths.loc[seed], goods.loc[seed])[0, 1] for seed in ends.index])
        logarithm = pd.Series(np.log(_spread(equal) / _spread(ends)), index=ends.index)
        at_rate, at_distance = ([signs[optimiser, basis, metric, *pair] for pair in PAIRS] for basis in BASES)
        # Of each pair whose order is sure at equal learning rate: 1 the same order at equal distance, -1 the other one.
        order = [first * second for first, second in zip(at_rate, at_distance, strict=True) if first]
        length, length_low, length_high = np.clip(mean_interval(by_length), -1, 1)
        left, left_low, left_high = np.exp(mean_interval(logarithm))
        yield Account(
            str(optimiser),
            metric,
            by_length=float(length),
            by_length_low=float(length_low),
            by_length_high=float(length_high),
            spread_left=float(left),
            spread_low=float(left_low),
            spread_high=float(left_high),
            kept=order.count(1),
            lost=order.count(0),
            turned=order.count(-1),
            at_equal_distance=sum(map(abs, at_distance)),
        )


def mean_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean over seeds and the ends of its 95 % interval, Student's t."""
    of_seeds = values.to_numpy(dtype=float)
    mean = float(of_seeds.mean())
    half = float(stats.t.ppf(0.975, len(of_seeds) - 1) * np.std(of_seeds, ddof=1) / len(of_seeds) ** 0.5)
    return mean, mean - half, mean + half


def _spread(table: pd.DataFrame) -> pd.Series:
    """Mean absolute difference between two methods, of each seed."""
    return pd.concat([(table[first] - table[second]).abs() for first, second in PAIRS], axis=1).mean(axis=1)


def _sign(metric: str) -> int:
    """1 where more is better."""
    return 1 if metric in ("success", "agreement", "travelled") else -1


def _tables(read: pd.DataFrame) -> dict[tuple[str, str, str], pd.DataFrame]:
    """`[seeds, trials]` by optimiser, basis and metric."""
    return {
        (str(optimiser), str(basis), metric): rows.pivot(index="seed", columns="trial", values=metric)
        for (optimiser, basis), rows in read.groupby(["optimiser", "basis"], sort=False)
        for metric in ("travelled", *METRICS)
    }
