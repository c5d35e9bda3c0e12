"""What the paper leaves open of its Frozen Lake, tried on development lakes: the table behind the `paper` protocol.

Examples:
  python -m experiments.paper_choices
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import check_jobs, parse
from common.command import main as command_main
from toy.protocols import protocol

if TYPE_CHECKING:
    import pandas as pd

    from experiments.lakes import AuditLake

# (share of the sub-optimal way in the start, step size): one changed at a time.
CHOICES = ((0.5, 0.03), (0.67, 0.03), (0.8, 0.03), (0.67, 0.01), (0.67, 0.1))
_SEEDS = 16


@dataclass(frozen=True)
class Options:
    """Where the results go."""

    out: Path = Path("results/paper-choices")
    """Folder for runs.parquet; a command that was stopped continues."""
    jobs: int = -1
    """Processes; -1 takes every core."""


def paper_choices(options: Options) -> "pd.DataFrame":
    """A row per kind of ice and choice: how much λ has to mix, and on which share of lakes each pair is in order."""
    from common.parts import Part, run_parts
    from experiments.lakes import DEVELOPMENT_LAKES

    parts: dict[str, Part] = {
        f"{lake.key}-{share:g}-{lr:g}": (_sweep, (lake, share, lr))
        for lake in DEVELOPMENT_LAKES
        if lake.second_way
        for share, lr in CHOICES
    }
    definition = {"choices": CHOICES, "seeds": [0, _SEEDS], "settings": asdict(protocol("paper"))}
    return summary(run_parts(options.out, definition, parts, options.jobs))


def _sweep(lake: "AuditLake", share: float, lr: float) -> "pd.DataFrame":
    from toy.sweeps import sweep_with_curves
    from toy.trials import named_trials

    settings = replace(protocol("paper"), start_suboptimal_share=share, lr=lr, seeds=_SEEDS, seed=0, dtype="float32")
    runs, curves = sweep_with_curves(lake.make(), named_trials(["dpo", "ift", "ift:lam=0", "orpo", "sft"], settings))
    mixed = curves[curves["trial"] == "ift"].groupby("seed")["mixed_share"].mean()
    runs = runs.assign(mixed_share=runs["seed"].map(mixed), lake=lake.key, slippery=lake.slippery)
    return runs.assign(start_suboptimal_share=share, lr=lr)


def summary(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The table: shares over lakes of the order of means over seeds, by parameter MSE."""
    keys = ["slippery", "start_suboptimal_share", "lr"]
    means = runs.groupby([*keys, "lake", "trial"])["parameter_mse"].mean().unstack("trial")
    closer = {f"{a} < {b}": means[a] < means[b] for a, b in (("dpo", "ift"), ("ift", "orpo"), ("orpo", "sft"))}
    table = means.assign(**closer, **{"λ 0.2 < λ 0": means["ift"] < means["ift:lam=0"]})
    shares = table[[*closer, "λ 0.2 < λ 0"]].groupby(keys).mean()
    others = runs.groupby(keys)[["mixed_share", "start_success"]].mean()
    return others.rename(columns={"mixed_share": "mixed", "start_success": "start's success"}).join(shares)


def run(options: Options) -> None:
    """Run what is missing and print the table."""
    check_jobs(options.jobs)
    print(paper_choices(options).round(2).to_string())


if __name__ == "__main__":
    command_main(
        lambda: run(parse(Options, "python -m experiments.paper_choices", __doc__, arguments=sys.argv[1:])),
        "stopped: the same command goes on where it was",
    )
