"""The audit: every protocol on lakes and seeds that nothing was chosen on, and each claim judged by the numbers."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.parts import Part, run_parts
from experiments import tuning
from experiments.claims import DISTANCES, PAPERS_ORDER, Finding, findings, lake_means
from experiments.lakes import DEVELOPMENT_LAKES, DEVELOPMENT_SEEDS, HELD_OUT_LAKES, HELD_OUT_SEEDS, AuditLake
from toy import PROTOCOLS, Lake, Settings, Trial, scored_states, sweep
from toy.sweeps import sweep_with_curves
from toy.trials import named_trials

LAMS = (0.0, 0.1, 0.2, 0.3, 0.5)
# Variants of IFT, one thing changed at a time, in the protocols where all methods share their settings.
VARIANTS = ("ift:gamma=0", "ift:form=product", "ift:form=sum", "ift:residual=noise")
WITH_VARIANTS = ("paper", "paper-adam", "adam")
EQUAL_DISTANCE = {"paper": "paper, equal distance", "paper-adam": "paper-adam, equal distance"}
TUNED = {"tuned (parameters)": "parameter_mse", "tuned (policies)": "policy_mse"}
SUMMARIES = {
    **{name: protocol.summary for name, protocol in PROTOCOLS.items()},
    "paper, equal distance": "The same runs as in paper, each read where it has gone as far from the start as the one "
    "that goes least far (parameters, between measured updates linearly).",
    "paper-adam, equal distance": "The same for paper-adam.",
    "tuned (parameters)": "Each method at the settings that came closest to the optimal parameters on the development "
    "lakes, everything else as in adam.",
    "tuned (policies)": "Each method at the settings that came closest to the optimal policy there.",
}
# The order of columns: the paper's first.
COLUMNS = ("paper", "paper, equal distance", "paper-adam", "paper-adam, equal distance", "published", "adam", *TUNED)
STANDING = (*DISTANCES, "policy_mse_nearest", "policy_mse_beside", "success", "value_gap", "agreement", "cells_visited",
            "travelled", "drift_target", "drift_beside", "sampled_steps")  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    development_lakes: tuple[AuditLake, ...] = DEVELOPMENT_LAKES
    held_out_lakes: tuple[AuditLake, ...] = HELD_OUT_LAKES
    seeds: tuple[int, int] = HELD_OUT_SEEDS
    quick: bool = False


FULL = Scale()
QUICK = Scale(
    tuple(lake for lake in DEVELOPMENT_LAKES if lake.key in ("random-5-0", "random-5-1-slippery")),
    tuple(
        lake
        for lake in HELD_OUT_LAKES
        if lake.key in ("random-5-700", "random-6-700", "random-5-800-slippery", "random-4-704")
    ),
    (HELD_OUT_SEEDS[0], 8),
    quick=True,
)


@dataclass(frozen=True, eq=False)
class Audit:
    """What the audit is of, its runs, and what they say.

    Attributes:
        scale: lakes and seeds.
        settings: of every protocol, by method.
        runs: a row per protocol, trial, lake and seed.
        development_runs: how many trainings the tuned settings were chosen from.
        findings: every claim with its cells.
        standing: where each method ends, a row per protocol and method.
    """

    scale: Scale
    settings: dict[str, dict[str, Settings]]
    runs: pd.DataFrame
    development_runs: int
    findings: list[Finding]
    standing: pd.DataFrame


def audit(folder: Path, quick: bool = False, jobs: int = -1) -> Audit:
    """Run what is missing in `folder`, and judge."""
    scale = QUICK if quick else FULL
    development = _development(folder / "development", scale, jobs)
    settings = protocol_settings(development, quick)
    runs = _held_out(folder / "held-out", scale, settings, jobs)
    return Audit(scale, settings, runs, len(development), findings(runs), standing(runs))


def protocol_settings(development: pd.DataFrame, quick: bool) -> dict[str, dict[str, Settings]]:
    """Every protocol's settings by method."""
    trials = tuning.development_trials(quick)
    named = {name: dict.fromkeys(PAPERS_ORDER, PROTOCOLS[name].settings) for name in PROTOCOLS}
    named["adam"] = {**named["adam"], "ppo": PROTOCOLS["adam"].settings}
    for name, distance in TUNED.items():
        named[name] = {method: trials[trial].settings for method, trial in tuning.chosen(development, distance).items()}
    return named


