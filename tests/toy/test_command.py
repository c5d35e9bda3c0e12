"""`python -m toy.frozenlake` as a user runs it."""

import json
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib import reload
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from toy import kernels
from toy.frozenlake import main
from toy.metrics import METRICS
from toy.protocols import PROTOCOLS
from toy.results import default_folder

QUICK = ["--seeds", "3", "--steps", "10", "--width", "16"]
FILES = {"config.json", "runs.parquet", "start.parquet", "curves.parquet", "summary.json", "policies.npz",
         "picture.png"}  # fmt: skip


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["frozenlake", *QUICK, *map(str, arguments)])
    main()


def refused(monkeypatch, capsys, *arguments):
    """Runs what must fail: the one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_it_prints_a_table_and_writes_its_files(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--method", "sft", "ift", "--out", tmp_path / "out", "--render")
    printed = capsys.readouterr().out
    for word in ("start", "sft", "ift", "optimum", "success", "picture.png"):
        assert word in printed
    out = tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert {path.name for path in out.iterdir()} == {*FILES, "play-sft.gif", "play-ift.gif"}
    runs = pd.read_parquet(out / "runs.parquet")
    assert len(runs) == 6
    assert {"method", "seed", *METRICS} <= set(runs.columns)
    config = json.loads((out / "config.json").read_text())
    assert config["methods"] == ["sft", "ift"]
    assert config["protocol"] == "paper"
    assert config["numbers"] == {"sft": {}, "ift": {"lam": 0.2, "gamma": 0.95}}
    assert config["lake"]["rows"] == ["SFFFF", "FHHHF", "FFFGF"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["methods"]["ift"]["policy_mse"]["mean"] == pytest.approx(
        runs[runs["method"] == "ift"]["policy_mse"].mean()
    )
    with np.load(out / "policies.npz") as policies:
        np.testing.assert_allclose(policies["policy_ift"].sum(-1), 1)
    assert Image.open(out / "picture.png").size[0] > 800
    assert Image.open(out / "play-ift.gif").n_frames > 1


def test_brackets_in_a_name_are_printed_as_they_stand(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("out[/b]", "[red]"):
        run(monkeypatch, "--method", "sft", "--out", name)
        assert f"Written to {name}: config.json" in capsys.readouterr().out
        assert {path.name for path in (tmp_path / name).iterdir()} == FILES


def test_the_same_command_gives_the_same_bytes(monkeypatch, tmp_path):
    for name in ("one", "two"):
        run(monkeypatch, "--method", "dpo", "ift", "--out", tmp_path / name)
    for name in ("runs.parquet", "start.parquet", "summary.json", "config.json", "picture.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_folder_with_other_results_is_kept_unless_told_otherwise(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--out", tmp_path)
    run(monkeypatch, "--out", tmp_path)  # the same experiment: its own results
    before = (tmp_path / "runs.parquet").read_bytes()
    assert "holds other results" in refused(monkeypatch, capsys, "--out", tmp_path, "--gamma", "0.5")
    assert (tmp_path / "runs.parquet").read_bytes() == before
    run(monkeypatch, "--out", tmp_path, "--gamma", "0.5", "--overwrite")
    assert (tmp_path / "runs.parquet").read_bytes() != before


def test_without_out_each_experiment_has_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch)
    run(monkeypatch, "--gamma", "0.5")
    run(monkeypatch, "--map", "SFF/FHF/FFG", "--protocol", "adam")
    assert len(list((tmp_path / "results").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "itf"], "did you mean 'ift'"),
        (["--map", "SFX/FFG"], "row 1, column 3 is 'X'"),
        (["--map", "SFF/FG"], "row 2 has 2 cells"),
        (["--map", "FFF/FFG"], "no start"),
        (["--map", "SHF/HHG"], "no goal can be reached"),
        (["--map", "5x5"], "neither a preset"),
        (["--map", "random:60:0"], "map has 3600 cells"),
        (["--lam", "1.5"], "lam must be in [0, 1], got 1.5"),
        (["--gamma", "-1"], "gamma must be in [0, 1], got -1.0"),
        (["--beta", "0"], "beta must be a finite number above 0, got 0.0"),
        (["--width", "1000000000"], "width 1000000000 on 15 cells would need at least 360 GB of memory"),
        (["--seeds", "9223372036854775808"], "seeds 9223372036854775808 with width 16"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--lr", "nan"], "lr must be a finite number above 0"),
        (["--discount", "1"], "discount must lie strictly between 0 and 1"),
        (["--rewards", "1", "2", "0"], "make it optimal never to reach a goal"),
        (["--rewards", "1", "nan", "0"], "rewards (reward_schedule) must be three finite numbers"),
        (["--margin", "nan"], "margin must be a finite number"),
        (["--device", "meta"], "device 'meta' is not there"),
        (["--device", "cuda:9"], "device 'cuda:9' is not there: this machine has cpu"),
        (["--success-rate", "2", "--slippery"], "success_rate must lie in [0, 1]"),
        (["--suboptimal", "up,up"], "suboptimal does not end in a goal"),
        (["--map", "SFFG", "--start", "both"], "suboptimal must be given"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(monkeypatch, capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_out_that_is_a_file_is_refused(monkeypatch, capsys, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file" in refused(monkeypatch, capsys, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("name", ["runs.parquet", "config.json", "picture.png"])
def test_a_folder_where_a_file_goes_is_said_and_nothing_is_lost(name, monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--out", tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).mkdir()
    before = sorted((tmp_path / "out").iterdir())
    assert f"holds a folder '{name}' where a file goes" in refused(
        monkeypatch, capsys, "--out", tmp_path / "out", "--overwrite"
    )
    assert sorted((tmp_path / "out").iterdir()) == before


@pytest.mark.parametrize("moves", range(8))
def test_a_kill_while_files_are_moved_is_mended_by_the_same_command(moves, monkeypatch, tmp_path):
    """No command refuses what it left itself."""
    left, replace = [moves], Path.replace

    def counted(self, target):
        if Path(target).parent == tmp_path / "out":
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    with pytest.raises(SystemExit) if moves < 7 else nullcontext():
        run(monkeypatch, "--out", tmp_path / "out")
    monkeypatch.setattr(Path, "replace", replace)
    run(monkeypatch, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_runs_that_explode_are_named_and_marked(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--method", "ipo", "--optimizer", "sgd", "--lr", "1e300", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "ipo: 3 of 3 runs no longer finite" in " ".join(printed.split())
    assert "seed 2 at step" in " ".join(printed.split())
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert (runs["stopped_at_step"] >= 0).all()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]["ipo"]["policy_mse"]["mean"] is None


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["toy.curves.fine_tune", "toy.results.draw_result"])
def test_ctrl_c_while_training_or_saving_leaves_nothing(monkeypatch, capsys, tmp_path, where):
    monkeypatch.setattr(where, interrupt)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--out", tmp_path / "out")
    assert stop.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_saving_keeps_the_results_that_were_there(monkeypatch, tmp_path):
    run(monkeypatch, "--out", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("toy.results.draw_result", interrupt)
    with pytest.raises(SystemExit):
        run(monkeypatch, "--out", tmp_path, "--gamma", "0.5", "--overwrite")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwriting_leaves_no_file_of_the_experiment_before_but_those_of_others(monkeypatch, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run(monkeypatch, "--method", "sft", "--render", "--out", tmp_path, "--overwrite")
    run(monkeypatch, "--method", "ift", "--out", tmp_path, "--overwrite")
    names = {path.name for path in tmp_path.iterdir()}
    assert "play-sft.gif" not in names
    assert {"notes.txt", "config.json"} <= names


def test_it_says_when_lam_has_nothing_to_mix(monkeypatch, capsys, tmp_path):
    idle = ("--protocol", "adam", "--start-steps", "100", "--width", "64")
    run(monkeypatch, "--method", "ift", *idle, "--out", tmp_path / "greedy")
    printed = capsys.readouterr().out
    assert "ift, λ idle" in printed
    assert "λ is idle in ift: at every step" in " ".join(printed.split())
    run(monkeypatch, "--method", "ift", *idle, "--prediction", "expected", "--out", tmp_path / "expected")
    printed = " ".join(capsys.readouterr().out.split())
    assert "idle" not in printed
    assert re.search(r"λ mixes in a cell that is not the target's own at \d+% of the steps of ift", printed)


def test_ift_alone_is_shown_beside_itself_without_its_parts_and_the_protocol_is_said(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Protocol paper:" in printed
    for row in (" ift ", " ift λ=0 ", " sft "):
        assert row in printed
    assert list(pd.read_parquet(tmp_path / "out" / "runs.parquet")["method"].unique()) == ["ift", "ift:lam=0", "sft"]


def test_protocols_are_listed_with_their_sources(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--protocol", "list")
    assert stop.value.code == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == list(PROTOCOLS)
    assert all(" Source: " in line for line in lines)


def test_an_option_changes_the_protocol_and_the_old_name_of_an_option_works(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--method", "dpo", "--beta", "2", "--propagation", "product", "--out", tmp_path / "out")
    assert "note: --propagation is called --form now" in capsys.readouterr().err
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["numbers"]["dpo"]["beta"] == 2
    assert (config["settings"]["form"], config["settings"]["optimizer"]) == ("product", "sgd")


def test_nothing_heavy_is_imported_before_the_options_are_known():
    heavy = "[name for name in ('torch', 'pandas', 'scipy', 'matplotlib', 'gymnasium') if name in sys.modules]"
    for arguments in (["--help"], ["--lam", "2"], ["--method", "iftt"], ["--protocol", "nonsense"], ["--lma", "1"]):
        program = (
            f"import sys\nsys.argv = ['frozenlake', *{arguments!r}]\nfrom toy.frozenlake import main\n"
            f"try: main()\nexcept SystemExit as stop: print('code', stop.code, {heavy})"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"code {0 if arguments == ['--help'] else 2} []", arguments


def test_help_names_defaults_and_ranges(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--help")
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("--lam FLOAT", "if not given, 0.2 for ift", "--map STR", "--seeds INT", "in [0, 1]"):
        assert word in printed


def test_a_default_folder_has_a_name_that_file_systems_take():
    ordinary, long = ({"methods": [f"ift:lam=0.{'1' * digits}{i}" for i in range(4)]} for digits in (1, 200))
    other = {"methods": [*long["methods"][:3], "sft"]}
    assert "ift-lam-0.10-ift-lam-0.11-" in default_folder(ordinary, "ring").name
    assert len(default_folder(long, "ring").name) < 200
    assert default_folder(long, "ring") != default_folder(other, "ring")


@pytest.mark.parametrize("threads", ["x", "0", ""])
def test_threads_that_numba_cannot_read_are_refused_by_name(monkeypatch, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    with pytest.raises(ValueError, match=f"NUMBA_NUM_THREADS in the environment must be .*, got '{threads}'"):
        reload(kernels)
