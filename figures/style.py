"""How every figure looks and is saved: sizes of a two-column paper, PNG and SVG, a caption beside them."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from common.folders import write_whole

PAGE = 7.0  # inches, both columns of a two-column page
PAPER: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "intuitive-fine-tuning",  # the same figure is the same bytes
}
_QUICK = "quick run: few seeds"
paper = matplotlib.rc_context(PAPER)  # decorates what draws


@paper
def save(figure: Figure, out: Path, name: str, caption: str | None = None, quick: bool = False) -> list[Path]:
    """Write `NAME.png`, `NAME.svg` and the caption `NAME.md` into `out`; their paths. A quick figure says so."""
    out.mkdir(parents=True, exist_ok=True)
    if quick:
        strip = 0.14 / figure.get_figheight()  # inches, below everything else
        figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))  # type: ignore[union-attr, call-arg]
        figure.text(0.003, 0.003, _QUICK, ha="left", va="bottom", fontsize=6.5, color="#b3261e", fontweight="bold")
    _settle(figure)
    written = [out / f"{name}.png", out / f"{name}.svg"]
    write_whole(written[0], lambda path: _save_png(figure, path))
    write_whole(written[1], lambda path: figure.savefig(path, format="svg", metadata={"Date": None}))
    if caption is not None:
        written.append(out / f"{name}.md")
        write_whole(written[2], lambda path: path.write_text(caption + "\n", encoding="utf-8"))
    return written


def _save_png(figure: Figure, path: Path) -> None:
    """256 colours, which suffice for what is drawn here and take a third of the bytes."""
    figure.savefig(path, dpi=300, format="png")
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    smaller.save(path, format="png", optimize=True)


def _settle(figure: Figure) -> None:
    """Lay the figure out once, to a millionth: the solver's last digits vary, and SVG names clip paths by positions."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(6))
    for axes in figure.axes:
        axes.set_position(tuple(round(bound, 6) for bound in axes.get_position(original=True).bounds))


def made_by(figure: str, quick: bool) -> str:
    """The sentence that ends a caption."""
    return f"Made by `python -m figures {figure}{' --quick' if quick else ''}`."
