"""`python -m toy.frozenlake` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from toy.frozenlake import main
from toy.metrics import METRICS

ROOT = Path(__file__).parents[2]
QUICK = ["--seeds", "3", "--steps", "10", "--width", "16"]


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
    assert {path.name for path in out.iterdir()} == {
        "config.json", "runs.parquet", "start.parquet", "summary.json", "policies.npz", "picture.png",
        "play-sft.gif", "play-ift.gif",
    }  # fmt: skip
    runs = pd.read_parquet(out / "runs.parquet")
    assert len(runs) == 6
    assert {"method", "seed", *METRICS} <= set(runs.columns)
    config = json.loads((out / "config.json").read_text())
    assert config["methods"] == ["sft", "ift"]
    assert config["settings"]["lam"] == 0.2
    assert config["lake"]["rows"] == ["SFFFF", "FHHHF", "FFFGF"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["methods"]["ift"]["policy_mse"]["mean"] == pytest.approx(
        runs[runs["method"] == "ift"]["policy_mse"].mean()
    )
    with np.load(out / "policies.npz") as policies:
        np.testing.assert_allclose(policies["policy_ift"].sum(-1), 1)
    assert Image.open(out / "picture.png").size[0] > 800
    assert Image.open(out / "play-ift.gif").n_frames > 1


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
    run(monkeypatch, "--map", "SFF/FHF/FFG")
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
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--lr", "nan"], "lr must be a finite number above 0"),
        (["--discount", "1"], "discount must lie strictly between 0 and 1"),
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


def test_runs_that_explode_are_named_and_marked(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--method", "ipo", "--optimizer", "sgd", "--lr", "1e300", "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "ipo, seed 0: no longer finite at step" in printed
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert (runs["stopped_at_step"] >= 0).all()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]["ipo"]["policy_mse"]["mean"] is None


def test_ctrl_c_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "toy.frozenlake", "--method", "all", "--seeds", "256", "--steps", "100000"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    time.sleep(12)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: nothing was written" in error
    assert not list(tmp_path.iterdir())


def test_help_names_defaults_and_ranges(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--help")
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("--lam FLOAT", "(default: 0.2)", "--map STR", "--seeds INT", "in [0, 1]"):
        assert word in printed
