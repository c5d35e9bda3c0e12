import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from figures import paradigms, tables
from toy import Lake

COSTS = {
    "lake": {m: {"seconds": s} for m, s in zip(("sft", "ift", "orpo", "dpo", "ppo"), (1, 2, 4, 5, 3), strict=True)},
    "language": {"sft": {"seconds": 2.0, "gigabytes": 1.5}, "ift": {"seconds": 2.66, "gigabytes": 1.55}},
}
NO_COSTS: dict[str, dict] = {"lake": {}, "language": {}}


@pytest.mark.parametrize("figure", [paradigms, tables])
def test_a_caption_says_how_costs_are_measured_where_they_are_not(figure, monkeypatch, tmp_path):
    name = figure.__name__.rpartition(".")[2]
    draw = getattr(figure, name)
    monkeypatch.setattr(figure, "measured_costs", lambda out, quick: NO_COSTS)
    draw(tmp_path, True, 1)
    caption = (tmp_path / f"{name}.md").read_text()
    assert figure.NOT_MEASURED in caption
    assert f"`python -m figures {name}` measures them." in caption
    monkeypatch.setattr(figure, "measured_costs", lambda out, quick: COSTS)
    draw(tmp_path, False, 1)
    caption = (tmp_path / f"{name}.md").read_text()
    assert "not measured here" not in caption
    assert "`python -m bench.methods`" in caption
    assert caption.rstrip().endswith(f"Made by `python -m figures {name}`.")
    assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).std() > 5


def test_no_move_lies_on_another_or_leaves_its_cell():
    """All moves of all cells at their largest: each triangle stays in its cell and on its own side of the middle."""
    lake = Lake.make("ring")
    axes = Figure().subplots()
    share = np.where(lake.terminal[:, None], 0.0, np.ones((15, 4)))
    paradigms._draw_moves(axes, lake, share, 1.0, "black")
    live = np.flatnonzero(~lake.terminal)
    assert len(axes.patches) == 4 * len(live)
    for (cell, action), patch in zip([(c, a) for c in live for a in range(4)], axes.patches, strict=True):
        corners = patch.get_xy() - (cell % 5, cell // 5)
        assert np.abs(corners).max() < 0.5
        assert (corners @ paradigms._DIRECTIONS[action] > 0).all()


def test_small_shares_are_left_out():
    lake = Lake.make("ring")
    axes = Figure().subplots()
    share = np.zeros((15, 4))
    share[0, 1], share[0, 2] = 0.2, 0.0009
    paradigms._draw_moves(axes, lake, share, 0.2, "black")
    assert len(axes.patches) == 1
