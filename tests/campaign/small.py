"""`python -m tests.campaign.small COMMAND …`: work that takes minutes or hours, cut down to seconds by its constants.

It is the command's own code with fewer lakes, seeds, methods and updates.
"""

import runpy
import sys
from dataclasses import replace

STEPS = 20


def short(name):
    """A protocol with few updates."""
    from toy import protocol

    return replace(protocol(name), steps=STEPS)


def choices() -> None:
    from experiments import lakes, paper_choices

    lakes.DEVELOPMENT_LAKES, paper_choices.protocol = lakes.DEVELOPMENT_LAKES[:2], short
    paper_choices.CHOICES, paper_choices._SEEDS = paper_choices.CHOICES[:2], 2


def better() -> None:
    from experiments import better_trials as better
    from experiments import lakes

    better.DEVELOPMENT_LAKES, better.MORE_DEVELOPMENT = lakes.DEVELOPMENT_LAKES[1:3], ()
    better.DEVELOPMENT_SEEDS, better.HARDER, better.ABLATIONS = (0, 2), {}, ()
    better.CANDIDATES, better.SETTINGS = ("still",), {"adam": short("adam")}


def better_search() -> None:
    from experiments import better_losses

    better_losses.LAKES, better_losses.DEVELOPMENT_SEEDS = better_losses.LAKES[1:3], (0, 2)
    better_losses.VARIANTS = dict(list(better_losses.VARIANTS.items())[:3])
    better_losses.SETTINGS = {}


def language() -> None:
    from experiments import lake_language

    lake_language.COMPARED, lake_language.VARIANTS = ("sft", "dpo"), {}
    lake_language.QUICK = lake_language.Scale((1,), (101,), 1, 2, 2, 16, 4, 3)


def better_language() -> None:
    from experiments import better_language_trials, lake_language

    better_language_trials.SCALE = lake_language.Scale((1,), (101,), 1, 2, 2, 16, 4, 3)
    better_language_trials.TRIED = better_language_trials.TRIED[1:3]


def lagged() -> None:
    from experiments import lagged

    lagged.TRIALS, lagged.QUICK = lagged.TRIALS[:2], lagged.Scale((301,), 2, 16, 1, 4)


def optimisers() -> None:
    from experiments import lake_optimisers

    lake_optimisers.TRIALS = {name: lake_optimisers.TRIALS[name] for name in ("sft", "dpo")}
    lake_optimisers.CANDIDATE_RATES = lake_optimisers.LEARNING_RATES = {"sgd": (0.003,)}
    lake_optimisers.DEVELOPMENT = lake_optimisers.Scale((31,), "dev", 2, 16, (2,), 4)


def study() -> None:
    from experiments import study

    study.RUNS = {"SFT": study.RUNS["SFT"]}


def benchmark() -> None:
    from experiments import benchmark
    from figures import leaderboard

    benchmark.QUICK = leaderboard.QUICK = benchmark.Scale(("random-5-0",), 2, 1, 1, (0, 2), (62_000, 2))


def figures() -> None:
    from experiments import audit, step_length, tuning
    from figures import frozen_lake

    audit.QUICK = replace(audit.QUICK, development_lakes=audit.QUICK.development_lakes[:1], seeds=(61_000, 2))
    audit.PROTOCOLS = {name: replace(each, settings=short(name)) for name, each in audit.PROTOCOLS.items()}
    tuning.protocol = step_length.protocol = frozen_lake.protocol = short
    step_length.STEP_SIZES = {name: steps[:2] for name, steps in step_length.STEP_SIZES.items()}


SMALLER = {
    "experiments.paper_choices": choices, "experiments.better": better, "experiments.better_search": better_search,
    "experiments.better_language": better_language, "experiments.lagged": lagged,
    "experiments.lake_language": language, "experiments.lake_optimisers": optimisers, "experiments.study": study,
    "toy.benchmark": benchmark, "figures": figures,
}  # fmt: skip

if __name__ == "__main__":
    module = sys.argv.pop(1)
    SMALLER[module]()
    sys.argv[0] = module
    runpy.run_module(module, run_name="__main__", alter_sys=True)
