"""The trials of `experiments.better_language`, their means and verdicts."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.folders import working_in
from experiments.better_trials import write_csv
from experiments.lake_language import FULL, QUICK, TEST, Candidate, compare_candidates, settings_of, trained

SCALE = replace(QUICK, held_out_seeds=FULL.held_out_seeds)


def _still(rate: float, *numbers: str) -> Candidate:
    return Candidate("still", {"learning_rate": rate, "method_numbers": numbers})


# Eight settings for each, by the names of their folders, so that one is not made again for the other.
GROUPS = {
    "-sft": settings_of("sft", 4),
    "-still": [_still(rate, f"sharpest={power}") for rate in (4e-5, 1.6e-4, 6.3e-4, 2.5e-3) for power in (1, 8)],
}
TRIED = [
    *(Candidate("sft", {"learning_rate": rate}) for rate in (6.3e-4, 2.5e-3)),
    *(_still(rate) for rate in (6.3e-4, 2.5e-3)),
    *(_still(6.3e-4, *numbers) for numbers in (("hold=0.3",), ("hold=0",), ("hold=0", "ties=0.5"), ("sharpest=1",))),
]
METRICS = {"state_policy_mse": -1, "state_value_gap": -1, "state_success": 1, "success": 1}  # 1 where more is better
_DRAWS = 4000


def means(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and test maps, per protocol and trial; `wrong_first`: goals after a wrong first move."""
    on_test = scores[scores["set"] == TEST]
    table = on_test.groupby(["protocol", "trial", "settings"], sort=False)[[*METRICS]].mean()
    wrong = scores[scores["set"] == "wrong first move"]
    table["wrong_first"] = wrong.groupby(["protocol", "trial", "settings"], sort=False)["success"].mean()
    return table.reset_index()


def verdicts(scores: pd.DataFrame, better: str = "still", than: str = "sft") -> pd.DataFrame:
    """How much better one trial is than another, mean and 95 % interval over seeds and maps, drawn with replacement.

    A row per protocol and metric; `effect` is above 0 where `better` is.
    """
    generator, rows = np.random.default_rng(0), []
    for protocol, table in scores[scores["set"] == TEST].groupby("protocol", sort=False):
        for metric, sign in METRICS.items():
            tables = table.pivot_table(index="seed", columns=["trial", "map"], values=metric, aggfunc="mean")
            gain = sign * (tables[better] - tables[than]).to_numpy(float)  # [seeds, maps]
            seeds, maps = (generator.integers(size, size=(_DRAWS, size)) for size in gain.shape)
            drawn = [gain[i][:, j].mean() for i, j in zip(seeds, maps, strict=True)]
            low, high = np.quantile(drawn, (0.025, 0.975))
            row = {"protocol": protocol, "metric": metric, "better": better, "than": than}
            rows.append({**row, "effect": gain.mean(), "low": low, "high": high, "seeds": len(gain)})
    return pd.DataFrame(rows)


def write_tables(what: str, out: Path, tables: Path, jobs: int) -> pd.DataFrame:
    """Run what is missing under `out`, write the tables of `development` or `held-out`; the means of each trial."""
    with working_in(tables, "tables"):
        if what == "development":
            known = {"scale": asdict(SCALE)}
            scores = trained(out / "tried", known, TRIED, "dev", SCALE, out / "base-models", jobs)
            table = scores.groupby("settings", sort=False)[[*METRICS]].mean().round(5)
            write_csv(tables / "language-development.csv", table.reset_index())
            return table
        scores = compare_candidates(out, SCALE, jobs, GROUPS)
        write_csv(tables / "language.csv", means(scores).round(5))
        write_csv(tables / "language-verdicts.csv", verdicts(scores).round(5))
        return means(scores)
