"""A command that is well, and the same with a fault of each kind that the campaign is there to find."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from common import command
from common.folders import working_in, write_whole
from tests.campaign import forked
from tests.campaign.cases import Campaign, run_case
from tests.campaign.commands import Command

# Each fault, and the family of cases that has to find it.
FAULTS = {
    "traceback": "input", "crash": "input", "hang": "input", "many lines": "input", "wrote": "input",
    "half": "kill", "stamp": "kill", "remains": "kill", "temporary": "kill",
    "deaf": "kill",
    "silent": "disk", "unlocked": "two",
}  # fmt: skip
CASES = 12  # of a family; the healthy command passes all


@dataclass(frozen=True)
class Options:
    """What the planted command takes."""

    number: str = "1"
    """It must be 1."""
    fault: str = "none"
    """Which fault it has."""


def refuse(fault: str) -> None:
    """What the command does with a bad number."""
    if fault == "traceback":
        raise RuntimeError("a bug")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "many lines":
        print("error: one\nerror: two", file=sys.stderr)
        sys.exit(2)
    if fault == "wrote":
        Path("trace").touch()
    if fault == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    raise ValueError("number must be 1")


def work(fault: str) -> None:
    """Write 40 lines in half a second."""
    out = Path("out")
    temporary = tempfile.TemporaryDirectory() if fault == "temporary" else nullcontext()  # SIGKILL leaves it there
    with nullcontext() if fault == "unlocked" else working_in(out), temporary:
        out.mkdir(exist_ok=True)
        if fault == "half":
            with (out / "rows").open("a") as rows:
                for line in lines():
                    rows.write(line)
                    rows.flush()
            return
        if fault == "remains":
            tempfile.mkdtemp(dir=".", prefix=".rows.", suffix=".part")  # where nobody clears up
        if fault == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        text = "".join(lines()) + (str(time.time()) if fault == "stamp" else "")
        with suppress(OSError) if fault == "silent" else nullcontext():
            if fault == "unlocked":
                (out / "rows").write_text(text)
            else:
                write_whole(out / "rows", lambda part: part.write_text(text))
        for left in Path().glob(".rows.*.part"):
            shutil.rmtree(left)


def lines():
    for number in range(40):
        time.sleep(0.0125)
        yield f"line {number}\n"


def run() -> None:
    options = command.parse(Options, "planted", None)
    refuse(options.fault) if options.number != "1" else work(options.fault)


def found(work_folder: Path) -> dict[str, str]:
    """For each fault the first case that found it; none for `none`. Most of it is waiting, so four run at once."""
    pairs = [*FAULTS.items(), *(("none", family) for family in ("input", "kill", "disk", "two"))]
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as processes:
        firsts = list(processes.map(first_problem, [work_folder] * len(pairs), pairs))
    problems = dict.fromkeys((fault for fault, _ in pairs), "")
    for (fault, _), problem in zip(pairs, firsts, strict=True):
        problems[fault] = problems[fault] or problem
    return problems


def first_problem(work_folder: Path, pair: tuple[str, str]) -> str:
    """What the first case of a family that finds a fault says."""
    fault, family = pair
    work_folder = work_folder / f"{fault}-{family}"
    inputs = work_folder / "inputs"
    inputs.mkdir(parents=True)
    forked.GRACE_SECONDS = 8.0
    planted = Command("planted", "tests.campaign.planted", "tests.campaign.planted:Options", ("--fault", fault))
    campaign = Campaign(work_folder, inputs, 4.0, {"planted": planted})
    cases = (run_case(campaign, f"{family}:{index}:0") for index in range(CASES if fault != "none" else 3))
    return next(filter(None, cases), "")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--find"]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(found(Path(folder))))
    else:
        command.main(run)
