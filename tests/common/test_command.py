"""How commands end, whatever they do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.command import parse, progress_bar

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
        ("raise OverflowError('too large')", 2, "error: too large\n"),
        ("raise RecursionError", 2, "error: a file or a value is nested too deeply to be read\n"),
        ("raise ValueError('two\\nlines ' + 'x' * 1000)", 2, f"error: two lines {'x' * 200}…{'x' * 40}\n"),
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


def test_a_burst_of_interrupts_is_one():
    statement = """
    try: [os.kill(os.getpid(), signal.SIGINT) for _ in range(5)]
    finally:
        [os.kill(os.getpid(), signal.SIGINT) for _ in range(5)]
        print('cleared', file=__import__('sys').stderr)"""
    assert end_of(statement) == (130, "cleared\ninterrupted: go on\n")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_while_an_object_is_cleared_away_is_not_lost(number):
    """Python cannot raise it there: it would be printed, and the command would go on to its end."""
    statement = f"""
    class Held:
        def __del__(self): signal.raise_signal(signal.{number}); time.sleep(0)
    held = Held()
    del held
    time.sleep(20)"""
    begun = time.monotonic()
    assert end_of(statement) == (130, "interrupted: go on\n")
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(("ignored", "ends"), [(False, (130, "interrupted: go on\n")), (True, (0, ""))])
def test_a_closed_terminal_ends_it_unless_nohup_says_otherwise(ignored, ends):
    code = "import os, signal, time\nfrom common import command\n"
    code += f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
    code += "command.main(lambda: os.kill(os.getpid(), signal.SIGHUP), 'interrupted: go on')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == ends


@pytest.mark.parametrize(
    ("redirected", "code", "error"),
    [(">&-", 0, ""), ("2>&-", 0, ""), ("<&-", 0, ""),
     (">/dev/full", 2, "error: the work is done, but what it prints cannot be written: look where stdout goes\n")],
)  # fmt: skip
def test_streams_may_be_closed_or_full(redirected, code, error):
    run = f"{sys.executable} -c \"from common import command; command.main(lambda: print('done'))\" {redirected}"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(run, shell=True, cwd=ROOT, capture_output=True, text=True, env=buffered, check=False)
    assert (done.returncode, done.stderr) == (code, error)


def test_help_in_a_narrow_terminal_and_without_unicode():
    environment = {**os.environ, "COLUMNS": "1", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "lm.train", "--help"], cwd=ROOT, capture_output=True, text=True,
                          env=environment, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "--seed" in done.stdout


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    code, error = end_of("raise ImportError('no', name='lm_eval.tasks')")
    assert code == 2
    assert "extra 'eval'" in error
    assert "pip install" in error


@pytest.mark.parametrize(
    "statement",
    [
        "raise OSError(28, 'No space left on device')",
        "raise RuntimeError('[enforce fail at inline_container.cc:820] . unexpected pos 64 vs 0')",
        "raise Exception('Error while serializing: I/O error: File too large (os error 27)')",
        "\n    try: raise OSError(122, 'Quota exceeded')\n    except OSError: raise RuntimeError('failed')",
        "open('/dev/full', 'w').write('x' * 10**6)",
        "raise RuntimeError('basic_ios::clear: iostream error')",
    ],
)
def test_a_full_disk_is_one_line_whoever_meets_it(statement):
    code, error = end_of(statement)
    assert code == 2
    assert error.startswith("error: the disk is full (")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "statement",
    ["bytes(10**15)", "import numpy; numpy.zeros(10**14)", "import torch; torch.zeros(10**14)", "raise MemoryError"],
)
def test_a_memory_that_is_too_small_is_one_line(statement):
    code, error = end_of(statement)
    assert code == 2
    assert error.startswith("error: the memory is too small for this (")
    assert error.count("\n") == 1


def test_an_interrupt_that_an_import_turns_into_another_error_is_one():
    statement = "\n    try: signal.raise_signal(signal.SIGINT)\n    except BaseException: raise ImportError('numpy')"
    assert end_of(statement) == (130, "interrupted: go on\n")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("toy.frozenlake --help", 141),
        ("toy.frozenlake --help >/dev/full", 2),
        ("toy.frozenlake --nonsense 2>/dev/full", 2),
    ],
)
def test_python_has_nothing_to_add_at_its_end(command, code):
    run = f"set -o pipefail; {sys.executable} -m {command} | true"
    done = subprocess.run(["bash", "-c", run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.count("\n") == (code == 2 and "2>" not in command)


def test_richs_way_to_end_is_known():
    statement = "\n    try: raise BrokenPipeError\n    except BrokenPipeError: raise SystemExit(1)"
    assert end_of(statement) == (141, "")


def test_nobody_who_reads_is_no_error():
    done = subprocess.run("python -m toy.frozenlake --help | head -1", shell=True, cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                          check=False)  # fmt: skip
    assert done.stderr == ""
    assert end_of("os.close(1); read, write = os.pipe(); os.close(read); os.dup2(write, 1); print('x')") == (141, "")


@pytest.mark.parametrize("package", ["toy.frozenlake", "lm.train", "figures", "experiments.study"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_while_it_is_imported_says_so_in_one_line(package, number, tmp_path):
    """The parser is a module that waits here until the signal comes."""
    (tmp_path / "tyro.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", package], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert process.communicate()[1] == "interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("word", "message"), [("x" * 20_000, "has 20,000 characters"), ("\udcff", "is not UTF-8 text")]
)
def test_arguments_are_text_of_a_bearable_length(word, message):
    with pytest.raises(ValueError, match=f"argument 2, .* {message}"):
        parse(dict, "prog", None, arguments=["--out", word])


def test_a_bug_keeps_its_traceback():
    code, error = end_of("raise RuntimeError('a bug')")
    assert code == 1
    assert error.startswith("Traceback")


def test_a_progress_bar_shows_a_folder_s_name_as_it_stands(capsys):
    with progress_bar(count="parts") as bar:
        bar.add_task("out[/b] [red]", total=1)
    assert "out[/b] [red]" in capsys.readouterr().err
