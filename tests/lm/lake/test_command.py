import json
import sys

import numpy as np
import pytest
from datasets import load_dataset

from lm import lake
from lm.lake import __main__ as command
from lm.lake.commands import show_scores
from lm.lake.options import Score
from lm.lake.teacher import own_pairs
from lm.train import data


@pytest.fixture
def run(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lm.lake", *map(str, arguments)])
        command.main()

    return run


@pytest.fixture
def folder(tmp_path):
    lake.make_model(lake.make_tokenizer(), 0).save_pretrained(tmp_path / "model")
    lake.make_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_file_holds_what_is_printed_and_is_the_same_each_time(run, folder, tmp_path, capsys):
    for name in ("one.json", "two.json"):
        run("score", "--model", folder, "--maps", 6, "--size", 5, "--holes", 0.4, "--out", tmp_path / name)
    found = json.loads((tmp_path / "one.json").read_text())
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    printed = capsys.readouterr().out
    for name, value in found["scores"].items():
        assert f"{name:<28} {'nan' if value is None else f'{value:.4f}'}" in printed
    assert found["options"]["holes"] == 0.4


def test_holes_are_as_many_as_asked_for():
    few, many = (lake.random_maps(200, "dev", np.random.default_rng(0), 6, holes) for holes in (0.05, 0.4))
    assert (few == "H").mean() < 0.06
    assert 0.25 < (many == "H").mean() < 0.4  # maps without a way are left out


def test_wrong_first_moves_leave_maps_out_that_have_none(run, folder, capsys):
    run("score", "--model", folder, "--maps", 30, "--wrong-first")
    counted = float(capsys.readouterr().out.split()[1])
    assert 10 < counted <= 30


def test_a_file_of_the_model_is_not_replaced_by_its_scores(folder):
    whole = (folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match="lies in the model's folder"):
        show_scores(Score(model=str(folder), maps=3, out=folder / "config.json"))
    assert (folder / "config.json").read_bytes() == whole


def test_what_cannot_be_scored_by_state_is_a_note_and_null(run, folder, tmp_path, capsys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    run("score", "--model", folder, "--maps", 3, "--out", tmp_path / "scores.json")
    assert "note: no scores by state: a map needs 29 tokens, the model's context has 16" in capsys.readouterr().err
    found = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert found["outcome_no_room"] == 1
    assert found["state_policy_mse"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--maps", 0), "maps must be at least 1, got 0"),
        (("--size", 9), "size must be in [2, 8], got 9"),
        (("--holes", 0.9), "holes must be in [0, 0.6], got 0.9"),
        (("--seed", -1), "seed must be 0 or more, got -1"),
        (("--wrong-first", "--slippery"), "wrong_first must be off on slippery ice, got True"),
        (("--model", "./nowhere"), "model './nowhere': there is no such folder"),
    ],
)
def test_bad_options_are_one_line(arguments, message, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("score", *arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_without_a_part_is_refused(missing, run, folder, capsys):
    (folder / missing).unlink()
    with pytest.raises(SystemExit) as stop:
        run("score", "--model", folder, "--maps", 2)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model ")
    assert "name a local folder with config, tokenizer and safetensors" in error
    assert missing != "config.json" or "it lacks config.json" in error


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_examples_can_be_written_for_any_trainer(suffix, run, tmp_path):
    out = tmp_path / f"walks{suffix}"
    run("data", "--rows", 7, "--split", "test", "--out", out)
    rows = load_dataset("json" if suffix == ".jsonl" else "parquet", data_files=str(out), split="train").to_list()
    assert rows == lake.examples(7, "test", 0)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert data.load((str(out),), True, 0).num_rows == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "walks.txt"], "out must end in .jsonl or .parquet, got 'walks.txt'"),
        (["--out", "a.jsonl", "--rows", "0"], "rows must be at least 1, got 0"),
        (["--out", "a.jsonl", "--size", "1"], "size must be in [2, 12], got 1"),
        (["--out", "a.jsonl", "--kind", "move", "--own", "m"], "own must be left out unless kind is walk, got m"),
        (["--out", "a.jsonl", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (
            ["--out", "a.jsonl", "--size", "2", "--rows", "40"],
            "only 36 different maps of 2×2 were found in the split 'train', 40 were asked for",
        ),
        (
            ["--out", "a.jsonl", "--size", "2", "--rows", "100000"],
            "there are no 100000 different maps of 2×2: ask for fewer, or for larger ones",
        ),
    ],
)
def test_bad_options_of_the_writer_are_one_line(arguments, message, run, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run("data", *arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_models_own_walks_can_be_written(run, folder, tmp_path):
    run("data", "--rows", 4, "--own", folder, "--out", tmp_path / "own.jsonl")
    rows = load_dataset("json", data_files=str(tmp_path / "own.jsonl"), split="train").to_list()
    assert rows == own_pairs(lake.make_model(lake.make_tokenizer(), 0), lake.make_tokenizer(), 4, "train", 0)
