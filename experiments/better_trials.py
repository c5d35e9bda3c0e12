"""What `python -m experiments.better` runs: candidates, ablations and rivals on lakes, what they score, verdicts."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ift
from common.folders import working_in, write_whole
from common.parts import Part, run_parts
from experiments.claims import DISTANCES, judge, lake_means, resample, tables_of
from experiments.lakes import DEVELOPMENT_LAKES, DEVELOPMENT_SEEDS, AuditLake, has_second_way
from toy import Settings, metrics, protocol, sweep
from toy.objectives import target_log_probs
from toy.policy import cell_log_probs
from toy.settings import SharedSettings
from toy.stages import Problem, make_task, start_policies
from toy.trials import Trial, named_trials

CANDIDATES = ("still", "still:sharpest=1")
ABLATIONS = ("still:hold=0,ties=0", "still:hold=0", "still:ties=0")
TARGET_METHODS = tuple(name for name, method in ift.METHODS.items() if method.learns_from == "targets")
RIVALS = (*(name for name in TARGET_METHODS if name not in ("still", *ift.METHODS.origins)), "dpo", "orpo", "spin")
SHARPENED = "start, sharpened"  # not trained at all: what the sharpness alone is worth

# Maps of each size numbered from 902 (slippery: from 952): the first six with a second way that are no map, and no
# mirror image of a map, of `experiments.lakes` and of the benchmark.
_FRESH = {
    False: {4: (902, 903, 904, 905, 906, 908), **dict.fromkeys(range(5, 9), range(902, 908))},
    True: {
        4: (956, 959, 963, 966, 967, 970),
        5: (953, 954, 955, 956, 957, 959),
        6: (952, 953, 954, 955, 956, 958),
        7: (953, 954, 955, 957, 958, 960),
        8: range(952, 958),
    },
}
FRESH_LAKES = tuple(
    AuditLake(f"random:{size}:{number}", slippery)
    for slippery, of_size in _FRESH.items()
    for size, numbers in of_size.items()
    for number in numbers
)
FRESH_SEEDS = (93_000, 8)  # first, how many
MORE_DEVELOPMENT = (("ring", False), ("4x4", False), ("random:5:3", False), ("random:6:4", False), ("4x4", True),
                    ("random:5:7", True))  # fmt: skip
SETTINGS: dict[str, Settings] = {"adam": protocol("adam"), "paper": protocol("paper")}
# Starts that are less of a blurred optimum, and the paper's with Adam: where the start's own opinion helps less.
HARDER = {
    "paper-adam": protocol("paper-adam"),
    "adam, start nearer to chance": replace(protocol("adam"), start_optimal_share=0.2),
    "adam, random start": replace(protocol("adam"), start="random"),
}
_JUDGED = ("effect", "low", "high", "lakes_share", "lakes", "state")
COLUMNS = ("trial", "seed", "success", *DISTANCES, *(f"start_{metric}" for metric in DISTANCES), "start_success")


def runs_of(folder: Path, lakes: Sequence[AuditLake], seeds: tuple[int, int], protocols: dict[str, Settings],
            names: Sequence[str], jobs: int) -> pd.DataFrame:  # fmt: skip
    """A row per protocol, trial, lake and seed; what is missing in `folder` is run."""
    settings = {name: replace(each, seed=seeds[0], seeds=seeds[1], dtype="float32") for name, each in protocols.items()}
    trials = {name: named_trials(names, each) for name, each in settings.items()}
    definition = {
        "lakes": [lake.key for lake in lakes],
        "trials": list(names),
        "protocols": {name: asdict(each) for name, each in settings.items()},
    }
    parts: dict[str, Part] = {
        f"{lake.key}-{number}": (_part, (lake, name, trials[name]))
        for lake in lakes
        for number, name in enumerate(protocols)
    }
    return run_parts(folder, definition, parts, jobs)


def _part(lake: AuditLake, name: str, trials: dict[str, Trial]) -> pd.DataFrame:
    torch.set_num_threads(1)
    made = lake.make()
    start = next(iter(trials.values())).settings
    if start.start == "both" and not has_second_way(made):
        return pd.DataFrame()
    rows = pd.concat([sweep(made, trials)[list(COLUMNS)], _sharpened(Problem.of(made, start.shared()))])
    return rows.assign(protocol=name, lake=lake.key, slippery=lake.slippery)


def _sharpened(problem: Problem) -> pd.DataFrame:
    """The start policies at the sharpness that the target shows, without any training."""
    settings: SharedSettings = problem.settings
    seeds = range(settings.seed, settings.seed + settings.seeds)
    start, _ = start_policies(problem, seeds)
    task = make_task(problem, ift.METHODS["sft"], {}, start, seeds)
    table, mask = cell_log_probs(start), task.targets.mask
    reference = target_log_probs(start, task)
    most = ift.METHODS["still"].number("sharpest").lake
    power = ift.start_sharpness(reference, table[:, task.targets.cells], mask.expand(reference.shape), most).mean(-1)
    sharp = torch.log_softmax(table * power[:, None, None], -1).double().numpy()
    plain = table.double().numpy()
    scores, before = (
        metrics.score(problem.lake, problem.plan, each, plain, problem.on_target, settings.discount)
        for each in (sharp, plain)
    )
    columns = {name: scores[name] for name in ("success", "policy_mse")}
    columns |= {f"start_{name}": before[name] for name in ("success", "policy_mse")}
    return pd.DataFrame({"trial": SHARPENED, "seed": list(seeds), **columns})


def standing(runs: pd.DataFrame) -> pd.DataFrame:
    """Per protocol and trial: geometric means over lakes of the MSEs as shares of the start's, and the mean success."""
    rows = []
    for (name, trial), table in runs.groupby(["protocol", "trial"], sort=False):
        row: dict[str, object] = {"protocol": name, "trial": trial}
        for kind, of_kind in (
            ("", table),
            (" not slippery", table[~table["slippery"]]),
            (" slippery", table[table["slippery"]]),
        ):
            row[f"success{kind}"] = of_kind.groupby("lake")["success"].mean().mean()
            row |= {f"{metric}{kind}": _geometric_share(of_kind, metric) for metric in DISTANCES}
        rows.append(row)
    return pd.DataFrame(rows)


