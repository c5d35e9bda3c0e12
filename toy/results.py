"""The files of an experiment: settings, a row per run, a summary, mean policies, a picture."""

import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from common.folders import finite, held_record, holds_nothing, record, working_in, write_json, write_together
from ift import METHODS
from toy.experiment import Result
from toy.lake import Lake
from toy.metrics import paired_differences, summarise
from toy.picture import draw_result, save_gif
from toy.rollout import play
from toy.settings import Settings
from toy.trials import named_trials

_FILES = (
    "config.json",
    "runs.parquet",
    "start.parquet",
    "curves.parquet",
    "summary.json",
    "policies.npz",
    "picture.png",
    "play-*.gif",
)

_LONGEST_NAME = 160  # characters for the methods in a folder's name, of which file systems take 255 in all


def describe(lake: Lake, methods: tuple[str, ...], settings: Settings, protocol: str | None = None) -> dict:
    """All that fixes an experiment's numbers, as JSON-ready data; `protocol` is the name of what was changed."""
    trials = named_trials(methods, settings)
    return {
        "protocol": protocol,
        "methods": list(methods),
        "numbers": {name: trial.settings.numbers_of(trial.value) for name, trial in trials.items()},
        "lake": {
            "rows": list(lake.rows),
            "slippery": lake.slippery,
            "success_rate": lake.success_rate,
            "rewards": list(lake.reward_schedule),
            "max_episode_steps": lake.max_episode_steps,
        },
        "settings": settings.as_dict(),
        **METHODS.from_outside(trial.method for trial in trials.values()),
    }


def default_folder(config: dict, map_name: str) -> Path:
    """`results/MAP-METHODS-DIGEST`: another experiment never lands in the same folder."""
    methods = config["methods"]
    shown = "-".join(methods) if len(methods) <= 4 else f"{len(methods)}-methods"
    shown = re.sub(r"[^A-Za-z0-9.-]+", "-", shown)
    if len(shown) > _LONGEST_NAME:
        shown = f"{shown[:_LONGEST_NAME]}-{sha256(shown.encode()).hexdigest()[:6]}"
    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(map_name).stem if "." in map_name else map_name).strip("-")[:24]
    digest = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:6]
    return Path("results") / f"{name}-{shown}-{digest}"


def check_folder(folder: Path, config: dict, overwrite: bool) -> None:
    """Raise `ValueError` if `folder` holds anything but results of the same experiment."""
    if overwrite or not folder.is_dir() or holds_nothing(folder):
        return
    held = held_record(folder) or {}
    if {key: held.get(key) for key in config} != json.loads(json.dumps(config)):
        raise ValueError(f"out {str(folder)!r} holds other results: give another folder, or --overwrite")


def save(
    result: Result,
    summary: dict,
    config: dict,
    lake: Lake,
    settings: Settings,
    folder: Path,
    *,
    render: bool = False,
) -> list[Path]:
    """Write an experiment's files into `folder`, all or none of them; returns their paths.

    `config.json` (settings, versions), `runs.parquet` (a row per run and method), `start.parquet` (the start policies),
    `curves.parquet` (distances during the training),
    `summary.json` (means with 95 % intervals, differences paired by seed), `policies.npz` (mean policy and visits by
    name), `picture.png`, and with `render` one `play-METHOD.gif` per method, played in Gymnasium with the first seed.
    `summary` is that of the result, `config` what `describe` says. Files of these names that the folder held before are
    gone afterwards.
    """

    def write(stage: Path) -> None:
        write_json(stage / "config.json", record(config))
        result.runs.to_parquet(stage / "runs.parquet", index=False)
        result.start.to_parquet(stage / "start.parquet", index=False)
        result.curves.to_parquet(stage / "curves.parquet", index=False)
        write_json(stage / "summary.json", finite(summary))
        np.savez_compressed(
            stage / "policies.npz",
            allow_pickle=False,
            **{f"policy_{name}": table for name, table in result.policies.items()},
            **{f"visits_{name}": table for name, table in result.visits.items()},
        )
        figure = draw_result(lake, summary, settings.seeds, result.policies, result.visits)
        figure.savefig(stage / "picture.png", dpi=150)
        for method in result.runs["method"].unique() if render else ():
            policy = result.first_policies[method]
            if np.isfinite(policy).all():
                frames, _ = play(lake, policy, settings.seed)
                save_gif(frames, stage / f"play-{method}.gif")

    with working_in(folder):
        return write_together(folder, write, replacing=_FILES)


def summary(result: Result) -> dict:
    """Means with intervals of start and methods, paired differences, trajectories, the optimum: JSON-ready data."""
    stopped = result.runs[result.runs["stopped_at_step"] >= 0]
    return {
        "methods": summarise(pd.concat([result.start, result.runs])),
        "paired_differences": paired_differences(result.runs),
        "mixed": mixed_shares(result),
        "stopped": stopped[["method", "seed", "stopped_at_step"]].to_dict("records"),
        "optimal_walks": result.targets,
        "suboptimal_walks": result.suboptimal,
        "optimum": {
            "metrics": {name: {"mean": value} for name, value in result.optimum.items()},
            "error_bound": result.plan.error_bound,
            "backups": result.plan.backups,
        },
    }


def mixed_shares(result: Result) -> dict[str, dict[str, float]]:
    """For methods that mix states with a λ above 0, how often the predicted cell is another than the target's.

    By name: `steps`, the mean of `mixed_share` over seeds and the measured updates of the training, and `seeds`, the
    share of seeds in which it is above 0 at some update.
    """
    by_seed = result.curves.groupby(["method", "seed"], sort=False)["mixed_share"].mean().dropna()
    return {
        str(method): {"steps": float(shares.mean()), "seeds": float((shares > 0).mean())}
        for method, shares in by_seed.groupby("method", sort=False)
        if "lam=0" not in str(method).partition(":")[2].split(",")
    }
