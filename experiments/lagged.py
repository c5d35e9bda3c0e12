"""IFT at SFT's price: lagged predictions beside fresh ones, on the lake in words, seed by seed.

Beside them stands IFT that does not mix at all. All start from the same base model of a seed and train for four epochs
with the same order of batches. A difference is taken within a seed; its interval (95 %, Student's t) is over seeds.

Example:
  python -m experiments.lagged --quick
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common import command
from common.folders import claim_folder, private_folder, working_in, write_whole
from experiments.base_models import base_folder

if TYPE_CHECKING:
    import pandas as pd

Flag = tyro.conf.FlagCreatePairsOff[bool]
SEEDS = tuple(range(301, 307))  # of base models and orders of batches; nothing was chosen on them
ARMS: dict[str, dict[str, Any]] = {
    "fresh": {"prediction": "greedy"},
    "lagged": {"prediction": "lagged"},
    "lagged, first epoch unmixed": {"prediction": "lagged", "first_predictions": "none"},
}
LAMS = (0.2, 0.5)
TRIALS = [*((arm, lam) for lam in LAMS for arm in ARMS), ("no mixing", 0.0)]
SCORES = {"success": 100.0, "state_value_gap": 1.0, "state_policy_mse": 1000.0}  # with the unit of the table
_MAPS_SEED = 11


@dataclass(frozen=True)
class Scale:
    """How much of everything; an update takes 32 examples."""

    seeds: tuple[int, ...] = SEEDS
    base_updates: int = 150
    examples: int = 256
    epochs: int = 4
    maps: int = 200


FULL = Scale()
QUICK = Scale(SEEDS[:2], base_updates=60, examples=64, epochs=2, maps=20)


def compare(out: Path, quick: bool, jobs: int) -> pd.DataFrame:
    """Scores of every arm, `lam`, seed and map, from `out` if they are there.

    Raises:
        ValueError: `out` holds results of something else, or cannot be written.
    """
    from dataclasses import asdict

    from common.parts import Part, run_parts

    scale, bases = QUICK if quick else FULL, out / "base-models"
    with working_in(out):
        claim_folder(out, {"scale": asdict(scale), "arms": ARMS, "trials": TRIALS})
        parts: dict[str, Part] = {
            f"{seed}-{number}": (_train_and_score, (arm, lam, bases, seed, scale))
            for seed in scale.seeds
            for number, (arm, lam) in enumerate(TRIALS)
        }
        with working_in(bases):
            return run_parts(out / "arms", {"scale": asdict(scale), "maps_seed": _MAPS_SEED}, parts, jobs)


def _train_and_score(arm: str, lam: float, bases: Path, seed: int, scale: Scale) -> pd.DataFrame:
    command.quieten()
    import numpy as np
    from rich.console import Console

    from common.models import load_trained
    from lm.lake.maps import random_maps
    from lm.lake.scores import score_model
    from lm.train.settings import TrainSettings
    from lm.train.training import train

    base = base_folder(bases, seed, scale.base_updates, scale.examples)
    with private_folder(bases, "training") as folder:
        settings = TrainSettings(
            method="ift", model=str(base), dataset=(str(base / "pairs.jsonl"),), output_dir=str(folder / "run"),
            num_train_epochs=scale.epochs, per_device_train_batch_size=32, save_steps=10**6, learning_rate=5e-4,
            seed=seed, lam=lam, **ARMS.get(arm, {}),
        )  # fmt: skip
        train(settings, Console(quiet=True))
        model, tokenizer = load_trained(str(folder / "run" / "model"))
    letters = random_maps(scale.maps, "test", np.random.default_rng(_MAPS_SEED))
    scores = score_model(model, tokenizer, letters)
    return scores[list(SCORES)].assign(arm=arm, lam=lam, seed=seed, map=range(len(letters)))


def differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Each arm's means, and its difference from fresh predictions with the half width of its interval (95 %).

    Without mixing there is no λ: it stands beside fresh predictions at the first λ.
    """
    import pandas as pd
    from scipy.stats import t

    rows = []
    means = scores.groupby(["lam", "arm", "seed"], sort=False)[list(SCORES)].mean() * pd.Series(SCORES)
    arms = {key: rows.droplevel(["lam", "arm"]) for key, rows in means.groupby(["lam", "arm"], sort=False)}
    for (lam, arm), here in arms.items():
        gain = here - arms[lam or LAMS[0], "fresh"]
        half = gain.sem() * t.ppf(0.975, len(gain) - 1)
        for score in SCORES:
            numbers = {"mean": here[score].mean(), "difference": gain[score].mean(), "half": half[score]}
            rows.append({"lam": lam, "arm": arm, "score": score, "seeds": len(gain), **numbers})
    return pd.DataFrame(rows)


def table(found: pd.DataFrame) -> str:
    """The differences in Markdown, a row per λ and arm."""
    lines = [
        "| λ | predictions | success, % | beside fresh | value gap | beside fresh | policy MSE ×10⁻³ | beside fresh |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (lam, arm), rows in found.groupby(["lam", "arm"], sort=False):
        cells = []
        for score, digits in (("success", 1), ("state_value_gap", 3), ("state_policy_mse", 2)):
            row = rows[rows["score"] == score].iloc[0]
            beside = f"{row['difference']:+.{digits}f} ± {row['half']:.{digits}f}" if arm != "fresh" else "–"
            cells += [f"{row['mean']:.{digits}f}", beside]
        lines.append(f"| {lam:g} | {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class CommandOptions:
    """Lagged predictions beside fresh ones, on the lake in words."""

    out: Path = Path("results/lagged")
    """Folder for the results; the same command goes on with what is there."""
    quick: Flag = False
    """Fewer seeds, maps and updates, in a folder beside it."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def run() -> None:
    """Parse, run what is missing, and print the table."""
    options = command.parse(CommandOptions, "python -m experiments.lagged", __doc__)
    command.check_jobs(options.jobs)
    command.quieten()
    from common import models

    models.offline()
    out = options.out.parent / "quick" / options.out.name if options.quick else options.out
    with working_in(out):
        found = differences(compare(out, options.quick, options.jobs))
        write_whole(out / "lagged.csv", lambda file: found.round(5).to_csv(file, index=False))
    print(table(found))
    print(f"Written to {out}")


def main() -> None:
    """The command."""
    command.main(run, "interrupted: the same command goes on where it was")


if __name__ == "__main__":
    # By its own name: processes that help import the functions from there.
    from experiments import lagged as module

    module.main()
