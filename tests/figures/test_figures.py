import json
import sys

import numpy as np
import pytest
from PIL import Image

from figures.__main__ import FIGURES, main


@pytest.fixture
def run(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["figures", *map(str, arguments), "--jobs", "1"])
        main()

    return run


@pytest.fixture
def no_bench(monkeypatch, tmp_path):
    """The bench takes minutes: its numbers are given."""
    costs = {
        "lake": {m: {"seconds": s} for m, s in zip(("sft", "ift", "orpo", "dpo", "ppo"), (1, 2, 4, 5, 3), strict=True)},
        "language": {"sft": {"seconds": 2.0, "gigabytes": 1.5}, "ift": {"seconds": 2.66, "gigabytes": 1.55}},
    }
    monkeypatch.setattr("figures.tables.measured_costs", lambda out, quick: costs)
    monkeypatch.setattr("figures.paradigms.measured_costs", lambda out, quick: costs)


def test_the_figure_is_drawn_and_its_results_are_kept(run, monkeypatch, tmp_path, capsys):
    run("frozen-lake", "--quick", "--out", tmp_path)
    out = tmp_path / "quick"
    assert Image.open(out / "frozen-lake.png").size[0] > 2000
    assert (out / "frozen-lake.svg").read_text().startswith("<?xml")
    caption = (out / "frozen-lake.md").read_text()
    assert "16 seeds from 120000" in caption
    assert "The `paper` protocol" in caption
    assert "`python -m figures frozen-lake --quick`" in caption

    def fail(*_):
        raise AssertionError("the results were there")

    monkeypatch.setattr("figures.frozen_lake.align", fail)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    run("frozen-lake", "--quick", "--out", tmp_path)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before

    tables = out / "frozen-lake-runs" / "policies.npz"
    whole = tables.read_bytes()
    tables.write_bytes(whole[:100])
    with pytest.raises(SystemExit):
        run("frozen-lake", "--quick", "--out", tmp_path)
    assert "frozen-lake-runs' cannot be read: delete it" in capsys.readouterr().err
    tables.write_bytes(whole)

    config = out / "frozen-lake-runs" / "config.json"
    config.write_text(config.read_text().replace('"width": 64', '"width": 32'))
    with pytest.raises(SystemExit) as stop:
        run("frozen-lake", "--quick", "--out", tmp_path)
    assert stop.value.code == 2
    assert "holds results of another settings" in capsys.readouterr().err
    config.unlink()
    with pytest.raises(SystemExit):
        run("frozen-lake", "--quick", "--out", tmp_path)
    assert "without config.json: delete it" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("frozen-lake", "phase")])
def test_every_figure_has_picture_and_caption(name, run, no_bench, tmp_path):
    run(name, "--quick", "--out", tmp_path)
    out = tmp_path / "quick"
    pixels = np.asarray(Image.open(out / f"{name}.png").convert("L"))
    assert pixels.shape[1] > 2000
    assert pixels.std() > 5
    assert (out / f"{name}.svg").read_text().startswith("<?xml")
    assert f"`python -m figures {name} --quick`" in (out / f"{name}.md").read_text()


def test_tables_mark_every_number_and_fill_nothing_in(run, no_bench, tmp_path):
    run("tables", "--quick", "--out", tmp_path)
    rows = [
        [cell.strip() for cell in line.strip("| \n").split("|")]
        for line in (tmp_path / "quick" / "tables.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    header, *body = rows
    assert len(body) == 9
    for row in body:
        for name, cell in zip(header[2:], row[2:], strict=True):
            assert cell == "–" or cell[-1] == ("ᵃ" if row[1] == "paper" else "ᵇ"), (row[0], name, cell)
    assert {row[header.index("MMLU")] for row in body} == {"–"}
    assert [row[2] for row in body if row[:2] == ["IFT", "paper"]] == ["56.74ᵃ"]
    assert [row[-2] for row in body if row[:2] == ["IFT", "here"]] == ["1.33× SFTᵇ"]


def test_the_published_numbers_are_the_ones_at_hand():
    """Facts, kept once in the package; the checksum of a row: the average belongs to all benchmarks, not to these."""
    from figures import tables

    paper = json.loads((tables.Path(tables.__file__).parents[1] / "lm" / "evaluate" / "paper.json").read_text())
    assert set(paper["reported"]) == {"source", "sft", "dpo", "orpo", "ift"}
    assert max(("sft", "dpo", "orpo", "ift"), key=lambda m: paper["reported"][m]["average"]) == "ift"
    assert max(("sft", "dpo", "orpo", "ift"), key=lambda m: paper["reported"][m]["ARC"]) == "dpo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("frozen-sea",), "figure 'frozen-sea' is unknown (known: "),
        (("phase", "--jobs", "0"), "jobs must be at least 1, or -1 for every core; got 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["figures", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
