"""Every method on the lake in words: from the same base models, as many updates, as many settings to choose from.

Settings are chosen on development maps with base models of their own; the chosen ones then train on other base models,
and play maps that nothing was chosen on, once. `python -m figures lake-language` draws the result.

Example:
  python -m experiments.lake_language --quick
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common import command
from common.folders import claim_folder, private_folder, working_in
from experiments.base_models import base_folder
from ift import METHODS, Method

# What waits for pandas or PyTorch is imported in the functions that need it: `--help` and a bad option do not wait.
if TYPE_CHECKING:
    import pandas as pd

    from common.parts import Part

Flag = tyro.conf.FlagCreatePairsOff[bool]
Options = dict[str, Any]
_OWN: dict[str, tuple[Options, ...]] = {  # two values of a method's own number, where it has one
    "sft": ({},),
    "ift": ({"lam": 0.1}, {"lam": 0.3}),
    "dft": ({},),
    "dpo": ({"beta": 0.1}, {"beta": 0.5}),
    "ipo": ({"beta": 0.1}, {"beta": 0.5}),
    "orpo": ({"beta": 0.1}, {"beta": 0.5}),
    "kto": ({"beta": 0.1}, {"beta": 0.5}),
    "simpo": ({"beta": 1.0}, {"beta": 2.5}),
}
COMPARED = tuple(_OWN)
VARIANTS: dict[str, Options] = {  # of IFT at its chosen settings, named as on the lake
    "ift:lam=0.2": {"lam": 0.2},
    "ift:lam=0": {"lam": 0.0},
    "ift:gamma=0": {"gamma": 0.0},
    "ift:form=sum": {"form": "sum"},
}
LEARNING_RATES = (4e-5, 2.5e-3)  # from, to, log-spaced
CHOSEN_BY = {  # the score by which settings are chosen on development maps; less is better
    "tuned (policies)": "state_policy_mse",
    "tuned (value)": "state_value_gap",
}
TEST = "test maps"
# Sets of maps: how `random_maps` makes them; the last also has its first move made, wrongly.
WRONG_FIRST = "wrong first move"
OTHERS: dict[str, Options] = {
    "5×5": {"size": 5},
    "6×6": {"size": 6},
    "more holes": {"holes": 0.4},
    "new ends": {"new_ends": True},
    WRONG_FIRST: {},
}
_MAPS_SEED = 7


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    development_seeds: tuple[int, ...] = (1, 2)
    held_out_seeds: tuple[int, ...] = (101, 102, 103, 104, 105)
    learning_rates: int = 4
    base_updates: int = 500
    updates: int = 48
    examples: int = 512
    maps: int = 300
    other_maps: int = 100


FULL = Scale()
QUICK = Scale((1,), (101, 102), learning_rates=1, base_updates=150, updates=24, examples=256, maps=100, other_maps=50)


@dataclass(frozen=True)
class Candidate:
    """A method with the settings that differ from the rest."""

    method: str
    options: Options

    @property
    def name(self) -> str:
        return " ".join([self.method, *(f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                                        for key, value in self.options.items())])  # fmt: skip


def compare(out: Path, quick: bool, jobs: int, more: tuple[str, ...] = ()) -> pd.DataFrame:
    """All held-out scores, from `out` if they are there: a row per protocol, trial, seed, set of maps and map.

    `more` are methods beside those of `COMPARED`; each has parts of its own, so that the others are not made again.
    `trial` is a method, a variant of IFT, or `base`; `settings` what it was trained with; the rest is `score_model`'s.

    Raises:
        ValueError: `out` holds results of something else, or cannot be written.
    """
    scale = QUICK if quick else FULL
    groups = {"": COMPARED, **{f"-{name}": (name,) for name in more}}
    candidates = {
        suffix: [trial for method in methods for trial in settings_of(method, scale.learning_rates)]
        for suffix, methods in groups.items()
    }
    return compare_candidates(out, scale, jobs, candidates)


def compare_candidates(out: Path, scale: Scale, jobs: int, groups: dict[str, list[Candidate]]) -> pd.DataFrame:
    """As `compare`, for any settings to choose from; the parts of a group stand in folders that end in its name."""
    with working_in(out):
        claim_folder(out, {"scale": asdict(scale)})
        return _compare(out, scale, jobs, groups)


def _compare(out: Path, scale: Scale, jobs: int, groups: dict[str, list[Candidate]]) -> pd.DataFrame:
    import pandas as pd

    from common.parts import run_parts

    common = {"scale": asdict(scale), "maps_seed": _MAPS_SEED}
    bases = out / "base-models"
    make: dict[str, Part] = {
        f"{split}-{seed}": (_score_base, (bases, seed, scale, split))
        for split, seeds in (("dev", scale.development_seeds), ("test", scale.held_out_seeds))
        for seed in seeds
    }
    with working_in(bases):
        base = run_parts(out / "base", common, make, jobs)
    for seed in (*scale.development_seeds, *scale.held_out_seeds):
        base_folder(bases, seed, scale.base_updates, scale.examples)  # in case someone removed it
    base = base[base["part"].str.startswith("test")].assign(trial="base", settings="")
    frames: dict[str, list[pd.DataFrame]] = {protocol: [base.assign(protocol=protocol)] for protocol in CHOSEN_BY}
    for suffix, candidates in groups.items():
        known = {**common, **METHODS.from_outside(dict.fromkeys(trial.method for trial in candidates))}
        development = trained(out / f"development{suffix}", known, candidates, "dev", scale, bases, jobs)
        chosen = {protocol: _choose(development, candidates, score) for protocol, score in CHOSEN_BY.items()}
        wanted = {protocol: _with_variants(trials) for protocol, trials in chosen.items()}
        distinct = {trial.name: trial for trials in wanted.values() for trial in trials.values()}
        scores = trained(out / f"held-out{suffix}", known, distinct.values(), "test", scale, bases, jobs)
        for protocol, trials in wanted.items():
            frames[protocol] += [
                scores[scores["settings"] == trial.name].assign(protocol=protocol, trial=name)
                for name, trial in trials.items()
            ]
    return pd.concat([rows for each in frames.values() for rows in each], ignore_index=True).drop(columns="part")


def settings_of(method: str, learning_rates: int) -> list[Candidate]:
    """The settings that a method may choose from: twice as many as `learning_rates`, for every method.

    Those without a number of their own have twice as many step sizes, in the same range.
    """
    import numpy as np

    own = _OWN.get(method) or _two_values(METHODS[method])
    count = 2 * learning_rates // len(own)
    rates = np.geomspace(*LEARNING_RATES, count) if count > 1 else [math.sqrt(math.prod(LEARNING_RATES))]
    return [Candidate(method, {"learning_rate": float(f"{rate:.2g}"), **options}) for rate in rates for options in own]


def _two_values(method: Method) -> tuple[Options, ...]:
    """Half and twice the default of the first number of a method that the loss takes, if it has one."""
    for name in method.loss_numbers:
        number = method.number(name)
        values = [value for value in (number.text / 2, number.text * 2) if number.holds(value) and value]
        if len(values) == 2:
            return tuple({"method_numbers": (f"{name}={value:g}",)} for value in values)
    return ({},)


def trained(
    folder: Path, common: Options, trials: Iterable[Candidate], split: str, scale: Scale, bases: Path, jobs: int
) -> pd.DataFrame:
    """Scores of all trials on all seeds of a split."""
    from common.parts import run_parts

    trials = list(trials)
    seeds = scale.development_seeds if split == "dev" else scale.held_out_seeds
    parts: dict[str, Part] = {
        f"{number:03}-{seed}": (_train_and_score, (trial, bases, seed, scale, split))
        for number, trial in enumerate(trials)
        for seed in seeds
    }
    with working_in(bases):
        return run_parts(folder, {**common, "trials": [asdict(trial) for trial in trials]}, parts, jobs)


def _choose(development: pd.DataFrame, trials: list[Candidate], score: str) -> dict[str, Candidate]:
    """Each method's best settings, mean over seeds and maps; none with a training that was stopped."""
    means = (
        development.groupby("settings", sort=False)[score].agg(lambda rows: rows.mean(skipna=False)).fillna(math.inf)
    )
    return {
        method: min((trial for trial in trials if trial.method == method), key=lambda trial: float(means[trial.name]))
        for method in dict.fromkeys(trial.method for trial in trials)
    }


