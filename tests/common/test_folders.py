"""What is written is whole, in its place, and by one process at a time; nothing stays behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.folders import (
    holds_nothing,
    made_once,
    read_object,
    read_rows,
    working_in,
    write_json,
    write_together,
    write_whole,
    writing,
)

ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(stage):
    for name in ("config.json", "runs.parquet"):
        (stage / name).write_text("new")


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_file_and_a_folder_are_there_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "file", lambda part: part.write_text("text"))

    def folder(part):
        (part / "inside").mkdir(parents=True)
        (part / "inside" / "file").write_text("text")

    write_whole(tmp_path / "folder", folder)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside" / "file").read_text() == "text"

    def fail(part):
        part.write_text("half")
        raise KeyboardInterrupt

    for name in ("file", "other"):
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / name, fail)
    assert (tmp_path / "file").read_text() == "text"
    assert names(tmp_path) == ["file", "folder"]


def test_no_link_is_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in ("file", ".file.part", ".file.lock"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="cannot be written"), writing(tmp_path / "file"):
        pass
    (tmp_path / ".file.lock").unlink()
    with writing(tmp_path / "file"):
        write_whole(tmp_path / "file", lambda part: part.write_text("new"))
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_was_made_has_the_rights_that_files_have(tmp_path):
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "file", lambda part: part.write_text(""))
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_remains_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    for name in (".rows.jsonl.a0_b1c2d.part", ".other.a0_b1c2d.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    (tmp_path / ".mine.part").touch()
    with writing(tmp_path / "rows.jsonl"):
        assert names(tmp_path) == [".mine.part", ".other.a0_b1c2d.part", ".rows.jsonl.lock"]
    (tmp_path / ".lock").touch()
    (tmp_path / ".rows.jsonl.lock").write_text("process 1 on here (python -m lm.lake)")
    (tmp_path / ".mine.lock").touch()
    with working_in(tmp_path):
        assert names(tmp_path) == [".lock", ".mine.lock", ".mine.part"]
    assert names(tmp_path) == [".mine.lock", ".mine.part"]


def test_what_helping_processes_leave_where_a_run_is_stopped_is_removed(tmp_path):
    def stopped():
        (tmp_path / ".model.a0_b1c2d.part").mkdir()  # as a process of joblib that was killed
        (tmp_path / ".model.lock").write_text("process 1 on here (python -m experiments.lake_language)")
        raise KeyboardInterrupt

    (tmp_path / "mine").touch()
    with pytest.raises(KeyboardInterrupt), working_in(tmp_path), writing(tmp_path / "mine"):
        stopped()
    assert names(tmp_path) == ["mine"]


def test_empty_folders_that_were_made_go_again_and_others_stay(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "empty"):
        with working_in(path):
            assert path.is_dir()
            assert holds_nothing(path)
    with pytest.raises(KeyError), writing(tmp_path / "c" / "d" / "rows.jsonl"):
        raise KeyError
    assert names(tmp_path) == ["empty"]
    with working_in(tmp_path / "a" / "b"):
        write_json(tmp_path / "a" / "b" / "config.json", {})
    assert names(tmp_path) == ["a", "empty"]


def test_what_is_made_once_leaves_no_lock_even_after_a_kill(tmp_path):
    made = []

    def make():
        made.append(1)
        write_whole(tmp_path / "model", lambda part: part.mkdir())

    assert made_once(tmp_path / "model", make) == tmp_path / "model"
    (tmp_path / ".model.lock").touch()  # of a process that was killed between its last two steps
    made_once(tmp_path / "model", make)
    assert (made, names(tmp_path)) == ([1], ["model"])


def test_what_has_to_be_new_is_refused_and_the_remains_of_a_kill_go(tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / ".merged.lock").touch()
    with pytest.raises(ValueError, match="exists already"), writing(tmp_path / "merged", new=True):
        pass
    assert names(tmp_path) == ["merged"]


def test_files_and_devices_are_not_taken_for_folders_and_files(tmp_path):
    (tmp_path / "file").touch()
    for path, name, message in (
        (tmp_path / "file", "output_dir", "output_dir '.*file' is a file: give a folder"),
        (tmp_path / "file" / "more", "out", "out '.*more' cannot be written"),
        (Path("/proc/no/folder"), "out", "cannot be written"),
    ):
        with pytest.raises(ValueError, match=message), working_in(path, name):
            pass
    with pytest.raises(ValueError, match="no ordinary file"), writing(Path("/dev/null")):
        pass
    assert Path("/dev/null").is_char_device()


def test_who_writes_already_is_named_at_once_and_a_kill_frees_the_folder(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file"
    code = (
        "import sys; from pathlib import Path; from common.folders import working_in, writing\n"
        f"with working_in(Path({str(folder)!r})), writing(Path({str(file)!r})):\n"
        "    print('ready', flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "ready\n"
    for alone in (working_in(folder), writing(file)):
        with pytest.raises(ValueError, match=f"is being written by process {other.pid} on "), alone:
            pass
    other.kill()
    other.communicate()
    assert names(tmp_path) == [".file.lock", "folder"]
    with working_in(folder), working_in(folder), writing(file):  # what a process calls may ask again
        pass
    assert (names(tmp_path), names(folder)) == (["folder"], [])


def test_several_files_come_together_even_after_a_kill(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "play-sft.gif").write_text("old")
    (tmp_path / "runs.parquet").write_text("old")
    with working_in(tmp_path):
        with pytest.raises(KeyboardInterrupt):
            write_together(tmp_path, interrupt, ("*.gif", "*.parquet"))
        assert (tmp_path / "runs.parquet").read_text() == "old"
        monkeypatch.setattr("common.folders._move_together", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_together(tmp_path, fill, ("*.gif", "*.parquet"))
        monkeypatch.undo()
    with working_in(tmp_path):
        assert names(tmp_path) == [".lock", "config.json", "notes.txt", "runs.parquet"]
    assert (tmp_path / "runs.parquet").read_text() == "new"


def test_a_folder_where_a_file_goes_is_said_before_anything_is_written(tmp_path):
    (tmp_path / "runs.parquet").mkdir()
    (tmp_path / "config.json").write_text("old")
    with working_in(tmp_path), pytest.raises(ValueError, match=r"holds a folder 'runs\.parquet'"):
        write_together(tmp_path, fill, ("config.json", "runs.parquet"))
    assert (tmp_path / "config.json").read_text() == "old"


@pytest.mark.parametrize("spoiled", ["", "3", "null", "[[]]", '"x"', "{", '{"a": 1', "[" * 100_000])
def test_results_of_another_kind_are_refused_by_the_file_s_name(tmp_path, spoiled):
    file = tmp_path / "config.json"
    file.write_text(spoiled)
    with pytest.raises(ValueError, match=r"config\.json' cannot be read: delete it"):
        read_object(file)
    file.write_text(spoiled or "\n")
    with pytest.raises(ValueError, match=r"config\.json' cannot be read: delete it"):
        read_rows(file)


def test_results_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a.json").write_text('{"é": [1]}')
    (tmp_path / "b.jsonl").write_text('{"é": 1}\n{}\n')
    assert read_object(tmp_path / "a.json") == {"é": [1]}
    assert read_rows(tmp_path / "b.jsonl") == [{"é": 1}, {}]


def test_what_a_signal_leaves_of_a_private_folder_is_cleared(tmp_path):
    """A signal may come before its name is known, or while it is removed."""

    def stopped(place):
        with place:
            (tmp_path / ".merged.abcdefg1.part").mkdir()
            raise KeyboardInterrupt

    for place in (writing(tmp_path / "merged"), working_in(tmp_path)):
        with pytest.raises(KeyboardInterrupt):
            stopped(place)
        assert not any(tmp_path.iterdir())


def test_a_folder_where_a_file_goes_is_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="is a folder: give the name of a file"), writing(tmp_path):
        raise AssertionError


def test_a_name_that_is_too_long_leaves_nothing_and_is_named(tmp_path):
    long = tmp_path / "new" / ("x" * 300)
    with pytest.raises(ValueError, match=r"out '.*' cannot be written: File name too long"), working_in(long):
        raise AssertionError
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_stands_where_files_wait_to_be_moved_is_left_alone(kind, tmp_path):
    out, mine = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    mine.mkdir()
    (mine / "precious").touch()
    if kind == "link":
        (out / ".whole.part").symlink_to(mine)
    else:
        (out / ".whole.part").touch()
    with pytest.raises(ValueError, match="no folder of ours: move it away"), working_in(out):
        raise AssertionError
    assert (mine / "precious").exists()
