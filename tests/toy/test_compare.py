"""Two result folders side by side."""

import json
import os
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest

from toy import compare as module
from toy import frozenlake


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for name, lam in (("without", "0"), ("with", "0.5")):
        arguments = ["--method", "sft", "ift", "--lam", lam, "--seeds", "4", "--steps", "12", "--start-steps", "20"]
        frozenlake.run(
            frozenlake.parse_command([*arguments, "--prediction", "expected", "--out", str(root / name)]),
            frozenlake.Console(quiet=True),
        )
    return root / "without", root / "with"


def test_differences_are_paired_by_seed(folders):
    rows = module.compare(*folders).set_index(["method", "metric"])
    assert set(rows["seeds"]) == {4}
    assert (rows.loc["sft", ["mean", "low", "high"]] == 0).all(axis=None)  # λ is nothing to SFT
    first, second = (pd.read_parquet(folder / "runs.parquet").query("method == 'ift'") for folder in folders)
    expected = (first["policy_mse"] - second["policy_mse"]).mean()
    assert expected != 0
    assert rows.loc[("ift", "policy_mse"), "mean"] == pytest.approx(expected, rel=1e-12)
    assert module.changed_settings(*folders) == {"settings.lam": (0.0, 0.5), "numbers.ift.lam": (0.0, 0.5)}


def test_the_command_says_what_changed(folders, capsys):
    module.run(module.Options(*folders))
    printed = capsys.readouterr().out
    assert "settings.lam: 0.0 in the first, 0.5 in the second" in printed
    assert "ift" in printed


def test_a_folder_s_name_is_no_address(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders[0], "rows:99/a")
    assert module.compare(Path("rows:99/a"), folders[1]).equals(module.compare(*folders))


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match=r"holds no runs\.parquet"):
        module.compare(folders[0], tmp_path)
    with pytest.raises(ValueError, match="metric 'reward' is no column"):
        module.compare(*folders, metrics=("reward",))
    with pytest.raises(ValueError, match="metrics must name at least one column"):
        module.compare(*folders, metrics=())


@pytest.mark.parametrize("spoiled", ["3", "[[]]", "null", '"x"', "{"])
def test_settings_of_another_kind_are_refused_by_the_file_s_name(spoiled, folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "spoiled")
    (tmp_path / "spoiled" / "config.json").write_text(spoiled)
    with pytest.raises(ValueError, match=r"spoiled/config\.json' is broken: give another folder"):
        module.run(module.Options(folders[1], tmp_path / "spoiled"))


def test_results_that_are_no_numbers_are_refused_by_the_file_s_name(folders, tmp_path):
    runs = pd.read_parquet(folders[0] / "runs.parquet")
    shutil.copy(folders[0] / "config.json", tmp_path)
    runs.assign(success="often").to_parquet(tmp_path / "runs.parquet")
    with pytest.raises(ValueError, match=r"runs\.parquet' is broken: give another folder"):
        module.compare(folders[1], tmp_path)


def test_settings_are_printed_as_they_stand(folders, tmp_path, capsys):
    shutil.copytree(folders[0], tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "protocol": "[/b] [red]"}))
    module.run(module.Options(folders[0], tmp_path / "other"))
    assert "in the first, [/b] [red] in the second" in capsys.readouterr().out


def changed(folder, to, config=None, runs=lambda rows: rows):
    """A copy of a folder of results with other settings or rows."""
    shutil.copytree(folder, to)
    if config:
        (to / "config.json").write_text(json.dumps({**json.loads((to / "config.json").read_text()), **config}))
    runs(pd.read_parquet(to / "runs.parquet")).to_parquet(to / "runs.parquet")
    return to


def test_nothing_in_a_folder_commands_the_terminal(folders, tmp_path, capsys):
    def name_badly(rows):
        return rows.replace({"method": {"sft": "[/b]\x1b[31m"}}).assign(**{"[/x]": 1.0})

    config = {"protocol": "\x1b[2J\x07\ud800"}
    both = [changed(folders[0], tmp_path / name, given, name_badly) for name, given in (("a", config), ("b", None))]
    module.run(module.Options(*both, metrics=("success", "[/x]")))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[2J\\x07\\ud800 in the first" in printed
    assert "[/b]\\x1b[31m" in printed
    assert "[/x]" in printed


def test_a_seed_that_is_there_twice_is_refused(folders, tmp_path):
    twice = changed(folders[0], tmp_path / "twice", runs=lambda rows: pd.concat([rows, rows.tail(1)]))
    with pytest.raises(ValueError, match=r"runs\.parquet' has method ift with seed 3 twice"):
        module.compare(folders[0], twice)


def test_infinite_values_are_no_warning(folders, tmp_path):
    far = changed(folders[0], tmp_path / "far", runs=lambda rows: rows.assign(success=[float("inf"), *[1.0] * 7]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.compare(far, folders[1], ("success",))["mean"].to_list()[0] == float("inf")


def test_what_is_no_ordinary_file_is_no_result(folders, tmp_path):
    """A pipe would be waited for."""
    odd = changed(folders[0], tmp_path / "odd")
    (odd / "config.json").unlink()
    os.mkfifo(odd / "config.json")
    with pytest.raises(ValueError, match=r"holds no config\.json: give a folder of python -m toy\.frozenlake"):
        module.compare(odd, folders[1])
