"""Every method tuned alike on development lakes and scored once on held-out ones, in every protocol.

The runs of this project's methods ship with it (`benchmark.csv`), so that a new method is compared with all of them for
the price of its own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common.folders import claim_folder, working_in, write_json, write_whole
from common.parts import Part, run_parts
from experiments.lakes import DEVELOPMENT_LAKES, AuditLake
from ift import METHODS
from toy import Settings, Trial, protocol, sweep

PROTOCOL_NAMES = ("paper", "paper-adam", "adam")
DISTANCES = ("parameter_mse", "policy_mse")
SCORES = ("success", "value_gap", "policy_mse_beside", "drift_target", "drift_beside")
STEP_SIZES = {"sgd": (0.3, 10.0), "adam": (0.1, 10 / 3)}  # as multiples of the protocol's, smallest and largest
NUMBERS = (0.25, 4.0)  # a method's own number is drawn as a multiple of its default, within its range

# Maps of Gymnasium's generator from number 900 (slippery: 950): the first two of each size with a second way.
_SIZES = range(4, 9)
_SECOND_ON_ICE = {4: 952, 5: 951, 6: 951, 7: 952, 8: 951}
HELD_OUT_LAKES = tuple(
    AuditLake(f"random:{size}:{(_SECOND_ON_ICE[size] if second else 950) if slippery else 900 + second}", slippery)
    for second in (False, True)
    for size in _SIZES
    for slippery in (False, True)
)
SHIPPED = Path(__file__).with_name("benchmark.csv")
FORMAT = 1  # of that file


@dataclass(frozen=True)
class Scale:
    """How much of everything; the settings that a method chooses from are `step_sizes` × `draws`."""

    development: tuple[str, ...]  # keys of lakes
    held_out: int  # of `HELD_OUT_LAKES`, the first
    step_sizes: int
    draws: int
    development_seeds: tuple[int, int] = (0, 8)  # first, how many
    held_out_seeds: tuple[int, int] = (62_000, 8)


FULL = Scale(("random-5-0", "random-5-1-slippery"), 5, 4, 2)
QUICK = Scale(("random-5-0", "random-5-1-slippery"), 4, 2, 2)


def candidates(method: str, scale: Scale) -> dict[str, Trial]:
    """The settings that a method may choose from, as many for each method and protocol, `PROTOCOL/METHOD/NUMBER`.

    The first draw of a method's own numbers is its defaults. A method without any has more step sizes in their place.
    """
    trials: dict[str, Trial] = {}
    generator = np.random.default_rng(list(hashlib.sha256(method.encode()).digest()))
    tunable = [number for number in METHODS[method].numbers if number.lake]  # what is 0 stays 0
    for name in PROTOCOL_NAMES:
        settings = replace(protocol(name), dtype="float32")
        low, high = (settings.lr * factor for factor in STEP_SIZES[settings.optimizer])
        draws = scale.draws if tunable else 1
        for lr in np.geomspace(low, high, scale.step_sizes * scale.draws // draws):
            for draw in range(draws):
                words = _drawn(settings, method, generator) if draw else ()
                each = replace(settings, lr=float(f"{lr:.3g}"), numbers=(*settings.numbers, *words))
                trials[f"{name}/{method}/{sum(key.startswith(f'{name}/') for key in trials)}"] = Trial(method, each)
    return trials


def _drawn(settings: Settings, method: str, generator: np.random.Generator) -> tuple[str, ...]:
    """A value for each number of a method: its default times what is drawn, within its range."""
    words = []
    for number in METHODS[method].numbers:
        default = settings.number(METHODS[method], number.name)
        value = float(f"{default * np.exp(generator.uniform(*np.log(NUMBERS))):.3g}")
        value = min(max(value, number.low), number.high)
        words.append(f"{method}.{number.name}={round(value) if number.whole else value}")
    return tuple(words)


def benchmark(out: Path, methods: Iterable[str], quick: bool, jobs: int) -> pd.DataFrame:
    """The held-out scores of methods, from `out` if they are there: a row per protocol, method and lake.

    Columns: `settings` (what was chosen on the development lakes), the distances and scores, means over seeds, and
    `start_…`, those of the start policies. A score is NaN if a run was stopped.
    """
    scale, methods = QUICK if quick else FULL, tuple(methods)
    trials = {key: trial for method in methods for key, trial in candidates(method, scale).items()}
    lakes = [lake for lake in DEVELOPMENT_LAKES if lake.key in scale.development]
    with working_in(out):
        claim_folder(out, {"scale": asdict(scale), "methods": methods, **METHODS.from_outside(methods)})
        development = _run(out / "development", lakes, trials, scale.development_seeds, jobs)
        chosen = _choose(development, trials)
        rows = _run(out / "held-out", HELD_OUT_LAKES[: scale.held_out], chosen, scale.held_out_seeds, jobs)
    rows["settings"] = [_in_words(chosen[trial]) for trial in rows["trial"]]
    return rows.drop(columns=["trial", "part"])


def _run(
    folder: Path, lakes: Iterable[AuditLake], trials: Mapping[str, Trial], seeds: tuple[int, int], jobs: int
) -> pd.DataFrame:
    """Means over seeds of every trial on every lake; a part is a protocol on a lake."""
    parts: dict[str, Part] = {}
    for lake in lakes:
        for name in PROTOCOL_NAMES:
            of_protocol = {
                key: replace(trial, settings=replace(trial.settings, seed=seeds[0], seeds=seeds[1]))
                for key, trial in trials.items()
                if key.startswith(f"{name}/")
            }
            parts[f"{name}-{lake.key}"] = (_train, (lake, name, of_protocol))
    settings = {key: [trial.method, _in_words(trial)] for key, trial in trials.items()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return run_parts(folder, {"settings": digest, "lakes": [lake.key for lake in lakes], "seeds": seeds}, parts, jobs)


def _train(lake: AuditLake, name: str, trials: dict[str, Trial]) -> pd.DataFrame:
    torch.set_num_threads(1)  # the processes share the cores
    runs = sweep(lake.make(), trials)
    columns = [*DISTANCES, *SCORES]
    columns = [*columns, *(f"start_{column}" for column in columns)]
    for column in columns:  # a trial with a run that was stopped has no mean
        runs[column] = runs[column].fillna(np.inf)
    means = runs.groupby(["trial", "method"], sort=False)[columns].mean().replace(np.inf, np.nan)
    return means.reset_index().assign(protocol=name, lake=lake.key)


def _choose(development: pd.DataFrame, trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Each method's trial in each protocol that comes closest to the optimum in both distances.

    Closest is the smallest mean over lakes of the logarithms of both distances, each beside the start's.
    """
    share = pd.concat([development[name] / development[f"start_{name}"] for name in DISTANCES], axis=1)
    logs = share.apply(np.log).sum(axis=1, skipna=False)
    scores = logs.groupby(development["trial"], sort=False).agg(lambda values: values.mean(skipna=False))
    rows = pd.DataFrame({"score": scores.fillna(np.inf)})
    rows["group"] = [name.rpartition("/")[0] for name in rows.index]
    best = rows.groupby("group", sort=False)["score"].idxmin()
    return {str(name): trials[str(name)] for name in best}


