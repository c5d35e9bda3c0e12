"""What `python -m experiments.better_search` runs: the losses that were tried, one thing changed at a time."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

import ift
from common.folders import working_in
from common.parts import Part, run_parts
from experiments.better_trials import COLUMNS, HARDER, SETTINGS, standing, write_csv
from experiments.lakes import DEVELOPMENT_LAKES, DEVELOPMENT_SEEDS, AuditLake, has_second_way
from toy import Settings
from toy.experiment import score_runs
from toy.policy import Policy, cell_log_probs
from toy.stages import FineTuned, Problem, optimal_policies, start_policies
from toy.training import train

RANDOM = "adam, random start"  # a start that knows nothing: what a loss must not spoil
LAKES = (
    *DEVELOPMENT_LAKES,
    *(AuditLake(map_, False) for map_ in ("ring", "4x4", "random:5:3", "random:6:4")),
    *(AuditLake(map_, True) for map_ in ("4x4", "random:5:7")),
)


@dataclass(frozen=True)
class Variant:
    """A loss that was tried: the target's terms, and a divergence from the start policy beside the target.

    Attributes:
        hold: weight of the divergence beside the target; `on` the same in the target's cells (ASFT's hold).
        visits: which cells beside count: those that the `policy`'s or the `start`'s own steps reach, or `all`.
        steps: of the policy's own, from a cell of the target.
        shares: whether the visits are made to sum to 1, so that they do not fade as the policy stays on the target.
        sharpest: the start is raised to a power up to this; `likeliest` takes the power that the target shows.
        ties: power of the kernel that shares the target among actions that the start rates alike; None leaves it out.
        trust: whether that happens only as far as the start explains the target.
        summed: whether the loss is a sum over the target's steps, not a mean.
    """

    hold: float = 1.0
    on: float = 0.0
    visits: str = "start"
    steps: int = 6
    shares: bool = True
    sharpest: float = 4.0
    likeliest: bool = True
    ties: float | None = 4.0
    trust: bool = False
    summed: bool = True


LEAD = Variant(hold=3.0, visits="policy", steps=1, shares=False, sharpest=1, likeliest=False, ties=None, summed=False)
SIX = replace(LEAD, steps=6)
FIRST = Variant(hold=3.0, visits="policy", shares=False)
VARIANTS: dict[str, Variant] = {
    "the lead: held one step beside, k 3": LEAD,
    "held six steps beside": SIX,
    "held one step beside and on the target (0.1)": replace(LEAD, on=0.1),
    "SFT, ties left open (power 4), nothing held": replace(SIX, hold=0, ties=4.0),
    "held six steps, ties left open": replace(SIX, ties=4.0),
    "held at the start to the power 2": replace(SIX, sharpest=2.0),
    "held at the start to the power 3": replace(SIX, sharpest=3.0),
    "the same, ties left open (power 3)": replace(SIX, sharpest=3.0, ties=3.0),
    "the likeliest power, ties left open, summed": FIRST,
    "the same, one step beside, k 10": replace(FIRST, hold=10.0, steps=1),
    "the same, all cells beside": replace(FIRST, hold=1.0, visits="all"),
    "the same, the start's visits": replace(FIRST, visits="start"),
    "the same, shares of the start's visits, k 1": Variant(),
    "the same, no power above 1": Variant(sharpest=1.0, likeliest=False),
    "SFT, summed": Variant(hold=0, ties=None),
    "ties only as far as the start explains the target": Variant(trust=True),
    "the same, power 8 at most, ties at power 8 (`still`)": Variant(trust=True, sharpest=8.0, ties=8.0),
}


def loss_of(variant: Variant, problem: Problem, start: Policy) -> Callable[[Policy, int], Tensor]:
    """The variant's loss on a lake, `[runs]`."""
    targets, transition = problem.target_trajectories, problem.dynamics.transition
    reference, live = cell_log_probs(start), problem.live.to(transition.dtype)
    counts = torch.zeros(len(live), 4, dtype=transition.dtype)
    counts.index_put_((targets.cells, targets.actions), targets.mask.to(counts.dtype), accumulate=True)
    length = counts.sum() / len(targets.cells)
    counts = counts / counts.sum()  # share of the target's steps, [cells, 4]
    off = (1 - torch.as_tensor(problem.on_target).to(live)) * live
    power = torch.full((len(reference),), variant.sharpest, dtype=reference.dtype)
    if variant.likeliest:
        table = reference[:, targets.cells]
        taken = table.gather(-1, targets.actions.expand(table.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        power = ift.start_sharpness(taken, table, targets.mask.expand(taken.shape), variant.sharpest).mean(-1)
    still = torch.log_softmax(reference * power[:, None, None], -1)
    wanted = counts.expand(len(reference), -1, -1)
    if variant.ties is not None:
        apart = (reference[:, :, None, :] - reference[:, :, :, None]).abs()
        tied = (counts[None, :, :, None] * torch.softmax(-variant.ties * apart, -1)).sum(2)
        explained = 1 + (counts * still).sum((1, 2)) / torch.tensor(4.0).log()
        trust = explained.clamp(0, 1)[:, None, None] if variant.trust else 1.0
        wanted = trust * tied + (1 - trust) * wanted

    def visits(log_probs: Tensor) -> Tensor:
        if variant.visits == "all":
            return (off / length).expand(len(log_probs), -1)
        moves = torch.einsum("rca,cad->rcd", log_probs.exp(), transition)
        here = counts.sum(-1).expand(len(log_probs), -1)
        total = torch.zeros_like(here)
        for _ in range(variant.steps):
            here = torch.einsum("rc,rcd->rd", here, moves) * off
            total = total + here
        return total / total.sum(-1, keepdim=True).clamp(min=1e-6) if variant.shares else total

    fixed = visits(reference)

    def loss(policy: Policy, step: int) -> Tensor:
        log_probs = cell_log_probs(policy)
        where = visits(log_probs.detach()) if variant.visits == "policy" else fixed
        drift = (still.exp() * (still - log_probs)).sum(-1)
        value = -(wanted * log_probs).sum((1, 2)) + variant.hold * (where * drift).sum(-1)
        value = value + variant.on * (counts.sum(-1) * drift).sum(-1)
        return value * length if variant.summed else value

    return loss


def _part(lake: AuditLake, name: str, settings: Settings) -> pd.DataFrame:
    torch.set_num_threads(1)
    made = lake.make()
    if settings.start == "both" and not has_second_way(made):
        return pd.DataFrame()
    problem, seeds = Problem.of(made, settings.shared()), range(settings.seed, settings.seed + settings.seeds)
    start, stopped = start_policies(problem, seeds)
    optima = optimal_policies(problem, start, seeds)
    none = torch.zeros(len(seeds), dtype=torch.long)
    before, _ = score_runs(problem, FineTuned(start, stopped, none), start, optima)
    frames = []
    for trial, variant in VARIANTS.items():
        loss = loss_of(variant, problem, start)
        trained, stopped = train(start, loss, settings.steps, optimizer=settings.optimizer, lr=settings.lr)
        scores, _ = score_runs(problem, FineTuned(trained, stopped, none), start, optima)
        columns = {
            "trial": trial,
            "seed": list(seeds),
            **scores,
            **{f"start_{key}": value for key, value in before.items()},
        }
        frames.append(pd.DataFrame(columns)[list(COLUMNS)])
    return pd.concat(frames).assign(protocol=name, lake=lake.key, slippery=lake.slippery)


def write_table(out: Path, tables: Path, jobs: int) -> pd.DataFrame:
    """Run what is missing under `out` and write `search.csv`: where each variant stands."""
    first, count = DEVELOPMENT_SEEDS
    protocols = {
        name: replace(settings, seed=first, seeds=count, dtype="float32")
        for name, settings in {**SETTINGS, RANDOM: HARDER[RANDOM]}.items()
    }
    parts: dict[str, Part] = {
        f"{lake.key}-{number}": (_part, (lake, name, settings))
        for lake in LAKES
        for number, (name, settings) in enumerate(protocols.items())
    }
    definition = {
        "lakes": [lake.key for lake in LAKES],
        "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
        "protocols": {name: asdict(settings) for name, settings in protocols.items()},
    }
    with working_in(tables, "tables"):
        table = standing(run_parts(out, definition, parts, jobs)).round(4)
        write_csv(tables / "search.csv", table)
    return table
