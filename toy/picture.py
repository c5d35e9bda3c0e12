"""The result as a picture: each policy on the lake, and how far it is from the optimum."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ift import METHODS
from toy.lake import ARROWS, Lake
from toy.trajectories import Trajectory

_COLOURS = {"start": "#9a9a9a", "optimum": "#000000"}
_RED = "#b3261e"
_FAR = 3.0  # times the distance of the start: what is farther is a number
_STEPS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # (right, down) of each action


def colour_of(name: str) -> str:
    """The colour of a method (a variant has its method's), of the start policy or of the optimum, `#rrggbb`."""
    method = name.partition(":")[0]
    return METHODS[method].colour if method in METHODS else _COLOURS[name]


def label(name: str, summary: dict[str, Any]) -> str:
    """A name as tables and pictures show it: λ as a letter, and a method that had nothing to mix as such."""
    shown = name.replace(":", " ").replace("lam=", "λ=").replace("gamma=", "γ=").replace("beta=", "β=")
    return f"{shown}, λ idle" if summary["mixed"].get(name, {}).get("steps") == 0 else shown


def draw_lake(axes: Axes, lake: Lake, policy: np.ndarray, visits: np.ndarray, title: str, colour: str) -> None:
    """A policy `[cells, 4]` as arrows, as long as the action is likely, and visits `[cells]` as shades of blue."""
    draw_cells(axes, lake, visits)
    draw_moves(axes, lake, 0.46 * policy, "#1a1a1a")
    axes.set_title(title, fontsize=10, color=colour, fontweight="bold")


def draw_cells(axes: Axes, lake: Lake, shade: np.ndarray, *, darkest: float = 1.4, size: int = 8) -> None:
    """Start, goal and holes; `shade [cells]` in blue, which at `darkest` is too dark to read an arrow on."""
    height, width = lake.shape
    shade = np.where(lake.letters == "H", np.nan, shade).reshape(lake.shape)
    cmap = matplotlib.colormaps["Blues"].with_extremes(bad="#3b3b3b")
    axes.imshow(shade, cmap=cmap, vmin=0, vmax=darkest)
    size = size if max(lake.shape) <= 8 else size // 2
    for letter, row, column in zip(lake.letters, *np.indices(lake.shape).reshape(2, -1), strict=True):
        if letter == "S":
            axes.text(column - 0.45, row - 0.45, "S", ha="left", va="top", fontsize=size, fontweight="bold", color=_RED)
        if letter == "G":
            axes.text(column, row, "G", ha="center", va="center", fontsize=size + 2, fontweight="bold", color=_RED)
    lines: dict[str, Any] = {"color": "#c9d6e3", "linewidth": 0.6}  # ticks would take most of a picture's time
    axes.vlines(np.arange(1, width) - 0.5, -0.5, height - 0.5, **lines)
    axes.hlines(np.arange(1, height) - 0.5, -0.5, width - 0.5, **lines)
    axes.set(xticks=[], yticks=[])


def draw_moves(axes: Axes, lake: Lake, lengths: np.ndarray, colour: str, width: float = 0.012) -> None:
    """An arrow for each move of the live cells, `lengths [cells, 4]` in cells."""
    live = np.flatnonzero(~lake.terminal)
    centre = np.stack([live % lake.shape[1], live // lake.shape[1]], axis=1)[:, None, :]
    length = lengths[live][..., None] * _STEPS
    tail = np.broadcast_to(centre, length.shape)
    some = np.abs(length).sum(-1) > 0  # else a dot is drawn
    axes.quiver(
        *tail[some].T, *length[some].T, angles="xy", scale_units="xy", scale=1, width=width, headwidth=3.6,
        headlength=3.6, headaxislength=3.2, minlength=0.5, color=colour,
    )  # fmt: skip


def draw_trajectory(
    axes: Axes, lake: Lake, trajectory: Trajectory, colour: str, style: str, offset: float, label: str
) -> None:
    """A trajectory as a line from cell to cell into the goal, `offset` cells aside so that two can share a cell."""
    cells = [cell for cell, _ in trajectory]
    action = trajectory[-1][1]
    points = np.array([(cell % lake.shape[1], cell // lake.shape[1]) for cell in cells], float)
    points = np.vstack([points, points[-1] + _STEPS[action]]) + offset
    axes.plot(*points.T, style, color=colour, linewidth=1.6, label=label)
    arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.6}
    axes.annotate("", points[-1], points[-2], arrowprops=arrow)


def draw_errors(axes: Axes, summary: dict[str, Any], metric: str, title: str) -> None:
    """Mean and 95 % interval of a metric for each policy of a summary, best at the top, the start as a dotted line.

    A policy that is much farther from the optimum than the start is an arrow with its number, as the others would be
    one point beside it.
    """
    means = summary["methods"]
    names = sorted((name for name in means if name != "start"), key=lambda name: -means[name][metric]["mean"])
    limit = _FAR * means["start"][metric]["mean"]
    for row, name in enumerate(names):
        mean, low, high = (means[name][metric][key] for key in ("mean", "low", "high"))
        if mean > limit:
            axes.annotate(
                f"{1000 * mean:.3g} →", (0.99, row), xycoords=("axes fraction", "data"), ha="right", va="center",
                fontsize=9, color=colour_of(name),
            )  # fmt: skip
            continue
        axes.plot([low, high], [row, row], color=colour_of(name), linewidth=2.5, solid_capstyle="round")
        axes.plot(mean, row, "o", color=colour_of(name), markersize=7)
    axes.axvline(means["start"][metric]["mean"], color=colour_of("start"), linestyle=":", linewidth=1.5)
    axes.annotate(
        "start", (means["start"][metric]["mean"], 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
        textcoords="offset points", ha="center", fontsize=8, color=colour_of("start"),
    )  # fmt: skip
    axes.set_yticks(range(len(names)), [label(name, summary) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{1000 * value:g}")
    axes.set_xlabel(title, fontsize=8.5)
    axes.tick_params(labelsize=9)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e3e3e3")


def draw_result(
    lake: Lake, summary: dict[str, Any], seeds: int, policies: dict[str, np.ndarray], visits: dict[str, np.ndarray]
) -> Figure:
    """Lakes of the start, each method and the optimum, beside parameter MSE and policy MSE.

    `summary` is that of `results.summary`; `policies` and `visits` are by name.
    """
    names = [*summary["methods"], "optimum"]
    columns = min(len(names), 3 if len(names) <= 6 else 4)
    rows = -(-len(names) // columns)
    height, width = lake.shape
    panel_width = 2.6
    panel_height = panel_width * height / width + 0.35
    total_height = max(rows * panel_height, 3.2) + 0.7
    figure = Figure(figsize=(columns * panel_width + 4.2, total_height), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(columns * panel_width, 4.0))[0]
    grid = left.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        draw_lake(axes, lake, policies[name], visits[name], label(name, summary), colour_of(name))
    for axes in grid[len(names) :]:
        axes.axis("off")
    left.supxlabel("arrow: probability of the move · blue: probability that an episode visits the cell", fontsize=8)
    above, below = right.subplots(2, 1).ravel()
    draw_errors(above, summary, "parameter_mse", "parameter MSE ×10⁻³, to the optimal parameters")
    draw_errors(below, summary, "policy_mse", "policy MSE ×10⁻³, to the optimum, all live cells")
    right.supxlabel(
        f"mean of {seeds} seeds, 95 % bootstrap interval\naxes do not begin at 0; paired differences are narrower",
        fontsize=8,
    )
    return figure


def save_gif(frames: list[np.ndarray], path: Path, milliseconds: int = 300) -> None:
    """Frames `[rows, columns, 3]` uint8 as an animation that repeats and rests on its last frame."""
    images = [Image.fromarray(frame) for frame in frames]
    durations = [milliseconds] * (len(images) - 1) + [5 * milliseconds]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)


def lake_text(lake: Lake, policy: np.ndarray, optimum: np.ndarray) -> str:
    """The greedy moves of `policy [cells, 4]` as rich text, red where the `optimum [cells, 4]` never moves so."""
    symbols = []
    for letter, chances, best in zip(lake.letters, policy, optimum, strict=True):
        action = int(chances.argmax())
        arrow = ARROWS[action] if best[action] > 0 else f"[red]{ARROWS[action]}[/red]"
        symbols.append({"H": "[dim]■[/dim]", "G": "[green]★[/green]"}.get(letter, arrow))
    width = lake.shape[1]
    return "\n".join(" ".join(symbols[i : i + width]) for i in range(0, len(symbols), width))
