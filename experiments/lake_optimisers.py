"""The lake in words, and the length of the step: the paper's four methods at one learning rate, by each optimiser.

Every method starts from the same base models and takes as many updates with the same constant learning rate, once with
plain gradient descent and once with Adam. On the way it is measured how far the weights have gone from where they
began, and how far the model's policy is from the optimal one on maps that it has not seen. There are no optimal
*parameters* of a language model: the distance between parameters, which is the paper's, has no counterpart here.

`python -m figures lake-optimisers` draws the result. This command prints the table from which the learning rates were
chosen, on development maps and with a base model of their own.

Example:
  python -m experiments.lake_optimisers
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import command
from common.folders import private_folder, working_in
from experiments.base_models import base_folder

# What waits for pandas or PyTorch is imported in the functions that need it: `--help` and a bad option do not wait.
if TYPE_CHECKING:
    import pandas as pd
    import torch

    from common.parts import Part

PAPERS_METHODS = ("dpo", "ift", "orpo", "sft")  # in the paper's order
# The numbers of the lake's protocol `paper`; DPO also with a tenth of its β, which is a tenth of its step at the start.
TRIALS: dict[str, dict[str, Any]] = {
    "dpo": {"method": "dpo", "beta": 1.0},
    "ift": {"method": "ift", "lam": 0.2, "gamma": 0.95, "form": "sum"},
    "orpo": {"method": "orpo", "beta": 0.1},
    "sft": {"method": "sft"},
    "dpo:beta=0.1": {"method": "dpo", "beta": 0.1},
}
CANDIDATE_RATES = {"sgd": (0.003, 0.01, 0.03), "adamw_torch": (3e-4, 1e-3)}
# The largest of them at which each of the four methods ends nearer to the optimal value than the base model was, on
# development maps: so trainings move measurably, and none is thrown off by too long a step.
LEARNING_RATES = {"sgd": 0.003, "adamw_torch": 3e-4}
# A constant learning rate for all; gradients are clipped at a length that none has, so that they are not clipped.
SHARED: dict[str, Any] = {
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 1e9,
    "per_device_train_batch_size": 32,
}
SCORES = ("policy_mse", "value_gap", "success", "agreement")
METRICS = (*SCORES, "held_out_loss")
_MAPS_SEED = 11


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    seeds: tuple[int, ...] = (301, 302, 303, 304, 305)
    split: str = "test"
    base_updates: int = 200
    examples: int = 384
    points: tuple[int, ...] = (2, 4, 8, 16, 32)  # updates after which it is measured, even numbers
    maps: int = 80


FULL = Scale()
QUICK = Scale(seeds=(301, 302), base_updates=40, examples=64, points=(2, 4), maps=20)
DEVELOPMENT = Scale(seeds=(31,), split="dev", points=(8, 24))


def run(folder: Path, quick: bool, jobs: int) -> pd.DataFrame:
    """The held-out curves, from `folder` if they are there; see `curves`."""
    return curves(folder, QUICK if quick else FULL, {name: (rate,) for name, rate in LEARNING_RATES.items()}, jobs)


def curves(folder: Path, scale: Scale, rates: Mapping[str, tuple[float, ...]], jobs: int) -> pd.DataFrame:
    """A row per `optimiser`, `learning_rate`, `trial`, `seed` and `update` that is measured, 0 being the base model.

    The columns are `travelled` (length of the change of all weights), `METRICS` (means over unseen maps; the loss is
    SFT's on unseen optimal walks) and `gradient` (length of the first update's). After a training was stopped by a loss
    that is not finite, they are NaN.

    Raises:
        ValueError: `folder` holds results of something else, or cannot be written.
    """
    from common.parts import run_parts

    bases, base = folder / "base-models", _base_scores(folder, scale, jobs)
    parts: dict[str, Part] = {
        f"{optimiser}-{rate:g}-{trial.replace(':', '-')}-{seed}": (_train, (bases, seed, scale, optimiser, rate, trial))
        for seed in scale.seeds
        for optimiser, of_optimiser in rates.items()
        for rate in of_optimiser
        for trial in TRIALS
    }
    definition = {
        "scale": asdict(scale),
        "rates": dict(rates),
        "trials": TRIALS,
        "shared": SHARED,
        "maps_seed": _MAPS_SEED,
    }
    with working_in(bases):
        trained = run_parts(folder / "trainings", definition, parts, jobs)
    return _with_start(trained.drop(columns="part"), base.drop(columns="part"))


def _base_scores(folder: Path, scale: Scale, jobs: int) -> pd.DataFrame:
    """The base models, made if they are not there: a row with `METRICS` for each seed."""
    from common.parts import run_parts

    bases = folder / "base-models"
    definition = {"scale": {**asdict(scale), "points": ()}, "maps_seed": _MAPS_SEED}
    parts: dict[str, Part] = {f"{seed}": (_measure_base, (bases, seed, scale)) for seed in scale.seeds}
    with working_in(bases):
        scores = run_parts(folder / "base", definition, parts, jobs)
    for seed in scale.seeds:
        base_folder(bases, seed, scale.base_updates, scale.examples)  # in case someone removed it
    return scores


def _with_start(trained: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """The curves with their first point, which all that start from one base model share."""
    import pandas as pd

    names = ["optimiser", "learning_rate", "trial", "seed", "gradient"]
    first = trained[names].drop_duplicates().merge(base, on="seed").assign(update=0, travelled=0.0)
    whole = pd.concat([first, trained], ignore_index=True)
    return whole.sort_values([*names[:4], "update"], ignore_index=True)


def _measure_base(bases: Path, seed: int, scale: Scale) -> pd.DataFrame:
    command.quieten()
    import pandas as pd

    folder = base_folder(bases, seed, scale.base_updates, scale.examples)
    return pd.DataFrame([{"seed": seed, **_Measure(folder, scale).scores(folder)}])


def _train(bases: Path, seed: int, scale: Scale, optimiser: str, rate: float, trial: str) -> pd.DataFrame:
    """Train as the command does, with a checkpoint at every second update, and measure the points."""
    command.quieten()
    import pandas as pd
    from rich.console import Console

    from lm.train.settings import TrainSettings
    from lm.train.training import train
    from lm.trainers.examples import NonFiniteLossError

    base = base_folder(bases, seed, scale.base_updates, scale.examples)
    with private_folder(bases, "training") as private:
        out = private / "run"
        settings = TrainSettings(
            model=str(base),
            dataset=(str(base / "pairs.jsonl"),),
            output_dir=str(out),
            max_steps=scale.points[-1],
            save_steps=2,
            logging_steps=1,
            optim=optimiser,
            learning_rate=rate,
            seed=seed,
            trainer=(f"save_total_limit={scale.points[-1]}",),
            **SHARED,
            **TRIALS[trial],
        )
        with suppress(NonFiniteLossError):  # what it left until then is measured
            train(settings, Console(quiet=True))
        measure = _Measure(base, scale)
        rows = [{"update": point, **measure(out / f"checkpoint-{point}")} for point in scale.points]
        gradient = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])["grad_norm"]
    names = {"optimiser": optimiser, "learning_rate": rate, "trial": trial, "seed": seed, "gradient": gradient}
    return pd.DataFrame(rows).assign(**names)


class _Measure:
    """How far a model is from its base model, and from the optimum on unseen maps."""

    def __init__(self, base: Path, scale: Scale):
        import numpy as np

        from common.models import load_trained
        from lm.lake.maps import random_maps
        from lm.lake.policy import live_states
        from lm.train import data
        from lm.train.tokens import Cut, encode

        model, self.tokenizer = load_trained(str(base))
        self.start = [weights.detach() for weights in model.parameters()]
        self.letters = random_maps(scale.maps, scale.split, np.random.default_rng(_MAPS_SEED))
        self.states = live_states(self.letters)
        unseen = data.load((f"lake@{scale.split}:{scale.maps}",), False, _MAPS_SEED)
        self.tokens, _ = encode(unseen, self.tokenizer, Cut(256, 128))

    def __call__(self, folder: Path) -> dict[str, float]:
        """`travelled` and the scores of a checkpoint; NaN where there is none."""
        if not folder.is_dir():
            return dict.fromkeys(("travelled", *METRICS), float("nan"))
        return {"travelled": self._travelled(folder), **self.scores(folder)}

    def scores(self, folder: Path) -> dict[str, float]:
        """`METRICS` of a model's folder."""
        from lm.lake.policy import move_probs, score_policy

        model = self._model(folder)
        probs, _ = move_probs(model, self.tokenizer, self.letters, self.states)
        policy = score_policy(self.letters, self.states, probs)
        return {**{name: float(policy[name].mean()) for name in SCORES}, "held_out_loss": self._loss(model)}

    def _model(self, folder: Path) -> Any:
        import torch

        from common.models import load_weights

        return load_weights(str(folder), torch.float32).eval()

    def _travelled(self, folder: Path) -> float:
        pairs = zip(self._model(folder).parameters(), self.start, strict=True)
        return float(sum((now.detach() - before).double().square().sum() for now, before in pairs) ** 0.5)

    def _loss(self, model: Any) -> float:
        import torch

        import ift

        ids, labels = (self._padded(name, pad) for name, pad in (("input_ids", 0), ("labels", -100)))
        with torch.no_grad():
            log_probs = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
        targets = labels[:, 1:]
        of_targets = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return float(ift.sft_loss(of_targets, targets != -100).mean())

    def _padded(self, column: str, pad: int) -> torch.Tensor:
        """Padded on the right, where a causal model's earlier tokens do not see it."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        return pad_sequence([torch.tensor(row) for row in self.tokens[column]], batch_first=True, padding_value=pad)


def table(rows: pd.DataFrame) -> str:
    """Means over seeds at the last update, a row per optimiser, learning rate and trial."""
    last = rows[rows["update"] == rows["update"].max()]
    means = last.groupby(["optimiser", "learning_rate", "trial"], sort=False)[["gradient", "travelled", *METRICS]]
    start = rows[rows["update"] == 0][list(METRICS)].mean()
    return f"base models: {start.round(4).to_dict()}\n{means.mean().round(4).to_string()}"


@dataclass(frozen=True)
class CommandOptions:
    """Every method at several learning rates, on development maps and base models."""

    out: Path = Path("results/lake-optimisers-development")
    """Folder for the results; the same command continues with the results that are there."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def main() -> None:
    """The command."""
    command.main(_run, "interrupted: the same command goes on where it was")


def _run() -> None:
    options = command.parse(CommandOptions, "python -m experiments.lake_optimisers", __doc__)
    command.check_jobs(options.jobs)
    command.quieten()
    from common import models

    models.offline()
    print(table(curves(options.out, DEVELOPMENT, CANDIDATE_RATES, options.jobs)))


if __name__ == "__main__":
    # By its own name: processes that help import the functions from there.
    from experiments import lake_optimisers as module

    module.main()