def _in_words(trial: Trial) -> str:
    numbers = trial.settings.numbers_of(METHODS[trial.method])
    return ", ".join([f"step size {trial.settings.lr:g}", *(f"{name} {value:g}" for name, value in numbers.items())])


@dataclass(frozen=True, eq=False)
class Shipped:
    """Held-out rows of this project's methods, and the time of an update of each as a multiple of SFT's."""

    rows: pd.DataFrame
    costs: dict[str, float]


def together(known: Shipped | None, new: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of all methods, on the lakes that all of them have."""
    frames = ([known.rows] if known is not None else []) + ([new] if new is not None else [])
    lakes = set.intersection(*(set(rows["lake"]) for rows in frames))
    rows = pd.concat(frames, ignore_index=True)
    return rows[rows["lake"].isin(lakes)].reset_index(drop=True)


def without(known: Shipped, methods: Iterable[str]) -> Shipped:
    """What ships of all other methods."""
    names = set(methods)
    costs = {name: cost for name, cost in known.costs.items() if name not in names}
    return Shipped(known.rows[~known.rows["method"].isin(names)], costs)


def ship(rows: pd.DataFrame, costs: Mapping[str, float], file: Path = SHIPPED) -> None:
    """Write what ships with the project: held-out rows of the full scale, and what they are of beside them."""
    first = ["method", "protocol", "lake", "settings"]
    ordered = rows[[*first, *(column for column in rows.columns if column not in first)]]
    text = ordered.to_csv(index=False, float_format="%.6g")
    record = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "costs": {k: round(v, 2) for k, v in costs.items()}}
    with working_in(file.parent):
        write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))
        write_json(file.with_suffix(".json"), {**_definition(), **record})


def shipped(file: Path = SHIPPED) -> Shipped:
    """What ships.

    Raises:
        ValueError: a file that is not there, was changed, or is of another scale than today's.
    """
    again = "make it again with `python -m toy.benchmark --method all --ship`"
    try:
        text = file.read_text(encoding="utf-8")
        record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file.name} cannot be read: {again}") from error
    if record.pop("sha256", "") != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError(f"{file.name} is not the file that {file.stem}.json describes: {again}")
    costs = record.pop("costs", {})
    if record != json.loads(json.dumps(_definition())):
        raise ValueError(f"{file.name} is of another scale than today's: {again}")
    return Shipped(pd.read_csv(StringIO(text)), costs)


def _definition() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "scale": asdict(FULL),
        "held_out": [lake.key for lake in HELD_OUT_LAKES[: FULL.held_out]],
        "protocols": PROTOCOL_NAMES,
        "step_sizes": STEP_SIZES,
        "numbers": NUMBERS,
    }