def _geometric_share(table: pd.DataFrame, metric: str) -> float:
    means = table.groupby("lake")[[metric, f"start_{metric}"]].mean()
    return float(np.exp(np.log(means[metric] / means[f"start_{metric}"]).mean()))


def verdicts(runs: pd.DataFrame, better: str) -> pd.DataFrame:
    """A trial against every other: its effect with 95 % interval as in `claims.judge`, above 0 where it is better."""
    rows = []
    for name, of_protocol in runs[runs["trial"] != SHARPENED].groupby("protocol", sort=False):
        tables = tables_of(of_protocol)
        sample = resample(sorted(of_protocol["lake"].unique()), of_protocol["seed"].nunique())
        for metric in (*DISTANCES, "success"):
            tables |= {
                (trial, metric): lake_means(of_protocol, trial, metric) for trial in of_protocol["trial"].unique()
            }
            for worse in (trial for trial in of_protocol["trial"].unique() if trial != better):
                judged = judge(tables, ((better, worse),), metric, sample)
                row = {"protocol": name, "metric": metric, "better": better, "than": worse}
                rows.append(row | dict(zip(_JUDGED, judged, strict=True)))
    return pd.DataFrame(rows)


def write_tables(what: str, out: Path, tables: Path, jobs: int) -> pd.DataFrame:
    """Run what is missing under `out`, write the tables of `development` or `held-out`; where each trial stands."""
    if what == "held-out":
        lakes, seeds, protocols = FRESH_LAKES, FRESH_SEEDS, SETTINGS
        names = (*CANDIDATES, *ABLATIONS, *RIVALS)
    else:
        lakes = (*DEVELOPMENT_LAKES, *(AuditLake(*each) for each in MORE_DEVELOPMENT))
        seeds, protocols = DEVELOPMENT_SEEDS, {**SETTINGS, **HARDER}
        names = (*CANDIDATES, *ABLATIONS, "still:hold=3", "still:sharpest=4", "sft", "ift", "dpo", "asft")
    with working_in(tables, "tables"):
        runs = runs_of(out / what, lakes, seeds, protocols, names, jobs)
        write_csv(tables / f"{what}.csv", standing(runs).round(4))
        judged = pd.concat([verdicts(runs, candidate) for candidate in CANDIDATES])
        write_csv(tables / f"{what}-verdicts.csv", judged.round(5))
    return standing(runs)


def write_csv(file: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    write_whole(file, lambda part: table.to_csv(part, index=False))
