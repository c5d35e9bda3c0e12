import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pandas as pd
import psutil
import pytest

from common.command import FailedError
from common.parts import run_parts

CALLS = []


def part(value):
    CALLS.append(value)
    if value == "stop":
        raise KeyboardInterrupt
    return pd.DataFrame({"value": [value, value]})


def parts(*values):
    return {f"part-{i}": (part, (value,)) for i, value in enumerate(values)}


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_a_run_that_was_stopped_makes_only_what_is_missing(tmp_path):
    folder = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        run_parts(folder, {"size": 1}, parts(1, 2, "stop"), jobs=1)
    kept = {path.name for path in (folder / "parts").iterdir()}
    assert kept == {"part-0.parquet", "part-1.parquet"}
    CALLS.clear()
    runs = run_parts(folder, {"size": 1}, parts(1, 2, 3), jobs=1)
    assert CALLS == [3]
    assert runs["value"].tolist() == [1, 1, 2, 2, 3, 3]
    assert runs["part"].tolist() == ["part-0"] * 2 + ["part-1"] * 2 + ["part-2"] * 2
    assert {path.name for path in folder.iterdir()} == {"config.json", "runs.parquet"}
    CALLS.clear()
    assert run_parts(folder, {"size": 1}, parts(1, 2, 3), jobs=1).equals(runs)
    assert not CALLS


def killed(number):
    if number:
        os.kill(os.getpid(), signal.SIGKILL)
    return pd.DataFrame({"x": [number]})


def test_a_process_that_was_killed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("common.parts._START_SECONDS", 0)
    with pytest.raises(FailedError, match="a process that made a part was killed"):
        run_parts(tmp_path / "out", {}, {f"p{i}": (killed, (i,)) for i in range(3)}, jobs=2)


def waits(file, number):
    Path(f"{file}-{number}").write_text(str(os.getpid()))
    time.sleep(60 * (number > 0))
    return pd.DataFrame({"x": [number]})


def test_helping_processes_end_with_a_killed_one(tmp_path):
    code = f"""
import common.parts
from tests.common.test_parts import waits
common.parts._START_SECONDS = 0
parts = {{f"p{{i}}": (waits, ({str(tmp_path / "pid")!r}, i)) for i in range(3)}}
common.parts.run_parts(__import__("pathlib").Path({str(tmp_path / "out")!r}), {{}}, parts, jobs=2)
"""
    run = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    files = [tmp_path / "pid-1", tmp_path / "pid-2"]
    while not all(file.exists() and file.read_text() for file in files):
        assert run.poll() is None
        time.sleep(0.1)
    helpers = [psutil.Process(int(file.read_text())) for file in files]
    run.kill()
    run.wait()
    assert not psutil.wait_procs(helpers, timeout=20)[1]


def test_two_processes_give_what_one_gives(tmp_path):
    """Over a process pool, functions have to be importable: one of pandas' own."""
    numbers = {f"p{i}": (pd.DataFrame, ({"x": [i]},)) for i in range(5)}
    one, two = (run_parts(tmp_path / f"jobs-{jobs}", {}, numbers, jobs=jobs) for jobs in (1, 2))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"version": "0.0.1", "size": 1}, 'holds results of another version ("0.0.1"; now '),
        ({"size": {"width": 1}}, 'holds results of another size ({"width": 1}; now 1)'),
        ({"size": 2}, "holds results of another size (2; now 1)"),
        ({"size": 1, "more": True}, "holds results of another more (true; now null)"),
    ],
)
def test_results_of_another_version_or_setting_are_refused_by_name(held, message, tmp_path):
    run_parts(tmp_path, {"size": 1}, parts(1), jobs=1)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **held}))
    with pytest.raises(ValueError) as error:
        run_parts(tmp_path, {"size": 1}, parts(1), jobs=1)
    assert message in str(error.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds files of something else"):
        run_parts(tmp_path, {}, parts(1), jobs=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        run_parts(tmp_path / "file" / "runs", {}, parts(1), jobs=1)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="is not this project's"):
        run_parts(tmp_path / "list", {}, parts(1), jobs=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="that cannot be read"):
        run_parts(tmp_path / "broken", {}, parts(1), jobs=1)


def test_what_a_kill_leaves_is_gone_over_and_a_broken_file_is_named(tmp_path):
    (tmp_path / ".config.json.a0_b1c2d.part").mkdir()
    runs = run_parts(tmp_path, {"size": 1}, parts(1), jobs=1)
    assert json.loads((tmp_path / "config.json").read_text())["made_with"]["torch"]
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"runs\.parquet' cannot be read: delete it"):
        run_parts(tmp_path, {"size": 1}, parts(1), jobs=1)
    (tmp_path / "runs.parquet").unlink()
    assert run_parts(tmp_path, {"size": 1}, parts(1), jobs=1).equals(runs)


def test_of_nested_settings_the_one_that_differs_is_named(tmp_path):
    run_parts(tmp_path, {"task": {"name": "a" * 80, "shots": 0}}, parts(1), jobs=1)
    with pytest.raises(ValueError, match=r"another task\.shots \(0; now 5\)"):
        run_parts(tmp_path, {"task": {"name": "a" * 80, "shots": 5}}, parts(1), jobs=1)


def test_a_folder_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~", "*", "a b", "[x]"):
        assert len(run_parts(Path(name), {"size": 1}, parts(1), jobs=1)) == 2
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["config.json", "runs.parquet"]


def test_a_kill_while_parts_are_removed_leaves_nothing_for_good(tmp_path):
    runs = run_parts(tmp_path, {"size": 1}, parts(1, 2), jobs=1)
    (tmp_path / "parts").mkdir()
    runs.to_parquet(tmp_path / "parts" / "part-1.parquet")
    assert run_parts(tmp_path, {"size": 1}, parts(1, 2), jobs=1).equals(runs)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "runs.parquet"}


@pytest.mark.parametrize(("start_seconds", "jobs"), [(1e9, 1), (0, 2)])
def test_processes_are_begun_only_where_the_work_is_worth_their_start(tmp_path, monkeypatch, start_seconds, jobs):
    asked = []

    def parallel(n_jobs, **options):
        asked.append(n_jobs)
        return joblib.Parallel(n_jobs=1, **options)

    monkeypatch.setattr("common.parts.Parallel", parallel)
    monkeypatch.setattr("common.parts._START_SECONDS", start_seconds)
    runs = run_parts(tmp_path / "runs", {}, parts(1, 2, 3), jobs=2)
    assert runs["value"].tolist() == [1, 1, 2, 2, 3, 3]
    assert asked == [jobs]
