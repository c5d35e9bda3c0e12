"""How much of the paper's order is the length of the step: every method at many step sizes, by distance travelled."""

from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common.parts import Part, run_parts
from experiments.audit import at_equal_distance
from experiments.claims import DISTANCES, PAPERS_ORDER
from ift import METHODS
from toy import Lake, Settings, Trial, protocol
from toy.objectives import draw, objective
from toy.policy import Policy
from toy.stages import Problem, fine_tune, make_task, start_policies
from toy.sweeps import sweep_with_curves

LAKES = ("ring", "SFFFF/FHHHF/FHHHF/FFFGF", "4x4")
STEP_SIZES = {
    "sgd": (0.003, 0.006, 0.01, 0.02, 0.03, 0.06, 0.1, 0.2),
    "adam": (1e-4, 2e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3, 6e-3),
}
EQUAL_STEP = {"sgd": 0.03, "adam": 1e-3}  # of the protocols paper and paper-adam
FIRST_SEED = 140_000  # seeds that nothing was chosen on


@dataclass(frozen=True, eq=False)
class StepLength:
    """What came out.

    Attributes:
        runs: a row per lake, optimizer, lr, method and seed, with the distances to the optimum, `travelled`, and the
            start's distances as `start_METRIC`.
        curves: the learning curves of the runs at the equal step, with `lake` and `optimizer`.
        gradients: the gradient's `norm` per lake, method, seed and policy (`at`: the start, or where SFT's training
            ends), and how many times SFT's it is `predicted` to be.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    gradients: pd.DataFrame


def step_length(folder: Path, quick: bool, jobs: int) -> StepLength:
    """Run what is missing in `folder`."""
    lakes, seeds = (LAKES[:1], 8) if quick else (LAKES, 100)
    sizes = {name: steps[1::2] if quick else steps for name, steps in STEP_SIZES.items()}
    sizes = {name: tuple(sorted({*steps, EQUAL_STEP[name]})) for name, steps in sizes.items()}
    settings = replace(protocol("paper"), seeds=seeds, seed=FIRST_SEED, dtype="float32")
    definition = {"lakes": lakes, "step_sizes": sizes, "settings": asdict(settings)}
    common = {"lakes": lakes, "settings": asdict(settings)}
    trained: dict[str, Part] = {
        f"{place}-{name}-{lr:g}": (_train, (lake, settings, name, lr))
        for (place, lake), name in product(enumerate(lakes), sizes)
        for lr in sizes[name]
    }
    measured: dict[str, Part] = {f"{place}": (_gradients, (lake, settings)) for place, lake in enumerate(lakes)}
    everything = run_parts(folder / "trainings", definition, trained, jobs)
    runs, curves = (everything[everything["kind"] == kind].drop(columns=["kind", "part"]) for kind in ("run", "curve"))
    gradients = run_parts(folder / "gradients", common, measured, jobs)
    return StepLength(runs.dropna(axis=1, how="all"), curves.dropna(axis=1, how="all"), gradients)


def _train(lake: str, settings: Settings, optimizer: Any, lr: float) -> pd.DataFrame:
    """All methods at one step size: their runs, and at the equal step their curves."""
    changed = replace(settings, optimizer=optimizer, lr=lr)
    trials = {method: Trial(method, changed) for method in PAPERS_ORDER}
    runs, curves = sweep_with_curves(Lake.make(lake), trials)
    columns = ["method", "seed", "travelled", "success", *DISTANCES, *(f"start_{metric}" for metric in DISTANCES)]
    frames = [runs[columns].assign(kind="run")]
    if lr == EQUAL_STEP[optimizer]:
        frames.append(curves.assign(kind="curve"))
    return pd.concat(frames, ignore_index=True).assign(lake=lake, optimizer=optimizer, lr=lr)


def _gradients(lake: str, settings: Settings) -> pd.DataFrame:
    """Length of each method's gradient, at the start and where SFT's training ends, and as its form predicts."""
    problem = Problem.of(Lake.make(lake), settings.shared())
    seeds = range(settings.seed, settings.seed + settings.seeds)
    start, _ = start_policies(problem, seeds)
    after_sft = fine_tune(problem, METHODS["sft"], {}, start, seeds).policy
    steps = int(problem.target_trajectories.mask.sum(1).max())
    frames = []
    for at, where in (("start", start), ("after sft", after_sft)):
        for method in PAPERS_ORDER:
            numbers = settings.numbers_of(METHODS[method])
            task = make_task(problem, METHODS[method], numbers, start, seeds)
            policy = Policy(*(part.clone().requires_grad_() for part in where))
            parts = torch.autograd.grad(objective(policy, task, draw(policy, task)).sum(), policy)
            norm = torch.cat([part.flatten(1) for part in parts], dim=1).norm(dim=1).double().numpy()
            columns = {"at": at, "method": method, "seed": list(seeds), "norm": norm}
            frames.append(pd.DataFrame(columns).assign(predicted=predicted_factor(method, steps, settings)))
    return pd.concat(frames, ignore_index=True).assign(lake=lake, target_steps=steps)


def predicted_factor(method: str, steps: int, settings: Settings) -> float:
    """How much longer than SFT's a gradient should be, from the form of the loss alone, on a target of so many steps.

    SFT averages over the N steps. IFT's sum gives the k-th of them the weight 1 + γ + … + γ^k: the mean of these, if
    all steps have gradients of one length. DPO sums in place of averaging, and at the start has the slope β σ(0) = β/2:
    N β/2, its negatives left out. ORPO is SFT plus a term of β times the slope of a logarithm of odds: 1 + β.
    """
    if method == "ift":
        gamma = settings.number(METHODS["ift"], "gamma")
        return float(np.mean([sum(gamma**j for j in range(k + 1)) for k in range(steps)]))
    if method == "dpo":
        return steps * settings.number(METHODS["dpo"], "beta") / 2
    return 1 + settings.number(METHODS["orpo"], "beta") if method == "orpo" else 1.0


def rankings(result: StepLength) -> pd.DataFrame:
    """Distances at equal steps, at equal distance travelled and at equal loss on the target, per run.

    A row per `lake`, `optimizer`, `basis`, `method` and `seed`. Equal distance: where each curve has gone as far as the
    one that goes least far. Equal loss: where each curve has first come down to the largest of the last losses.
    """
    frames = []
    for (lake, optimizer), curves in result.curves.groupby(["lake", "optimizer"], sort=False):
        last = curves[curves["step"] == curves["step"].max()]
        by_loss = curves.assign(travelled=-curves["target_loss"])
        for basis, rows in (
            ("equal steps", last.rename(columns={"trial": "method"})[["method", "seed", *DISTANCES]]),
            ("equal distance travelled", at_equal_distance(curves)),
            ("equal loss on the target", at_equal_distance(by_loss)),
        ):
            where = {"lake": str(lake), "optimizer": str(optimizer), "basis": basis}
            frames.append(rows[["method", "seed", *DISTANCES]].assign(**where))
    return pd.concat(frames, ignore_index=True)
