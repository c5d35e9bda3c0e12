"""`python -m toy.explore` as a user starts it."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from toy.explore.catalogue import preset
from toy.explore.replay import record

COMMAND = [sys.executable, "-m", "toy.explore"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nope"], "preset 'nope' is unknown (known: order, adam, lambda, dpo, ties)"),
        (["--port", "70000"], "port must be 0 to 65535, got 70000"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: {message}"


def test_a_taken_port_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("--port", str(port), "--no-browser")
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: port {port} is taken or not allowed: give another --port"


def test_without_a_browser_the_address_is_printed_and_the_page_is_there():
    environment = {**os.environ, "BROWSER": "false"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([*COMMAND, "--port", "0", "--preset", "ties"], **options) as process:
        line = process.stdout.readline()
        assert re.fullmatch(r"The lake is at http://127\.0\.0\.1:\d+/#preset=ties \(Ctrl-C ends it\)\n", line)
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said


def test_help_does_not_wait_for_pytorch():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "--preset" in done.stdout
    assert after.ru_utime - before.ru_utime < 2  # less than PyTorch takes to import; the aim is 1


def test_a_replay_is_one_file_that_needs_nothing_else(tmp_path):
    path = tmp_path / "ties.html"
    record(replace(preset("ties"), settings={"seeds": 3, "steps": 40}), path)
    text = path.read_text()
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)
    assert not re.search(r"(src|href)=|url\(", text)
    script = text[text.index('<script type="module">') :]
    names = re.findall(r"^(?:const|let|function|class|async function) (\w+)", script, re.MULTILINE)
    assert len(names) == len(set(names)) > 20  # the modules have become one script
    recording = json.loads(re.search(r'id="recording">(.*?)</script>', text, re.DOTALL)[1])
    assert [frame["update"] for frame in recording["frames"]] == list(range(41))
    assert len(text) < 300_000


def test_a_replay_into_no_folder_is_one_line(tmp_path):
    done = run("--replay", str(tmp_path / "none" / "a.html"))
    assert done.returncode == 2
    assert "its folder is not there" in done.stderr
