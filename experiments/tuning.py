"""Settings that a method chooses from on development lakes, and the choice: the same number of settings for each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.lakes import DEVELOPMENT_SEEDS
from toy import Trial, protocol

TUNED = ("sft", "ift", "orpo", "dpo")
STEP_SIZES = 8  # each with as many draws of a method's own settings
STEP_SIZE_RANGE = (1e-4, 3e-2)
RANGES = {
    "all": f"step size {STEP_SIZE_RANGE[0]:g} to {STEP_SIZE_RANGE[1]:g}, log-spaced: {STEP_SIZES**2} values for SFT, "
    f"{STEP_SIZES} for the others with {STEP_SIZES} random draws each of their own settings",
    "ift": "λ 0.05 to 0.6, γ 0.5 to 1, both forms, three predictions (so never λ = 0 or γ = 0)",
    "dpo": "β 0.05 to 5, label smoothing 0 to 0.3",
    "orpo": "β 0.05 to 1",
}


def development_trials(quick: bool = False) -> dict[str, Trial]:
    """The settings each method may choose from, as many for each, `METHOD/NUMBER`; the ranges are published ones.

    All start from the `adam` protocol. SFT has nothing but its step size, so it gets more values of it. λ and γ around
    what the paper and its readers name; β of DPO 0.05 to 5 and of ORPO 0.05 to 1, as their papers vary them.
    """
    sizes, draws = (2, 2) if quick else (STEP_SIZES, STEP_SIZES)
    first, count = DEVELOPMENT_SEEDS
    common = replace(protocol("adam"), seed=first, seeds=count, dtype="float32")
    trials: dict[str, Trial] = {}
    for place, method in enumerate(TUNED):
        generator = np.random.default_rng([2405, 11870, place])
        steps = np.geomspace(*STEP_SIZE_RANGE, sizes * draws if method == "sft" else sizes)
        for lr in np.repeat(steps, 1 if method == "sft" else draws):
            settings = replace(common, lr=float(f"{lr:.3g}"), **_own_settings(method, generator))
            trials[f"{method}/{len(trials) % (sizes * draws)}"] = Trial(method, settings)
    return trials


def _own_settings(method: str, generator: np.random.Generator) -> dict[str, Any]:
    def uniform(low: float, high: float) -> float:
        return round(float(generator.uniform(low, high)), 3)

    def log_uniform(low: float, high: float) -> float:
        return float(f"{np.exp(generator.uniform(np.log(low), np.log(high))):.3g}")

    def choice(*values: str) -> str:
        return str(generator.choice(values))

    if method == "ift":
        return {
            "lam": uniform(0.05, 0.6),
            "gamma": uniform(0.5, 1.0),
            "form": choice("product", "sum"),
            "prediction": choice("greedy", "sampled", "expected"),
        }
    if method == "dpo":
        return {"beta": log_uniform(0.05, 5.0), "label_smoothing": uniform(0.0, 0.3)}
    return {"beta": log_uniform(0.05, 1.0)} if method == "orpo" else {}


def chosen(runs: pd.DataFrame, distance: str) -> dict[str, str]:
    """Each method's best trial of the development runs: the smallest mean over lakes of its MSE beside the start's.

    Means over seeds first; a trial with a run that was stopped is out.
    """
    relative = runs.assign(share=runs[distance] / runs[f"start_{distance}"].groupby(runs["lake"]).transform("mean"))
    means = relative.groupby(["method", "trial", "lake"])["share"].agg(lambda share: share.mean(skipna=False))
    scores = means.groupby(["method", "trial"]).agg(lambda lakes: lakes.mean(skipna=False)).dropna()
    best = scores.groupby("method").idxmin()  # (method, trial)
    return {method: best[method][1] for method in TUNED}
