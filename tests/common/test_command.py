"""How commands end, whatever they do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def end_of(statement):
    """Exit code and stderr of a command that runs a statement."""
    code = f"import os, signal, time\nfrom common import command\ndef run():\n    {statement}\n"
    code += "command.main(run, 'interrupted: go on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("statement", "code", "line"),
    [
        ("pass", 0, ""),
        ("raise ValueError('lam must be in [0, 1], got 2')", 2, "error: lam must be in [0, 1], got 2\n"),
        ("raise OSError('no space')", 2, "error: no space\n"),
        ("raise command.FailedError('it failed')", 1, "error: it failed\n"),
        ("raise KeyboardInterrupt", 130, "interrupted: go on\n"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)", 130, "interrupted: go on\n"),
        (
            "signal.signal(signal.SIGINT, signal.default_int_handler); signal.raise_signal(signal.SIGINT)",
            130,
            "interrupted: go on\n",
        ),
    ],
)
def test_a_command_ends_with_one_line_and_its_code(statement, code, line):
    assert end_of(statement) == (code, line)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    code, error = end_of("raise ImportError('no', name='lm_eval.tasks')")
    assert code == 2
    assert "extra 'eval'" in error
    assert "pip install" in error


def test_a_bug_keeps_its_traceback():
    code, error = end_of("raise RuntimeError('a bug')")
    assert code == 1
    assert error.startswith("Traceback")
