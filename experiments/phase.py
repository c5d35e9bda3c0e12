"""In which settings the paper's order holds: many protocols, with optimiser, form and distance crossed in full."""

from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pandas as pd

from common.parts import Part, run_parts
from experiments.claims import DISTANCES, PAPERS_ORDER, ROUNDING
from toy import Lake, Settings, Trial, protocol, sweep

LAKES = {  # all of them have a second way to the goal
    "ring": ("ring", False),
    "4x4": ("4x4", False),
    "6x6": ("random:6:900", False),
    "4x4 slippery": ("4x4", True),
    "5x5 slippery": ("random:5:900", True),
    "6x6 slippery": ("random:6:900", True),
}
STARTS: dict[str, dict[str, Any]] = {
    "noisy": {"start": "noisy"},
    **{f"both, {share:g}": {"start": "both", "start_suboptimal_share": share} for share in (0.5, 0.67, 0.8)},
    "random": {"start": "random"},
}
# A step of plain gradient descent is as long as the gradient, one of the others is not: each has its own sizes.
STEP_SIZES = {
    "sgd": (0.003, 0.01, 0.03, 0.1),
    "adam": (0.0003, 0.001, 0.003),
    "rmsprop": (0.0003, 0.001, 0.003),
}
# What is drawn: a combination of one level of each. What is crossed: every combination is run at all of them.
DRAWN: dict[str, tuple[Any, ...]] = {
    "lake": tuple(LAKES),
    "start": tuple(STARTS),
    "steps": (30, 100, 300),
    "negatives": get_args(get_type_hints(Settings)["negatives"]),
}
BETAS = (0.1, 0.5, 1.0, 2.0)  # of DPO
ORPO_BETA_SHARE = 0.1  # ORPO's β as a share of DPO's, as in the `paper` protocol
CROSSED: dict[str, tuple[Any, ...]] = {
    "beta": BETAS,
    "prediction": ("greedy", "expected"),
    "form": ("sum", "product"),
}
ORDERS = {" < ".join(names): names for names in (PAPERS_ORDER, PAPERS_ORDER[1:], *combinations(PAPERS_ORDER, 2))}
FIRST_SEED = 150_000
_PART = 2  # combinations


@dataclass(frozen=True, eq=False)
class Phase:
    """Protocols and the orders that held.

    Attributes:
        held: a row per protocol and distance: `optimizer`, `lr`, the levels of `DRAWN` and `CROSSED`, `distance`, and a
            truth value for each of `ORDERS`.
        draws: combinations drawn for each optimiser.
        seeds: runs of each method and combination.
    """

    held: pd.DataFrame
    draws: int
    seeds: int


def phase(folder: Path, quick: bool, jobs: int) -> Phase:
    """The protocols' orders, from the runs in `folder`, which are made if they are not there."""
    draws, seeds = (2, 4) if quick else (60, 16)
    combos = drawn_combinations(draws)
    parts: dict[str, Part] = {
        f"{first:04}": (_runs_of, (combos[first : first + _PART], first, seeds))
        for first in range(0, len(combos), _PART)
    }
    definition = {
        "combinations": combos,
        "crossed": CROSSED,
        "orpo_beta_share": ORPO_BETA_SHARE,
        "lakes": LAKES,
        "starts": STARTS,
        "seeds": [FIRST_SEED, seeds],
        "paper": protocol("paper").as_dict(),
    }
    return Phase(orders_held(run_parts(folder, definition, parts, jobs), combos), draws, seeds)


def drawn_combinations(draws: int) -> list[dict[str, Any]]:
    """For each optimiser as many combinations of levels, each level of a factor equally often (or once more)."""
    generator = np.random.default_rng(2405_11870)
    combos = []
    for optimizer, step_sizes in STEP_SIZES.items():
        columns = {
            factor: generator.permutation(np.arange(draws) % len(levels))
            for factor, levels in (("lr", step_sizes), *DRAWN.items())
        }
        for i in range(draws):
            levels = {factor: ((step_sizes if factor == "lr" else DRAWN[factor])[column[i]])
                      for factor, column in columns.items()}  # fmt: skip
            combos.append({"optimizer": optimizer, **levels})
    return combos


def settings_of(combo: dict[str, Any], seeds: int) -> Settings:
    """A combination's settings; what it says nothing of is the `paper` protocol's."""
    chosen = {key: value for key, value in combo.items() if key not in ("lake", "start")}
    return replace(
        protocol("paper"), seed=FIRST_SEED, seeds=seeds, dtype="float32", numbers=(), **STARTS[combo["start"]], **chosen
    )


def _runs_of(combos: list[dict[str, Any]], first: int, seeds: int) -> pd.DataFrame:
    frames = []
    for number, combo in enumerate(combos, start=first):
        settings = settings_of(combo, seeds)
        trials = {"sft": Trial("sft", settings)}
        for prediction, form in product(CROSSED["prediction"], CROSSED["form"]):
            trials[f"ift {prediction} {form}"] = Trial("ift", replace(settings, prediction=prediction, form=form))
        for beta in BETAS:
            trials[f"dpo {beta:g}"] = Trial("dpo", replace(settings, beta=beta))
            trials[f"orpo {beta:g}"] = Trial("orpo", replace(settings, beta=beta * ORPO_BETA_SHARE))
        name, slippery = LAKES[combo["lake"]]
        columns = ["trial", "seed", *DISTANCES, *(f"start_{metric}" for metric in DISTANCES), "stopped_at_step"]
        frames.append(sweep(Lake.make(name, slippery=slippery), trials)[columns].assign(combination=number))
    return pd.concat(frames, ignore_index=True)


def orders_held(runs: pd.DataFrame, combos: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per protocol and distance: its levels, and for each of `ORDERS` whether the means over seeds are in it.

    A method with a run that was stopped is behind all that have none. A difference below `ROUNDING` of the start's
    distance is none: no order holds between such two.
    """
    rows = []
    for metric in DISTANCES:
        share = runs[metric] / runs.groupby("combination")[f"start_{metric}"].transform("mean")
        table = runs.assign(share=share).groupby(["combination", "trial"])["share"]
        means = table.agg(lambda seeds: seeds.mean(skipna=False)).unstack("trial").fillna(np.inf)
        for number, of_trial in means.to_dict("index").items():
            for levels in product(*CROSSED.values()):
                beta, prediction, form = levels
                value = {
                    "sft": of_trial["sft"],
                    "ift": of_trial[f"ift {prediction} {form}"],
                    "dpo": of_trial[f"dpo {beta:g}"],
                    "orpo": of_trial[f"orpo {beta:g}"],
                }
                order = {name: _in_order([value[method] for method in names]) for name, names in ORDERS.items()}
                crossed = dict(zip(CROSSED, levels, strict=True))
                rows.append({"distance": metric, **combos[int(str(number))], **crossed, **order})
    return pd.DataFrame(rows)


def _in_order(values: list[float]) -> bool:
    return all(first < second - ROUNDING for first, second in pairwise(values))
