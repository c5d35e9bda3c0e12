"""IFT over the plane of its two numbers, λ and γ, in two protocols, both forms, and on both kinds of ice."""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import pandas as pd

from common.parts import Part, run_parts
from experiments.claims import DISTANCES, ROUNDING
from experiments.lakes import AuditLake
from toy import Trial, protocol, sweep

PROTOCOL_NAMES = ("paper", "adam")
FORMS: tuple[Literal["sum", "product"], ...] = ("sum", "product")  # the paper's equation first
PREDICTIONS: tuple[Literal["greedy", "sampled", "expected"], ...] = ("greedy", "sampled", "expected")
LAMS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
GAMMAS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
RELEASED_LAM, RELEASED_GAMMA = 0.2, 0.95
# Maps outside the audit, each with a second way: the first two of each size from number 900.
_MAPS = {
    False: dict.fromkeys(range(4, 8), (900, 901)),
    True: {4: (901, 902), 5: (900, 902), 6: (900, 901), 7: (900, 901)},
}
LAKES = tuple(
    AuditLake(f"random:{size}:{number}", slippery)
    for slippery, numbers_of in _MAPS.items()
    for size, numbers in numbers_of.items()
    for number in numbers
)
FIRST_SEED = 160_000


@dataclass(frozen=True, eq=False)
class Plane:
    """The runs, a row per protocol, form, prediction, lake, λ, γ and seed; and how much was run.

    Greedy predictions have every λ and γ; the others have every λ at the released γ.
    """

    runs: pd.DataFrame
    lakes: tuple[AuditLake, ...]
    seeds: int


def lambda_gamma(folder: Path, quick: bool, jobs: int) -> Plane:
    """The plane, from the runs in `folder`, which are made if they are not there."""
    lakes, seeds = (LAKES[2::8], 4) if quick else (LAKES, 16)
    lams, gammas = (LAMS[::2], (0.0, 0.5, RELEASED_GAMMA)) if quick else (LAMS, GAMMAS)
    lams = tuple(sorted({*lams, RELEASED_LAM}))
    parts: dict[str, Part] = {
        f"{name}-{lake.key}": (_runs_of, (name, lake, lams, gammas, seeds))
        for name, lake in product(PROTOCOL_NAMES, lakes)
    }
    definition = {
        "lakes": [lake.key for lake in lakes],
        "seeds": [FIRST_SEED, seeds],
        "lams": lams,
        "gammas": gammas,
        "forms": FORMS,
        "predictions": PREDICTIONS,
        "protocols": {name: protocol(name).as_dict() for name in PROTOCOL_NAMES},
    }
    return Plane(run_parts(folder, definition, parts, jobs), lakes, seeds)


def _runs_of(
    name: str, lake: AuditLake, lams: tuple[float, ...], gammas: tuple[float, ...], seeds: int
) -> pd.DataFrame:
    common = replace(protocol(name), seed=FIRST_SEED, seeds=seeds, dtype="float32")
    keys: dict[str, tuple[str, str, float, float]] = {}
    trials: dict[str, Trial] = {}
    for form, prediction, lam, gamma in product(FORMS, PREDICTIONS, lams, gammas):
        if prediction == "greedy" or gamma == RELEASED_GAMMA:
            trial = f"{form} {prediction} {lam:g} {gamma:g}"
            keys[trial] = (form, prediction, lam, gamma)
            settings = replace(common, form=form, prediction=prediction, lam=lam, gamma=gamma)
            trials[trial] = Trial("ift", settings)
    runs = sweep(lake.make(), trials)
    points = pd.DataFrame([keys[trial] for trial in runs["trial"]], columns=["form", "prediction", "lam", "gamma"])
    columns = ["seed", *DISTANCES, *(f"start_{metric}" for metric in DISTANCES), "stopped_at_step"]
    return runs[columns].join(points).assign(protocol=name, lake=lake.key, slippery=lake.slippery)


def lake_shares(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over seeds of the distance to the optimum as a share of the lake's start, a column for each λ.

    The index has `protocol`, `form`, `prediction`, `slippery`, `lake` and `gamma`; NaN where a run was stopped.
    """
    starts = runs.groupby(["protocol", "lake"])[f"start_{metric}"].transform("mean")
    keys = ["protocol", "form", "prediction", "slippery", "lake", "gamma", "lam"]
    shares = runs.assign(share=runs[metric] / starts).groupby(keys)["share"]
    return pd.DataFrame(shares.apply(lambda seeds: seeds.mean(skipna=False)).unstack("lam"))


def relative_to_sft(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Distance in percent of SFT's (λ = 0, γ = 0) on the same lake, mean over lakes, with greedy predictions.

    The index has `protocol`, `form`, `slippery` and `gamma`, a column for each λ.
    """
    shares = lake_shares(runs, metric).reset_index().query("prediction == 'greedy'")
    sft = shares[shares["gamma"] == 0].set_index(["protocol", "form", "slippery", "lake"])[0.0]
    places = pd.MultiIndex.from_frame(shares[["protocol", "form", "slippery", "lake"]])
    lams = sorted(runs["lam"].unique())
    shares[lams] = 100 * shares[lams].div(sft.loc[places].to_numpy(), axis=0)
    return pd.DataFrame(shares.groupby(["protocol", "form", "slippery", "gamma"])[lams].mean())


def residual_effect(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What a λ above 0 adds: the change from λ = 0 at the same γ in percent of the start's distance, below 0: it helps.

    A row per `protocol`, `form`, `prediction`, `slippery`, `gamma` and `lam`: `change` in the mean over lakes, `closer`
    and `lakes` (on how many lakes the mean over seeds is closer by more than rounding, of how many). NaN: a run was
    stopped.
    """
    shares = lake_shares(runs, metric)
    change = 100 * shares.drop(columns=0.0).sub(shares[0.0], axis=0)
    by_lake = change.reset_index().melt(["protocol", "form", "prediction", "slippery", "lake", "gamma"], var_name="lam")
    rows = []
    for key, lakes in by_lake.groupby(["protocol", "form", "prediction", "slippery", "gamma", "lam"], sort=False)[
        "value"
    ]:
        rows.append((*key, lakes.mean(skipna=False), int((lakes < -100 * ROUNDING).sum()), len(lakes)))
    columns = ["protocol", "form", "prediction", "slippery", "gamma", "lam", "change", "closer", "lakes"]
    return pd.DataFrame(rows, columns=columns)
