"""The campaign finds what it is there to find; a small share of it is run here, `make test-campaign` runs more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        "remains": "left behind", "deaf": "exit code -", "silent": "missing", "unlocked": "nobody saw it lock",
    }  # fmt: skip
    assert problems.keys() == words.keys()
    for fault, problem in problems.items():
        assert words[fault] in problem, (fault, problem)


@pytest.mark.parametrize(("inputs", "kills"), [(10, 2), pytest.param(30, 5, marks=pytest.mark.slow)])
def test_no_case_of_a_small_share_falls_short(inputs, kills):
    code, printed, errors = python("tests.campaign", "--inputs", str(inputs), "--kills", str(kills), "--seed", "0")
    assert code == 0, printed + errors
    assert "SHORT" not in printed
