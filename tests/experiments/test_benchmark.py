"""The benchmark: an equal budget, choices on development lakes alone, ranks with intervals, and the file that ships."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ift
from experiments import audit, benchmark, lakes, ranks
from experiments.benchmark import DISTANCES, FULL, HELD_OUT_LAKES, PROTOCOL_NAMES, QUICK, candidates
from figures import benchmark as command
from figures.leaderboard import write_page

TINY = replace(QUICK, development=("random-5-0",), held_out=2, development_seeds=(0, 2), held_out_seeds=(62_000, 2))


@pytest.mark.parametrize("scale", [FULL, QUICK])
def test_every_method_has_as_many_settings_in_every_protocol(scale):
    for method in ift.METHODS:
        trials = candidates(method, scale)
        for name in PROTOCOL_NAMES:
            settings = {trial.settings for key, trial in trials.items() if key.startswith(f"{name}/")}
            assert len(settings) == scale.step_sizes * scale.draws, (method, name)
            assert {each.optimizer for each in settings} == {"sgd" if name == "paper" else "adam"}


def test_the_first_draw_of_each_step_size_is_the_methods_default():
    trials = [trial for key, trial in candidates("asft", FULL).items() if key.startswith("adam/")]
    weights = [trial.settings.numbers_of(trial.value)["kl_weight"] for trial in trials]
    assert weights[::2] == [0.1] * 4
    assert len(set(weights[1::2])) == 4
    assert all(0.025 <= weight <= 0.4 for weight in weights)


def test_held_out_lakes_are_not_those_of_any_choice_and_have_a_second_way():
    others = {lake.key for lake in (*lakes.DEVELOPMENT_LAKES, *lakes.HELD_OUT_LAKES)}
    assert not others & {lake.key for lake in HELD_OUT_LAKES}
    assert len({lake.key for lake in HELD_OUT_LAKES}) == 20
    for lake in HELD_OUT_LAKES[:4]:
        assert lakes.has_second_way(lake.make())
    seeds = range(FULL.held_out_seeds[0], sum(FULL.held_out_seeds))
    assert not set(seeds) & set(range(lakes.HELD_OUT_SEEDS[0], sum(lakes.HELD_OUT_SEEDS)))
    assert audit is not None


def made_up(methods=("sft", "ift", "dpo"), lake_count=6, stopped=None):
    generator = np.random.default_rng(0)
    rows = []
    for name in PROTOCOL_NAMES:
        for lake in range(lake_count):
            for place, method in enumerate(methods):
                values = {distance: 0.1 * (place + 1) + 0.01 * generator.random() for distance in DISTANCES}
                if method == stopped:
                    values = dict.fromkeys(DISTANCES, np.nan)
                scores = dict.fromkeys(benchmark.SCORES, 0.5)
                start = {f"start_{key}": 1.0 for key in (*DISTANCES, *benchmark.SCORES)}
                rows.append({"protocol": name, "method": method, "lake": f"lake-{lake}", "settings": "step size 1",
                             **values, **scores, **start})  # fmt: skip
    return pd.DataFrame(rows)


def test_places_and_shares_are_those_of_the_rows():
    table = ranks.standings(made_up()).set_index(["protocol", "distance", "method"])
    one = table.loc[("paper", "policy_mse")]
    assert list(one["rank"]) == [1, 2, 3]
    assert (one["rank_low"] == one["rank"]).all()
    assert one.loc["ift", "share_low"] <= one.loc["ift", "share"] <= one.loc["ift", "share_high"]
    assert one.loc["ift", "share"] == pytest.approx(0.205, abs=0.005)
    assert list(ranks.overall(made_up())["method"]) == ["sft", "ift", "dpo"]


def test_a_method_that_stopped_comes_last():
    table = ranks.overall(made_up(stopped="sft"))
    assert list(table["method"]) == ["ift", "dpo", "sft"]


def test_the_file_that_ships_is_checked(tmp_path):
    file = tmp_path / "benchmark.csv"
    with pytest.raises(ValueError, match="cannot be read: make it again with"):
        benchmark.shipped(file)
    benchmark.ship(made_up(), {"sft": 1.0}, file)
    held = benchmark.shipped(file)
    assert held.costs == {"sft": 1.0}
    np.testing.assert_allclose(held.rows[list(DISTANCES)], made_up()[list(DISTANCES)], rtol=1e-5)
    file.write_text(file.read_text().replace("sft", "sff", 1))
    with pytest.raises(ValueError, match="is not the file that"):
        benchmark.shipped(file)


def test_what_ships_has_every_method_on_every_lake():
    held = benchmark.shipped()
    lake_keys = {lake.key for lake in HELD_OUT_LAKES[: FULL.held_out]}
    for name in PROTOCOL_NAMES:
        of_protocol = held.rows[held.rows["protocol"] == name]
        assert set(of_protocol["lake"]) == lake_keys
        assert set(of_protocol.groupby("method").size()) == {len(lake_keys)}
    assert set(held.costs) == set(held.rows["method"]) == {*ift.METHODS} - {*ift.METHODS.origins}


def test_a_method_that_is_made_anew_takes_its_own_rows_place_alone(tmp_path):
    """`--method ift --ship`: the others' rows are the same bytes as before, and a method from outside is refused."""
    file = tmp_path / "benchmark.csv"
    benchmark.ship(made_up(), {"sft": 1.0, "ift": 1.5, "dpo": 3.0}, file)
    before = file.read_text().splitlines()
    others = benchmark.without(benchmark.shipped(file), ["ift"])
    assert others.costs == {"sft": 1.0, "dpo": 3.0}
    rows = made_up()
    benchmark.ship(benchmark.together(others, rows[rows["method"] == "ift"]), {}, file)
    assert sorted(file.read_text().splitlines()) == sorted(before)


