"""Trainings per second on Frozen Lake beside JAX's, in one run: `python -m bench.trainings [--quick] [--json FILE]`.

The peer is one jitted program, `vmap` over runs of a `scan` over updates (`bench/jax_lake.py`). Both sides train the
same methods on the same lake, 200 updates of width 64 in single precision, in turns; the best time of each counts.
Compiling is left out on both sides. The last rows are measured beside another process that keeps a core busy.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import tyro

import ift
from bench.report import Options, Row, run, seconds
from common.command import main
from ift import METHODS, Method
from toy import Lake, Settings
from toy.policy import Policy
from toy.stages import Problem, fine_tune, start_policies

UPDATES, TARGET = 200, 2
LR = {"adam": 3e-3, "sgd": 0.03}


def _own_loss(log_probs, mask):  # type: ignore[no-untyped-def]
    return ift.sft_loss(log_probs, mask)


OWN = replace(METHODS["sft"], name="own", loss=_own_loss)  # SFT as a stranger would give it: its gradient by autograd


def trainings(quick: bool) -> Iterator[Row]:
    """Every method, optimiser and number of runs; with `quick` two of them."""
    if quick:
        cases = [("sft", "adam", 1024), ("dpo", "sgd", 1024)]
    else:
        cases = [(m, o, n) for n in (64, 1024) for o in LR for m in ("sft", "ift", "dpo", "orpo")]
        cases += [("sft", "adam", 16_384), ("dpo", "adam", 16_384)]
    yield from (_row(METHODS[method], method, optimizer, runs, quick) for method, optimizer, runs in cases)


def own_method(quick: bool) -> Row:
    """A loss from outside, whose gradient autograd finds, beside JAX's program of the same loss."""
    return _row(OWN, "sft", "adam", 1024, quick)


def beside_a_busy_core(quick: bool) -> Iterator[Row]:
    """The same with another process beside."""
    with _busy_core():
        for method in ("sft",) if quick else ("sft", "ift", "dpo", "orpo"):
            yield _row(METHODS[method], method, "adam", 1024, quick, ", beside a busy core")


def _row(method: Method, peers: str, optimizer: str, runs: int, quick: bool, where: str = "") -> Row:
    from bench.jax_lake import program

    changed: dict[str, Any] = {"optimizer": optimizer, "lr": LR[optimizer]}
    settings = Settings(steps=UPDATES, dtype="float32", **changed)
    problem = Problem.of(Lake.make("4x4"), settings.shared())  # its optimal trajectory has 6 steps
    seeds, block = range(runs), 1024
    start, _ = start_policies(problem, seeds)
    numbers = {**settings.numbers_of(method), **({"beta": 2.0 if peers == "dpo" else 0.1} if "po" in peers else {})}

    def ours() -> None:
        for first in range(0, runs, block):
            part = Policy(*(p[first : first + block] for p in start))
            fine_tune(problem, method, numbers, part, seeds[first : first + block])

    train = program(problem, peers, optimizer, UPDATES)
    ours()
    train(min(runs, 1024))
    took, peer = seconds(ours, lambda: train(runs), rounds=2 if quick or runs > 1024 else 4)
    name = f"{method.name}, {optimizer}, {runs:,} runs{where}"
    return Row(name, f"{runs / took:,.0f} runs/s", f"JAX {runs / peer:,.0f} runs/s", peer / took, TARGET)


@contextmanager
def _busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def bench_trainings() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.trainings", description=__doc__)
    run((trainings, own_method, beside_a_busy_core), options)


if __name__ == "__main__":
    main(bench_trainings)