def _with_variants(chosen: dict[str, Candidate]) -> dict[str, Candidate]:
    """The chosen trials by method, and IFT's with one thing changed."""
    if "ift" not in chosen:
        return chosen
    ift = chosen["ift"].options
    return {**chosen, **{name: Candidate("ift", {**ift, **changed}) for name, changed in VARIANTS.items()}}


def _score_base(bases: Path, seed: int, scale: Scale, split: str) -> pd.DataFrame:
    command.quieten()
    folder = base_folder(bases, seed, scale.base_updates, scale.examples)
    return _scores(folder, scale, split).assign(seed=seed)


def _train_and_score(trial: Candidate, bases: Path, seed: int, scale: Scale, split: str) -> pd.DataFrame:
    command.quieten()
    from rich.console import Console

    from lm.train.settings import TrainSettings
    from lm.train.training import train
    from lm.trainers.examples import NonFiniteLossError

    base = base_folder(bases, seed, scale.base_updates, scale.examples)
    with private_folder(bases, "training") as folder:
        settings = TrainSettings(
            method=trial.method,
            model=str(base),
            dataset=(str(base / "pairs.jsonl"),),
            output_dir=str(folder / "run"),
            max_steps=scale.updates,
            per_device_train_batch_size=32,
            save_steps=10**6,
            seed=seed,
            **trial.options,
        )
        try:
            train(settings, Console(quiet=True))
            scores = _scores(folder / "run" / "model", scale, split)
        except NonFiniteLossError:  # its maps, without scores
            scores = _scores(base, scale, split)
            scores = scores[["outcome", "set", "map"]].reindex(columns=scores.columns)
    return scores.assign(seed=seed, settings=trial.name)