def trials_of(protocol: str, settings: dict[str, Settings], seeds: tuple[int, int]) -> dict[str, Trial]:
    """A protocol's methods at its settings, and in some protocols IFT's variants."""
    first, count = seeds
    chosen = {name: replace(each, seed=first, seeds=count, dtype="float32") for name, each in settings.items()}
    trials = {method: Trial(method, each) for method, each in chosen.items()}
    if protocol in WITH_VARIANTS:
        lams = LAMS if protocol != "adam" else LAMS[:1]
        names = (*VARIANTS, *(f"ift:lam={lam:g}" for lam in lams if lam != 0.2))
        trials |= named_trials(names, chosen["ift"])
    return trials


def _development(folder: Path, scale: Scale, jobs: int) -> pd.DataFrame:
    trials = tuning.development_trials(scale.quick)
    parts: dict[str, Part] = {}
    for lake in scale.development_lakes:
        for method in tuning.TUNED:
            of_method = {name: trial for name, trial in trials.items() if trial.method == method}
            parts[f"{lake.key}-{method}"] = (_development_part, (lake, of_method))
    return run_parts(folder, _definition(scale.development_lakes, {"development": trials}), parts, jobs)


def _development_part(lake: AuditLake, trials: dict[str, Trial]) -> pd.DataFrame:
    return sweep(lake.make(), trials).assign(lake=lake.key)


def _held_out(folder: Path, scale: Scale, settings: dict[str, dict[str, Settings]], jobs: int) -> pd.DataFrame:
    trials = {name: trials_of(name, each, scale.seeds) for name, each in settings.items()}
    # Protocols that start alike share a part, so that their start policies and optimal policies are made once.
    starting = {
        start: {name: named for name, named in trials.items() if named["sft"].settings.start == start}
        for start in ("both", "noisy")
    }
    parts: dict[str, Part] = {
        f"{lake.key}-{start}": (_held_out_part, (lake, of_start))
        for lake in scale.held_out_lakes
        for start, of_start in starting.items()
        if lake.second_way or start != "both"
    }
    runs = run_parts(folder, _definition(scale.held_out_lakes, trials), parts, jobs)
    order = {name: place for place, name in enumerate(COLUMNS)}
    return runs.iloc[np.argsort(runs["protocol"].map(order), kind="stable")].reset_index(drop=True)


def _held_out_part(lake: AuditLake, trials: dict[str, dict[str, Trial]]) -> pd.DataFrame:
    """The runs of protocols that start alike, and of those in `EQUAL_DISTANCE` the same at equal distance travelled."""
    made = lake.make()
    joint = {f"{name}|{method}": trial for name, named in trials.items() for method, trial in named.items()}
    with_curves = any(protocol in EQUAL_DISTANCE for protocol in trials)
    runs, curves = sweep_with_curves(made, joint, curves=with_curves)
    # A map of the names: to split them row by row would take as long as the training.
    places = {name: tuple(name.split("|")) for name in joint}
    runs, curves = (_with_protocols(rows, places) for rows in (runs, curves))
    frames = []
    for protocol, of_protocol in trials.items():
        rows = _of_protocol(runs, protocol)
        if protocol in EQUAL_DISTANCE:
            rows["cells_scored"] = _cells_scored(made, of_protocol, rows)
            equal = at_equal_distance(_of_protocol(curves, protocol).query("trial in @PAPERS_ORDER"))
            starts = rows[rows["trial"] == "sft"].set_index("seed")[[f"start_{metric}" for metric in DISTANCES]]
            frames.append(equal.join(starts, on="seed").assign(protocol=EQUAL_DISTANCE[protocol]))
        frames.append(rows)
    return pd.concat(frames, ignore_index=True).assign(lake=lake.key, slippery=lake.slippery)


