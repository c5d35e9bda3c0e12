import json
import sys

import numpy as np
import pytest

from lm import evaluate_lake, lake


@pytest.fixture
def run(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate_lake", *map(str, arguments)])
        evaluate_lake.main()

    return run


@pytest.fixture
def folder(tmp_path):
    lake.make_model(lake.make_tokenizer(), 0).save_pretrained(tmp_path / "model")
    lake.make_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_file_holds_what_is_printed_and_is_the_same_each_time(run, folder, tmp_path, capsys):
    for name in ("one.json", "two.json"):
        run("--model", folder, "--maps", 6, "--size", 5, "--holes", 0.4, "--out", tmp_path / name)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--maps", 0), "maps must be at least 1, got 0"),
        (("--size", 9), "size must be in [2, 8], got 9"),
        (("--holes", 0.9), "holes must be in [0, 0.6], got 0.9"),
        (("--seed", -1), "seed must be 0 or more, got -1"),
        (("--model", "nowhere/model"), "model 'nowhere/model': there is no such folder"),
    ],
)
def test_bad_options_are_one_line(arguments, message, run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_without_a_part_is_refused(missing, run, folder, capsys):
    (folder / missing).unlink()
    with pytest.raises(SystemExit) as stop:
        run("--model", folder, "--maps", 2)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model ")
    assert "give a folder with config, tokenizer and safetensors" in error