def _scores(folder: Path, scale: Scale, split: str) -> pd.DataFrame:
    """A model on the maps of a split: test maps on all sets, development maps on the first."""
    import numpy as np
    import pandas as pd

    from common.models import load_trained
    from lm.lake.maps import random_maps, wrong_first_moves
    from lm.lake.scores import score_model

    model, tokenizer = load_trained(str(folder))
    frames = []
    for number, (name, options) in enumerate({TEST: {}, **(OTHERS if split == "test" else {})}.items()):
        generator = np.random.default_rng([_MAPS_SEED, number])
        letters = random_maps(
            scale.maps if name in (TEST, WRONG_FIRST) else scale.other_maps, split, generator, **options
        )
        first_moves = None
        if name == WRONG_FIRST:
            first_moves = wrong_first_moves(letters)
            letters, first_moves = letters[first_moves >= 0], first_moves[first_moves >= 0]
        scores = score_model(model, tokenizer, letters, first_moves=first_moves).drop(columns="walk")
        frames.append(scores.assign(set=name, map=range(len(letters))))
    return pd.concat(frames, ignore_index=True)


def table(scores: pd.DataFrame) -> str:
    """Means over maps and seeds with the standard error over seeds, a row per protocol and trial."""
    import pandas as pd

    columns: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
        "policy MSE ×10⁻³": lambda rows: 1000 * rows["state_policy_mse"],
        "success %": lambda rows: 100 * rows["success"],
        "sampled %": lambda rows: 100 * rows["success_sampled"],
        "value gap": lambda rows: rows["state_value_gap"],
    }
    parts = {name: (TEST, column) for name, column in columns.items()}
    parts |= {f"{name} %": (name, columns["success %"]) for name in OTHERS}
    cells = {}
    for title, (name, column) in parts.items():
        rows = scores[scores["set"] == name]
        by_seed = rows.assign(value=column(rows)).groupby(["protocol", "trial", "seed"], sort=False)["value"].mean()
        groups = by_seed.groupby(["protocol", "trial"], sort=False)
        digits = 3 if title == "value gap" else 1
        cells[title] = [f"{m:.{digits}f} ± {s:.{digits}f}" for m, s in zip(groups.mean(), groups.sem(), strict=True)]
        index = groups.mean().index
    return pd.DataFrame(cells, index=index).to_string()


@dataclass(frozen=True)
class CommandOptions:
    """Every method from the same base models, with the same number of updates and of settings to choose from."""

    out: Path = Path("results/figures/lake-language-runs")
    """Folder for the results; the same command continues there. `python -m figures lake-language` draws
    them."""
    quick: Flag = False
    """Fewer seeds, maps and settings, in a folder beside it."""
    jobs: int = -1
    """Processes; -1 takes every core."""
    method: tuple[str, ...] = ()
    """Other methods to compare, also FILE.py:NAME of your own; what the folder has of the others is not made again."""


def run() -> None:
    """Parse, run what is missing and print the table."""
    options = command.parse(CommandOptions, "python -m experiments.lake_language", __doc__)
    command.check_jobs(options.jobs)
    from lm.train.trainable import require_trainable

    more = tuple(name for name in map(require_trainable, options.method) if name not in COMPARED)
    command.quieten()
    from common import models

    models.offline()
    out = options.out.parent / "quick" / options.out.name if options.quick else options.out
    print(table(compare(out, options.quick, options.jobs, more)))
    print(f"Written to {out}")


def main() -> None:
    """The command."""
    command.main(run, "interrupted: the same command goes on where it was")


if __name__ == "__main__":
    # By its own name: processes that help import the functions from there.
    from experiments import lake_language as module

    module.main()
