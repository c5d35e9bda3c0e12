"""The page `docs/add-a-method.md`, as a stranger follows it: its files, and every command that it shows."""

import json
import re
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

import ift
from experiments import lake_language
from figures import __main__ as figures
from lm.train import __main__ as train
from lm.train.command_line import as_yaml, parse, read_recipe
from toy import Lake, Settings, Trial, align, scored_states, sweep
from toy.explore import __main__ as explore
from toy.explore.request import Request
from toy.frozenlake import main, parse_command

PAGE = (Path(__file__).parents[1] / "docs" / "add-a-method.md").read_text()
MINE, HELD = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
QUICK = Settings(seeds=3, steps=8, width=16, start_steps=40)
SMALL = ["--seeds", "3", "--steps", "8", "--width", "16"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A stranger's folder with the page's files."""
    (tmp_path / "my_method.py").write_text(MINE)
    (tmp_path / "held.py").write_text(HELD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch, command, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    command()


def test_the_page_shows_a_method_in_twenty_lines():
    assert len(MINE.strip().splitlines()) <= 20


def test_the_lakes_command_trains_it_with_its_own_number(monkeypatch, capsys, folder):
    for file, *numbers in (["one"], ["two", "--power", "2"], ["three", "--numbers", "mine.power=2"]):
        call(monkeypatch, main, "--method", "sft", "my_method.py:mine", *SMALL, *numbers, "--out", folder / file)
    assert " mine " in capsys.readouterr().out
    one, two, three = (pd.read_parquet(folder / name / "runs.parquet") for name in ("one", "two", "three"))
    assert list(one["method"].unique()) == ["sft", "mine"]
    pd.testing.assert_frame_equal(two, three)
    assert (one["parameter_mse"] != two["parameter_mse"]).sum() == 3  # mine's runs
    config = json.loads((folder / "two" / "config.json").read_text())
    assert config["numbers"]["mine"] == {"power": 2.0}
    assert config["origins"]["mine"].startswith("my_method.py:mine sha256")
    assert str(folder) not in json.dumps(config["origins"])


def test_help_has_its_name_and_its_number(monkeypatch, capsys):
    for command in (main, train.main):
        with pytest.raises(SystemExit):
            call(monkeypatch, command, "--method", "my_method.py:mine", "--help")
        printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert ", mine," in printed
        assert re.search("--power FLOAT the power k of the probability", printed, re.IGNORECASE)


def test_python_takes_files_too():
    lake = Lake.make("ring")
    runs = align(lake, ["sft", "my_method.py:mine", "my_method.py:mine:power=2"], QUICK).runs
    assert list(runs["method"].unique()) == ["sft", "mine", "mine:power=2"]
    other = Settings(**{**QUICK.as_dict(), "numbers": ("mine.power=2",)})
    swept = sweep(lake, {"a": Trial("my_method.py:mine", QUICK), "b": Trial("mine", other)})
    expected = runs[runs["method"] != "sft"]["parameter_mse"].to_numpy()
    assert swept["parameter_mse"].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert scored_states(lake, "my_method.py:mine", QUICK).raised.sum() == pytest.approx(1)


def test_a_loss_that_reads_policies_is_given_them_on_a_lake():
    """With a weight of 0 it is SFT; with a large one the policy stays where it was."""
    runs = align(Lake.make("ring"), ["sft", "held.py:held:pull=0", "held.py:held:pull=10"], QUICK).runs
    sft, free, fast = (runs[runs["method"] == name] for name in ("sft", "held:pull=0", "held:pull=10"))
    assert free["parameter_mse"].to_numpy() == pytest.approx(sft["parameter_mse"].to_numpy(), rel=1e-9)
    assert (fast["drift_target"].to_numpy() < sft["drift_target"].to_numpy()).all()


def test_a_recipe_alone_has_nothing_run(folder):
    """It may be somebody else's: what it would have run has to be on the command line, too."""
    (folder / "evil.py").write_text("from pathlib import Path\nPath('was-run').touch()\n")
    recipe = folder / "recipe.yaml"
    for text, flag in (("method: evil.py:mine\n", "--method evil.py:mine"), ("trust_remote_code: true\n", "")):
        recipe.write_text(text)
        for read in (read_recipe, lambda path: parse(["--config", str(path)])):
            with pytest.raises(ValueError, match=f"if you trust .*{flag}"):
                read(recipe)
    assert not (folder / "was-run").exists()
    trusting = parse(["--trust-remote-code"])
    assert trusting.trust_remote_code
    assert "trust_remote_code" not in as_yaml(trusting)


def test_a_long_word_takes_no_longer_to_read():
    """By trying every beginning of a file's name it would take minutes."""
    word = "x" * 500_000
    assert ift.METHODS.named_in(word) == word


def test_the_language_models_command_takes_it(folder):
    settings = parse(["--method", "my_method.py:mine", "--power", "0.5"])
    assert (settings.method, settings.numbers) == ("mine", {"power": 0.5})
    recipe = folder / "recipe.yaml"
    recipe.write_text("method: my_method.py:mine\npower: 2e-1\n")
    again = parse(["--config", str(recipe), "--method", "my_method.py:mine"])
    assert (again.method, again.numbers) == ("mine", {"power": 0.2})
    with pytest.raises(ValueError, match="power must be a finite number above 0, got 0"):
        parse(["--method", "mine", "--power", "0"])
    with pytest.raises(ValueError, match="sft has no number 'power'"):
        parse(["--method", "sft", "--power", "1"])


def test_the_comparison_of_language_models_has_as_many_settings_for_it():
    ift.METHODS.named_in("my_method.py:mine")
    trials = lake_language.settings_of("mine", 4)
    assert len(trials) == len(lake_language.settings_of("ift", 4)) == 8
    assert {trial.options["method_numbers"] for trial in trials} == {("power=0.5",), ("power=2",)}


def test_the_explorer_lists_it_and_a_page_cannot_run_a_file(monkeypatch, capsys, folder):
    call(monkeypatch, explore.main, "--method", "my_method.py:mine", "--replay", folder / "replay.html")
    assert '"mine"' in (folder / "replay.html").read_text()
    data = {"map": "SFF/FHF/FFG", "slippery": False, "methods": ["sft", "mine"], "protocol": "adam", "settings": {},
            "numbers": {}, "shade": "distance"}  # fmt: skip
    assert "--method sft my_method.py:mine" in Request.of(data).command
    with pytest.raises(ValueError, match="is a file: name it on the command line"):
        Request.of({**data, "methods": ["sft", "held.py:held"]})
    assert "held" not in ift.METHODS


def test_the_command_of_a_page_names_a_file_by_its_path_and_a_shared_one_does_not(folder):
    """So what the page saves runs the file that was named, and not another one of that name."""
    (folder / "sub").mkdir()
    (folder / "my_method.py").rename(folder / "sub" / "my_method.py")
    (folder / "my_method.py").write_text("raise SystemExit('the wrong one')")
    ift.METHODS.named_in("sub/my_method.py:mine")
    request = Request.of({"map": "SFF/FHF/FFG", "slippery": False, "methods": ["sft", "mine:power=2"],
                          "protocol": "adam", "settings": {}, "numbers": {}, "shade": "distance"})  # fmt: skip
    assert "--method sft sub/my_method.py:mine:power=2" in request.command
    assert "--method sft my_method.py:mine:power=2" in request.shared_command
    assert parse_command(request.arguments).output.method == ("sft", "mine:power=2")


@pytest.mark.parametrize("read", [parse_command, parse])
@pytest.mark.parametrize(
    "words", [["--method", "sft", "--out", "evil.py:mine"], ["evil.py:mine"], ["--seed=evil.py:x"]]
)
def test_no_other_option_runs_a_file(folder, capsys, read, words):
    (folder / "evil.py").write_text("from pathlib import Path\nPath('was-run').touch()\n")
    with suppress(SystemExit):
        read(words)
    recipe = folder / "recipe.yaml"
    recipe.write_text("method: evil.py:mine\n")
    with pytest.raises(ValueError, match="if you trust it"):
        parse(["--config", str(recipe), "--output-dir", "evil.py:mine"])
    assert not (folder / "was-run").exists()


@pytest.mark.parametrize(("command", "taken"), [(main, "map"), (main, "steps"), (main, "optim"), (train.main, "model")])
def test_a_number_with_the_name_of_an_option_ends_a_command_with_one_line(monkeypatch, capsys, folder, command, taken):
    (folder / "taken.py").write_text(MINE.replace("power", taken))
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, command, "--method", "taken.py:mine")
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: method 'mine': its number {taken!r} has the name of an option of python -m ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("raised", ["ValueError('x')", "KeyError('x')", "SystemExit(7)"])
def test_a_loss_that_fails_in_the_training_ends_it_with_one_line(monkeypatch, capsys, folder, raised):
    fails = f"    if len(log_probs) == 3:  # runs\n        raise {raised}\n    return"
    text = MINE.replace("    return", fails)
    (folder / "fails.py").write_text(text)
    line = text.splitlines().index(f"        raise {raised}") + 1
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, main, "--method", "fails.py:mine", *SMALL, "--out", folder / "out")
    assert ended.value.code == 1
    said = raised.replace("('x')", ": 'x'" if "Key" in raised else ": x").replace("(7)", ": 7")
    expected = f"error: method 'mine': its loss failed in the training: {said} (fails.py, line {line})\n"
    assert capsys.readouterr().err == expected


