"""What the rows of a benchmark say: ranks and distances with intervals over lakes, and what an update costs."""

from collections.abc import Iterable
from time import process_time
from typing import Any

import numpy as np
import pandas as pd

from experiments.benchmark import DISTANCES, PROTOCOL_NAMES
from ift import METHODS
from toy import Lake, protocol
from toy.stages import Problem, fine_tune, start_policies

DRAWS = 2000  # of lakes, with replacement
LEVEL = 95


def standings(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per protocol, distance and method: `rank` and `share` with `_low` and `_high`, the ends of 95 % intervals.

    `rank` is the mean over lakes of a method's place (1 is the closest; equals share their places), `share` the
    geometric mean of its distance to the optimum beside the start policy's. A method that had a run stopped on a lake
    comes last there. The intervals come from drawing lakes with replacement.
    """
    frames = []
    for name in PROTOCOL_NAMES:
        for distance in DISTANCES:
            places, logs = _tables(rows, name, distance)
            frames.append(
                pd.DataFrame(
                    {
                        "protocol": name,
                        "distance": distance,
                        "method": places.columns,
                        **_with_interval("rank", places.to_numpy()),
                        **{key: np.exp(value) for key, value in _with_interval("share", logs.to_numpy()).items()},
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """Methods by their mean place over protocols, distances and lakes, with its interval, the best first."""
    tables = [_tables(rows, name, distance)[0] for name in PROTOCOL_NAMES for distance in DISTANCES]
    places = sum(table.to_numpy() for table in tables) / len(tables)
    table = pd.DataFrame({"method": tables[0].columns, **_with_interval("rank", np.asarray(places))})
    return table.sort_values("rank", ignore_index=True)


def _tables(rows: pd.DataFrame, name: str, distance: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Places and logarithms of shares, `[lakes, methods]`."""
    of_protocol = rows[rows["protocol"] == name]
    share = of_protocol[distance] / of_protocol[f"start_{distance}"]
    table = of_protocol.assign(share=share).pivot(index="lake", columns="method", values="share")
    table = table[list(dict.fromkeys(of_protocol["method"]))].fillna(np.inf)
    with np.errstate(divide="ignore"):
        return table.rank(axis=1, method="average"), table.apply(np.log)


def _with_interval(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean over the first dimension, and the ends of its interval."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(values), size=(DRAWS, len(values)))
    tail = (100 - LEVEL) / 2
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile(values[draws].mean(1), (tail, 100 - tail), axis=0)
        return {name: values.mean(0), f"{name}_low": low, f"{name}_high": high}


def update_costs(methods: Iterable[str], runs: int = 64, updates: int = 5, rounds: int = 3) -> dict[str, float]:
    """Processor time of an update of each method as a multiple of SFT's, the best of some rounds; `runs` at once."""
    settings = protocol("adam")
    shared = type(settings)(**{**settings.as_dict(), "steps": updates, "dtype": "float32", "seeds": runs}).shared()
    problem = Problem.of(Lake.make("random:6:0"), shared)
    start, _ = start_policies(problem, range(runs))

    def seconds(method: str) -> float:
        numbers: dict[str, Any] = settings.numbers_of(METHODS[method])
        begin = process_time()
        fine_tune(problem, METHODS[method], numbers, start, range(runs))
        return process_time() - begin

    names = tuple(dict.fromkeys(("sft", *methods)))
    best = dict.fromkeys(names, float("inf"))
    for name in (name for _ in range(rounds) for name in names):  # in turns, so that a busy moment hits all alike
        best[name] = min(best[name], seconds(name))
    return {name: best[name] / best["sft"] for name in methods}
