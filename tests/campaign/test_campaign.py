"""The campaign finds what it is there to find; a small share of it is run here, `make test-campaign` runs more."""

import json
import subprocess
import sys
from pathlib import Path

from tests.campaign.commands import COMMANDS

SMALL = "tests.campaign.small"
ROOT = Path(__file__).parents[2]


def python(*arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_planted_faults_are_found_and_a_healthy_command_passes():
    code, printed, errors = python("tests.campaign.planted", "--find")
    assert code == 0, errors
    problems = json.loads(printed.splitlines()[-1])
    assert problems.pop("none") == ""
    words = {
        "traceback": "RuntimeError: a bug", "crash": "exit code -11", "hang": "does not stop",
        "many lines": "not one line", "wrote": "refused, and wrote", "half": "other bytes", "stamp": "other bytes",
        "remains": "left behind", "temporary": "other files",
        "deaf": "exit code -", "silent": "missing", "unlocked": "nobody saw it lock",
    }  # fmt: skip
    assert problems.keys() == words.keys()
    for fault, problem in problems.items():
        assert words[fault] in problem, (fault, problem)


def test_every_command_is_tried():
    """Each module that runs as a program, former names and what stands behind another one aside."""
    packages = ("toy", "lm", "figures", "experiments")
    programs = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    tried = {command.arguments[0] if command.module == SMALL else command.module for command in COMMANDS.values()}
    assert tried == programs - {"lm.study", "figures.benchmark"}


def test_flags_come_from_the_parsers():
    for name, flags in {
        "toy": {"--map", "--lam", "--overwrite", "--beta"},
        "train": {"--lora-r", "--resume"},
        "pairs": {"--out", "--score-command"},
        "benchmark": {"--method", "--quick"},
    }.items():
        assert flags <= {flag for flag, _ in COMMANDS[name].flags()}, name


def test_no_case_of_a_small_share_falls_short():
    code, printed, errors = python("tests.campaign", "--inputs", "30", "--kills", "5", "--seed", "0")
    assert code == 0, printed + errors
    assert "SHORT" not in printed