def test_figures_of_other_methods_are_refused_where_the_methods_are_fixed(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, figures.main, "phase", "--method", "my_method.py:mine")
    assert ended.value.code == 2
    assert "figure 'phase' shows fixed methods: --method goes with paradigms" in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, train.main, explore.main, lake_language.main, figures.main])
def test_a_broken_loss_ends_every_command_with_one_line(command, monkeypatch, capsys, folder):
    (folder / "broken.py").write_text(MINE.replace("ift.masked_mean(", "(").replace(", mask)\n\n", ").mean(-1)\n\n"))
    first = ["frozen-lake"] if command is figures.main else []
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, command, *first, "--method", "broken.py:mine", *(["sft"] if command is main else []))
    assert ended.value.code == 2
    line = "error: method 'mine': its loss depends on tokens that the mask leaves out: take ift.masked_mean\n"
    assert capsys.readouterr().err.endswith(line)


@pytest.mark.slow
def test_the_figures_show_it(monkeypatch, capsys, folder):
    monkeypatch.setattr("figures.paradigms.measured_costs", lambda out, quick: {"lake": {}, "language": {}})
    arguments = ["frozen-lake", "paradigms", "--quick", "--method", "my_method.py:mine"]
    call(monkeypatch, figures.main, *arguments, "--out", folder / "figures")
    drawn = folder / "figures" / "quick" / "with-mine"
    assert "MINE" in (drawn / "paradigms.svg").read_text() or (drawn / "paradigms.png").stat().st_size > 10_000
    assert "mine power 1" in (drawn / "frozen-lake.md").read_text()
