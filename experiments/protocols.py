"""What the audit runs: lakes, seeds, the settings each method may choose from, and the four protocols.

Nothing here depends on a result but `chosen`, which looks at development runs only.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from toy import Lake, Settings, Trial

METHODS = ("sft", "ift", "orpo", "dpo", "ppo")
DISTANCES = ("policy_mse", "parameter_mse")

DEVELOPMENT_LAKES = tuple((f"random:{size}:{slippery}", bool(slippery)) for size in range(4, 9) for slippery in (0, 1))
DEVELOPMENT_SEEDS = (0, 8)  # first, how many
HELD_OUT_LAKES = (
    *((name, slippery) for name in ("ring", "4x4", "8x8") for slippery in (False, True)),
    *((f"random:{size}:{seed}", bool(seed % 2)) for size in range(4, 9) for seed in range(200, 206)),
)
HELD_OUT_SEEDS = (31_000, 100)

STEP_SIZES = 8  # each with as many draws of a method's own settings
STEP_SIZE_RANGE = (1e-4, 3e-2)
RANGES = {
    "all": f"step size {STEP_SIZE_RANGE[0]:g} to {STEP_SIZE_RANGE[1]:g}, log-spaced: {STEP_SIZES**2} values for SFT, "
    f"{STEP_SIZES} for the others with {STEP_SIZES} random draws each of their own settings",
    "ift": "λ 0.05 to 0.6, γ 0.5 to 1, both forms, three predictions (so never λ = 0 or γ = 0)",
    "dpo": "β 0.05 to 5, label smoothing 0 to 0.3",
    "orpo": "β 0.05 to 1",
    "ppo": "clip 0.1 to 0.3, 2, 4 or 8 epochs",
}
LAMS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8)

# What is published says nothing of the lake: step size, updates and start are the toolkit's own in every protocol.
PUBLISHED = {
    "sft": Settings(optimizer="rmsprop"),
    "ift": Settings(optimizer="rmsprop", lam=0.2, gamma=0.95, propagation="product", prediction="greedy"),
    "orpo": Settings(optimizer="rmsprop", beta=0.25),
    "dpo": Settings(optimizer="rmsprop", beta=0.1),
    "ppo": Settings(optimizer="rmsprop", clip=0.2),
}
SHARED = dict.fromkeys(METHODS, Settings())
PROTOCOLS = {
    "tuned (policies)": "each method at the settings that came closest to the optimal policy on the development lakes",
    "tuned (weights)": "each method at the settings that came closest to the optimal weights there",
    "published": "the settings of the paper's language models: RMSprop, λ 0.2 (greedy), γ 0.95, product, ORPO β 0.25; "
    "DPO β 0.1, which the paper leaves open",
    "shared": "the toolkit's defaults, the same optimiser (Adam), step size and updates for all: λ 0.2, γ 0.95, DPO β "
    "2, ORPO β 0.1",
}


def make_lake(name: str, slippery: bool) -> Lake:
    """The lake of a name such as `random:5:100`."""
    return Lake.make(name, slippery=slippery)


def lake_key(name: str, slippery: bool) -> str:
    """Its name in tables and files."""
    return f"{name.replace(':', '-')}{'-slippery' if slippery else ''}"


def development_trials(quick: bool = False) -> dict[str, Trial]:
    """The settings each method may choose from, as many for each, `METHOD/NUMBER`; the ranges are published ones.

    SFT has nothing but its step size, so it gets more values of it. λ and γ around what the paper and its readers name;
    β of DPO 0.05 to 5 and of ORPO 0.05 to 1, as their papers vary them; clip and epochs of PPO likewise.
    """
    sizes, draws = (2, 2) if quick else (STEP_SIZES, STEP_SIZES)
    first, count = DEVELOPMENT_SEEDS
    trials: dict[str, Trial] = {}
    for method in METHODS:
        generator = np.random.default_rng([2405, 11870, METHODS.index(method)])
        steps = np.geomspace(*STEP_SIZE_RANGE, sizes * draws if method == "sft" else sizes)
        for lr in np.repeat(steps, 1 if method == "sft" else draws):
            settings = Settings(
                lr=float(f"{lr:.3g}"), seed=first, seeds=count, dtype="float32", **_own_settings(method, generator)
            )
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
            "propagation": choice("product", "sum"),
            "prediction": choice("greedy", "sampled", "expected"),
        }
    if method == "dpo":
        return {"beta": log_uniform(0.05, 5.0), "label_smoothing": uniform(0.0, 0.3)}
    if method == "orpo":
        return {"beta": log_uniform(0.05, 1.0)}
    if method == "ppo":
        return {"clip": uniform(0.1, 0.3), "epochs": int(generator.choice([2, 4, 8]))}
    return {}


def chosen(runs: pd.DataFrame, distance: str) -> dict[str, str]:
    """Each method's best trial of the development runs: the smallest mean over lakes of its MSE beside the start's.

    Means over seeds first; a trial with a run that was stopped is out.
    """
    relative = runs.assign(share=runs[distance] / runs[f"start_{distance}"].groupby(runs["lake"]).transform("mean"))
    means = relative.groupby(["method", "trial", "lake"])["share"].agg(lambda share: share.mean(skipna=False))
    scores = means.groupby(["method", "trial"]).agg(lambda lakes: lakes.mean(skipna=False)).dropna()
    best = scores.groupby("method").idxmin()  # (method, trial)
    return {method: best[method][1] for method in METHODS}


def protocol_settings(development: pd.DataFrame, trials: dict[str, Trial]) -> dict[str, dict[str, Settings]]:
    """Every protocol's settings by method."""
    tuned = {
        name: {method: trials[trial].settings for method, trial in chosen(development, distance).items()}
        for name, distance in zip(PROTOCOLS, DISTANCES, strict=False)
    }
    return {**tuned, "published": PUBLISHED, "shared": SHARED}


def held_out_trials(settings: dict[str, Settings], seeds: tuple[int, int]) -> dict[str, Trial]:
    """A protocol's methods at its settings, and IFT with one thing changed at a time (`ift NAME=VALUE`)."""
    first, count = seeds
    ift = settings["ift"]
    changes: dict[str, dict[str, Any]] = {f"lam={lam:g}": {"lam": lam} for lam in LAMS}
    changes |= {"gamma=0": {"gamma": 0.0}, "residual=noise": {"residual": "noise"}}
    changes |= {f"propagation={form}": {"propagation": form} for form in ("product", "sum")}
    trials = {method: Trial(method, settings[method]) for method in METHODS}
    trials |= {f"ift {name}": Trial("ift", replace(ift, **change)) for name, change in changes.items()}
    return {
        name: Trial(t.method, replace(t.settings, seed=first, seeds=count, dtype="float32"))
        for name, t in trials.items()
    }
