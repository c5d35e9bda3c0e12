import sys

import pytest
from PIL import Image

from figures.__main__ import main


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["figures", *map(str, arguments)])
    main()


def test_the_figure_is_drawn_and_its_results_are_kept(monkeypatch, tmp_path):
    run(monkeypatch, "frozen-lake", "--quick", "--out", tmp_path)
    out = tmp_path / "quick"
    assert Image.open(out / "frozen-lake.png").size[0] > 1000
    assert (out / "frozen-lake.svg").read_text().startswith("<?xml")
    assert "16 seeds from 20000" in (out / "frozen-lake.md").read_text()

    def fail(*_):
        raise AssertionError("the results were there")

    monkeypatch.setattr("figures.frozen_lake.align", fail)
    picture = (out / "frozen-lake.png").read_bytes()
    run(monkeypatch, "frozen-lake", "--quick", "--out", tmp_path)
    assert (out / "frozen-lake.png").read_bytes() == picture


def test_an_unknown_figure_is_refused(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "frozen-sea", "--out", tmp_path / "out")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: figure 'frozen-sea' is unknown (known: frozen-lake)\n"
    assert not (tmp_path / "out").exists()
