"""CPU seconds of `--help` and of a bad argument, command by command: `python -m bench.startup [--quick] [--json FILE]`.

Each call is a process of its own; its time is what it and its children took of all cores (user and system). The
commands are called in turns, and the best time of each counts. An empty Python program stands beside them. `--quick`
makes one round in place of three. A bad argument is, where there is one, a value out of its range, so that the time
includes what is needed to check it.
"""

import os
import resource
import subprocess
import sys

import tyro

from bench.report import ROOT, Options, Row, run
from common.command import FailedError, main

# Every command, and an argument that it refuses.
BAD_ARGUMENTS = {
    "toy.frozenlake": ("--lam", "2"),
    "toy.explore": ("--port", "99999"),
    "toy.benchmark": ("--jobs", "0"),
    "toy.compare": ("no-such-folder", "no-such-folder"),
    "lm.train": ("--lam", "2"),
    "lm.chat": ("--model", "tiny-lake", "--max-new-tokens", "0"),
    "lm.merge": ("--dtype", "float8"),
    "lm.evaluate": ("--model", "tiny-lake", "--limit", "0"),
    "lm.pairs": ("--dataset", "rows.jsonl", "--out", "pairs.jsonl", "--samples", "0"),
    "lm.lake": ("data", "--rows", "0", "--out", "walks.jsonl"),
    "lm.scaling": ("--no-such-option",),
    "figures": ("no-such-figure",),
    "experiments.study": ("--data", "no-such-folder"),
    "experiments.lake_language": ("--jobs", "0"),
    "experiments.lake_optimisers": ("--jobs", "0"),
    "experiments.paper_choices": ("--jobs", "0"),
    "experiments.better": ("development", "--jobs", "0"),
    "experiments.better_search": ("--jobs", "0"),
    "experiments.better_language": ("development", "--jobs", "0"),
    "experiments.lagged": ("--jobs", "0"),
}
LIMIT_SECONDS = 1.0


def cpu_seconds(arguments: tuple[str, ...], exit_code: int) -> float:
    """CPU time, user and system, of `python ARGUMENTS` in the checkout.

    Raises:
        FailedError: the call ended with another exit code.
    """
    environment = {**os.environ, "COLUMNS": "120"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    called = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if called.returncode != exit_code:
        words = " ".join(arguments)
        raise FailedError(f"python {words} ended with {called.returncode} in place of {exit_code}: {called.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_up(quick: bool) -> list[Row]:
    """Each command's `--help` and bad argument; the ratio is to the limit of one second."""
    calls: dict[tuple[str, ...], int] = {("-c", "pass"): 0}
    for command, bad_argument in BAD_ARGUMENTS.items():
        calls[("-m", command, "--help")] = 0
        calls[("-m", command, *bad_argument)] = 2
    rounds = [{call: cpu_seconds(call, code) for call, code in calls.items()} for _ in range(1 if quick else 3)]
    best = {call: min(times[call] for times in rounds) for call in calls}
    beside = f"python -c pass {best.pop(('-c', 'pass')):.2f} s"
    return [
        Row(" ".join(call[1:]), f"{took:.2f} s", beside, took, LIMIT_SECONDS, at_most=True)
        for call, took in best.items()
    ]


def bench_startup() -> None:
    """The command."""
    run((start_up,), tyro.cli(Options, prog="python -m bench.startup", description=__doc__))


if __name__ == "__main__":
    main(bench_startup)
