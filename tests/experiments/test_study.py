"""The study on a small model: from data to table, continued after a stop; bad input."""

import json
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import torch

pytest.importorskip("lm_eval", reason="the eval extra is not installed: pip install -e '.[eval]'")

from common.models import load_trained
from experiments import study
from lm.train.models import load_tokenizer
from lm.train.settings import TrainSettings
from tests.calling import exit_code


def call(monkeypatch, *arguments):
    return exit_code(study.main, monkeypatch, arguments)


@pytest.fixture
def data(tmp_path):
    """Sums, in the three files of the study; one pair is too long for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    long = "9" * 400
    answered = [{"question": f"{i}+1=", "answer": f"it is\n#### {i + 1}"} for i in range(12)]
    pairs = [{"prompt": f"{i}+2=", "chosen": f"a {i + 2}", "rejected": f"a {i if i else long}"} for i in range(12)]
    for name, rows in (("train", answered), ("test", answered[:6]), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_bad_input_is_one_line(data, saved_model, tmp_path, monkeypatch, capsys):
    out = ("--out", tmp_path / "out")
    cases = [
        (("--data", tmp_path / "nowhere"), "lacks train.jsonl, pairs.jsonl, test.jsonl"),
        (("--data", data, "--updates", 0), "updates must be above 0"),
        (("--data", data, "--learning-rate", -1), "learning_rate must be above 0"),
        (("--data", data, "--seeds"), "seeds must be one or more"),
        (("--data", data, "--model", saved_model, "--rows", 12), "rows must be at most 11"),
        (("--data", data, "--model", saved_model, "--rows", 4, "--questions", 7), "questions must be at most 6"),
        (("--data", data, "--model", tmp_path / "none"), "there is no such folder"),
    ]
    for arguments, message in cases:
        assert call(monkeypatch, *arguments, *out) == 2, arguments
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line


def test_questions_that_were_cut_are_refused_before_anything_is_written(
    data, saved_model, tmp_path, monkeypatch, capsys
):
    file = data / "test.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    options = ("--rows", 4, "--questions", 2, "--out", tmp_path / "out")
    assert call(monkeypatch, "--data", data, "--model", saved_model, *options) == 2
    assert "test.jsonl': line 6 is not JSON (Unterminated string starting at character " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_base_without_template_is_asked_in_the_one_that_training_gives(saved_model, tmp_path):
    base, out = str(saved_model), tmp_path / "base-model"
    assert study._as_trained_from(base, out) == str(out)
    given, bare = load_trained(base)
    model, tokenizer = load_trained(str(out))
    assert bare.chat_template is None
    assert tokenizer.chat_template == load_tokenizer(TrainSettings(model=base)).chat_template is not None
    for name, weight in given.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
    bare.chat_template = "{{ messages }}"
    bare.save_pretrained(base)
    assert study._as_trained_from(base, out) == base


def words_of(process):
    """The command line of a process; nothing of one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_what_ends_the_study_ends_its_training(data, saved_model, tmp_path):
    command = ["--data", data, "--model", saved_model, "--out", tmp_path / "out", "--updates", 10_000, "--rows", 4,
               "--batch-size", 2, "--questions", 1, "--max-new-tokens", 1]  # fmt: skip
    running = subprocess.Popen([sys.executable, "-m", "experiments.study", *map(str, command)], stderr=subprocess.PIPE)
    mine = psutil.Process(running.pid)
    while not (trainings := [p for p in mine.children(recursive=True) if "lm.train" in words_of(p)]):
        assert running.poll() is None
        time.sleep(0.2)
    running.terminate()
    assert running.wait(60) == 130
    psutil.wait_procs(trainings, timeout=10)
    assert not any(training.is_running() for training in trainings)


@pytest.mark.parametrize(("ended", "code", "errors"), [(2, 2, 0), (1, 1, 0), (-9, 1, 1)])
def test_the_study_ends_as_its_training(ended, code, errors, data, saved_model, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(study, "_scores", lambda *of: pd.DataFrame({"right": [True]}))
    monkeypatch.setattr(study.subprocess, "run", lambda words, check: SimpleNamespace(returncode=ended))
    options = ("--data", data, "--model", saved_model, "--out", tmp_path / "out", "--updates", 2, "--rows", 4,
               "--batch-size", 2, "--questions", 4, "--jobs", 1)  # fmt: skip
    assert call(monkeypatch, *options) == code
    assert capfd.readouterr().err.count("error: ") == errors


@pytest.mark.slow
def test_the_whole_study_on_a_small_model(data, saved_model, tmp_path, monkeypatch, capsys):
    options = ("--data", data, "--model", saved_model, "--out", tmp_path / "out", "--updates", 2, "--rows", 4,
               "--batch-size", 2, "--questions", 4, "--max-new-tokens", 8)  # fmt: skip
    assert call(monkeypatch, *options) == 0
    first = capsys.readouterr().out
    for name in ("base", *study.RUNS):
        assert name in first
    for name in study.RUNS:
        card = (tmp_path / "out" / study._slug(f"{name}-0") / "model" / "README.md").read_text()
        (counts,) = [line for line in card.splitlines() if line.startswith("| train |")]
        assert counts.split(" | ")[5:7] == ["0", "0"]  # prompts and answers cut
    # As if it had been stopped during the last training: what is finished is not made again.
    (tmp_path / "out" / "runs.parquet").unlink()
    shutil.rmtree(tmp_path / "out" / "orpo-0")
    shutil.rmtree(tmp_path / "out" / "scores" / "orpo-0")
    kept = (tmp_path / "out" / "dpo-0" / "log.jsonl").stat().st_mtime_ns
    assert call(monkeypatch, *options) == 0
    assert (tmp_path / "out" / "dpo-0" / "log.jsonl").stat().st_mtime_ns == kept
    again = capsys.readouterr().out
    rows = [line.split()[:-2] for text in (first, again) for line in text.splitlines() if line.startswith("ORPO")]
    assert len(rows) == 2  # its scores, without time and memory
    assert rows[0] == rows[1]