def _with_protocols(rows: pd.DataFrame, places: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """Rows whose `trial` is PROTOCOL|TRIAL, as `protocol` and `trial`."""
    if rows.empty:
        return rows
    names = rows["trial"]
    protocols, trials = ({name: place[i] for name, place in places.items()} for i in range(2))
    return rows.assign(trial=names.map(trials), protocol=names.map(protocols))


def _of_protocol(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    return rows[rows["protocol"] == protocol].reset_index(drop=True)


def _cells_scored(lake: Lake, trials: dict[str, Trial], rows: pd.DataFrame) -> list[float]:
    """How many cells each run of the methods scores at its first update; NaN for variants."""
    cells = {name: scored_states(lake, t.method, t.settings).cells for name, t in trials.items() if ":" not in name}
    return [
        float(cells[trial][seed - trials[trial].settings.seed]) if trial in cells else float("nan")
        for trial, seed in zip(rows["trial"], rows["seed"], strict=True)
    ]


def at_equal_distance(curves: pd.DataFrame) -> pd.DataFrame:
    """Every run's curve where it has gone as far as the trial that goes least far from the same start.

    Returns:
        A row per `trial` and `seed` with `travelled` and the distances, linear between measured updates; a run whose
        numbers are not finite has NaN.
    """
    ends = curves.groupby(["seed", "trial"])["travelled"].max().unstack()
    least = ends.min(axis=1)
    rows = []
    for (trial, seed), curve in curves.groupby(["trial", "seed"], sort=False):
        there = float(least.loc[seed])  # type: ignore[call-overload]
        values = {metric: _first_at(curve["travelled"].to_numpy(), curve[metric].to_numpy(), there)
                  for metric in DISTANCES}  # fmt: skip
        rows.append({"trial": trial, "method": trial, "seed": seed, "travelled": there, **values})
    return pd.DataFrame(rows)


def _first_at(travelled: np.ndarray, values: np.ndarray, there: float) -> float:
    """`values` where `travelled` first reaches `there`, linear between its points; NaN if it never does."""
    beyond = np.flatnonzero(travelled >= there)
    if not len(beyond):
        return float("nan")
    at = int(beyond[0])
    if at == 0:
        return float(values[0])
    step = (there - travelled[at - 1]) / (travelled[at] - travelled[at - 1])
    return float(values[at - 1] + step * (values[at] - values[at - 1]))


def _definition(lakes: tuple[AuditLake, ...], trials: dict[str, dict[str, Trial]]) -> dict[str, Any]:
    """What fixes the numbers: lakes, defaults, and what each trial changes."""
    defaults = asdict(Settings())
    return {
        "lakes": [lake.key for lake in lakes],
        "defaults": defaults,
        "trials": {
            group: {
                name: {key: value for key, value in asdict(trial.settings).items() if value != defaults[key]}
                for name, trial in of_group.items()
            }
            for group, of_group in trials.items()
        },
    }


def standing(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over lakes of seeds' means for each protocol's methods, MSEs as shares of the start's; `stopped` counts."""
    rows = []
    for (protocol, method), table in runs[runs["trial"] == runs["method"]].groupby(["protocol", "method"], sort=False):
        means: dict[str, Any] = {"protocol": protocol, "method": method}
        for metric in STANDING:
            means[metric] = float(table.groupby("lake")[metric].mean().mean())
        means |= {metric: float(lake_means(table, str(method), metric).mean(axis=1).mean()) for metric in DISTANCES}
        rows.append({**means, "stopped": int((table["stopped_at_step"] >= 0).sum())})
    table = pd.DataFrame(rows)
    order = {name: place for place, name in enumerate(COLUMNS)}
    return table.sort_values("parameter_mse").sort_values("protocol", key=lambda names: names.map(order), kind="stable")


def development_summary(scale: Scale) -> str:
    """The development lakes and seeds in words."""
    first, count = DEVELOPMENT_SEEDS
    return f"{', '.join(lake.key for lake in scale.development_lakes)}; seeds {first} to {first + count - 1}"