def test_what_ships_comes_out_again():
    """One method on one lake in one protocol, with the settings that were chosen."""
    held = benchmark.shipped().rows
    (row,) = held[(held["method"] == "asft") & (held["protocol"] == "adam") & (held["lake"] == "random-4-900")].to_dict(
        "records"
    )
    (trial,) = [
        trial for key, trial in candidates("asft", FULL).items()
        if key.startswith("adam/") and benchmark._in_words(trial) == row["settings"]
    ]  # fmt: skip
    first, count = FULL.held_out_seeds
    again = benchmark._train(
        HELD_OUT_LAKES[0], "adam", {"x": replace(trial, settings=replace(trial.settings, seed=first, seeds=count))}
    )
    for column in (*DISTANCES, "success", "start_policy_mse"):
        assert again[column].item() == pytest.approx(row[column], rel=1e-3), column


def test_the_command_writes_one_page_of_a_new_method_and_goes_on_where_it_was(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "QUICK", TINY)
    monkeypatch.setattr("figures.leaderboard.QUICK", TINY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_method.py").write_text(
        "import ift\n"
        "def loss(log_probs, mask, k=1.0):\n    return ift.masked_mean(-k * log_probs.exp(), mask)\n"
        "mine = ift.Method('mine', 'Mine', 'mine', 'targets', loss, (ift.Number('k', 'k', 1.0, 1.0),))\n"
    )
    arguments = ["benchmark", "--method", "my_method.py:mine", "--quick", "--jobs", "1"]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", arguments)
        command.main()
        monkeypatch.setattr(benchmark, "_train", None)  # the second time nothing is trained
    folder = tmp_path / "results" / "quick" / "benchmark-mine"
    page, markdown = (folder / "benchmark.html").read_text(), (folder / "benchmark.md").read_text()
    assert markdown.startswith("# Benchmark of mine")
    assert '<tr class="shown"><td>mine</td>' in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page.replace("https://", "")
    assert markdown.count("| mine |") >= 5
    assert all(f"| {name} |" in markdown for name in ("sft", "dagger", "gem"))
    assert str(folder / "benchmark.html").split("results")[1] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "method must name at least one"),
        (["--method", "sfft"], "method 'sfft' is unknown: did you mean 'sft'"),
        (["--method", "sft", "--jobs", "0"], "jobs must be at least 1"),
        (["--method", "all", "--ship", "--quick"], "ship needs the full scale: leave --quick out"),
    ],
)
def test_bad_options_end_with_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_page_has_a_table_for_each_protocol(tmp_path):
    page, markdown, picture, drawing = write_page(tmp_path, made_up(), {"sft": 1.0, "ift": 1.6}, (), quick=False)
    text = markdown.read_text()
    assert text.startswith("# Leaderboard")
    assert all(f"## Protocol {name}\n" in text for name in PROTOCOL_NAMES)
    assert "| 2 | ift | 2.0 [2.0, 2.0] | targets | 1.6 × SFT's | Intuitive fine-tuning (arXiv 2405.11870) |" in text
    assert "| 3 | dpo | 3.0 [3.0, 3.0] | pairs | not measured |" in text
    assert picture.stat().st_size > 5_000
    assert "<svg" in drawing.read_text()
    assert page.read_text().count("<table>") == 5
