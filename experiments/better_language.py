"""Standing still beside SFT on the lake in words, from small base models that have read 150 updates.

`python -m experiments.better_language development` trains what was tried on a development base model, and writes
`language-development.csv`. `… held-out` lets both methods choose among eight settings there, by the policy's distance
to the optimum and by the gap of its value; the chosen ones train from five other base models and play maps that nothing
was chosen on, once. It writes `language.csv` (means) and `language-verdicts.csv` (differences with intervals).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import command, models
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


def run() -> None:
    """Parse, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(prog="python -m experiments.better_language", description=__doc__)
    parser.add_argument("what", choices=("development", "held-out"))
    parser.add_argument("--out", type=Path, default=Path("results/better/language"), help="folder of the runs")
    parser.add_argument("--tables", type=Path, default=Path("docs/better"), help="folder of the tables")
    parser.add_argument("--jobs", type=int, default=-1, help="processes; -1 for one per core")
    given = parser.parse_args()
    command.quieten()
    models.offline()
    given.tables.mkdir(parents=True, exist_ok=True)
    if given.what == "development":
        known = {"scale": asdict(SCALE)}
        scores = trained(given.out / "tried", known, TRIED, "dev", SCALE, given.out / "base-models", given.jobs)
        table = scores.groupby("settings", sort=False)[[*METRICS]].mean().round(5)
        table.to_csv(given.tables / "language-development.csv")
        print(table.to_string())
        return
    scores = compare_candidates(given.out, SCALE, given.jobs, GROUPS)
    means(scores).round(5).to_csv(given.tables / "language.csv", index=False)
    verdicts(scores).round(5).to_csv(given.tables / "language-verdicts.csv", index=False)
    print(means(scores).to_string(), verdicts(scores).to_string(), sep="\n\n")


if __name__ == "__main__":
    # By its own name: processes that help import the functions from there.
    from experiments import better_language as module

    command.main(module.run, "interrupted: the same command goes on where it was")
