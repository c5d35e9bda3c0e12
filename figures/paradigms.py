"""The paper's figures 1 and 2: which states each method scores on the same lake, what it needs, and what that costs."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from common.folders import claim_folder, reading, working_in, write_whole
from experiments.costs import SETTING, measured_costs
from figures.style import PAGE, made_by, paper, save
from ift import METHODS
from toy import Lake, Settings, scored_states
from toy.picture import colour_of, draw_cells

SHOWN = {
    "sft": "states of targets",
    "ift": "states mixed with\nits own prediction",
    "orpo": "states of targets and\nof negatives",
    "dpo": "states of targets and\nof negatives",
    "ppo": "states of its\nown episodes",
}
_STATES = {  # of other methods, by the states that they are trained in
    "target": "states of targets",
    "mixed": "states mixed with\nits own prediction",
    "replaced": "states of targets, or\nits own prediction",
    "noisy": "states of targets,\nwith noise",
    "own": "states of its\nown episodes",
}
_ROWS = {"raised": ("likelier", "#1a1a1a"), "lowered": ("less likely", "#a3246f")}
_DIRECTIONS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # (right, down) of each action
_LEAST = 0.001  # share of the scored steps: what is below is not drawn
NOT_MEASURED = (
    "The costs of an update are not measured here: they need a checkout of the repository, as an installed package has "
    "no `bench`. There, `python -m figures paradigms` measures them."
)


def paradigms(out: Path, quick: bool, jobs: int, more: tuple[str, ...] = ()) -> list[Path]:
    """Draw the figure into `out`, from `out/paradigms-runs` if it holds the results; returns the files written.

    `more` are methods to show beside those of the paper.
    """
    shown = {**SHOWN, **{name: _STATES[METHODS[name].states] for name in more if name not in SHOWN}}
    lake, settings = Lake.make("ring"), Settings(seeds=100, seed=60_000, prediction="expected", lam=0.2)
    folder = out / "paradigms-runs"
    made_of = {"lake": lake.rows, "methods": list(shown), **METHODS.from_outside(more), "settings": settings.as_dict()}
    with working_in(folder):
        claim_folder(folder, made_of)
        if not (folder / "states.npz").exists():
            scored = {method: scored_states(lake, method, settings) for method in shown}
            tables = {
                f"{m}_{kind}": getattr(s, kind) for m, s in scored.items() for kind in ("states", "raised", "lowered")
            }
            write_whole(folder / "states.npz", lambda path: np.savez_compressed(path, allow_pickle=False, **tables))
    costs = measured_costs(out, quick)
    with reading(folder / "states.npz"), np.load(folder / "states.npz") as held:
        tables = dict(held)
    caption = _caption(lake, settings, tables, costs, quick, shown)
    return save(_draw(lake, tables, costs, shown), out, "paradigms", caption, quick)


@paper
def _draw(lake: Lake, tables: dict[str, np.ndarray], costs: dict[str, Any], shown: dict[str, str]) -> Figure:
    figure = Figure(figsize=(PAGE * len(shown) / len(SHOWN), 3.9), layout="constrained")
    figure.suptitle("the moves that an update scores, what it needs, what it costs", fontsize=8, x=0.01, ha="left")
    largest = max(tables[f"{method}_{kind}"].max() for method in shown for kind in _ROWS)
    *grid, below = figure.subplots(len(_ROWS) + 1, len(shown), height_ratios=(1, 1, 1.25))
    for row, (kind, (label, colour)) in zip(grid, _ROWS.items(), strict=True):
        row[0].set_ylabel(label, color=colour)
        for axes, method in zip(row, shown, strict=True):
            share = tables[f"{method}_{kind}"]
            draw_cells(axes, lake, share.sum(1), darkest=0.32, size=7)
            _draw_moves(axes, lake, share, largest, colour)
            if not share.any():
                axes.set_title("no move", fontsize=6.5, pad=2)
    for axes, method in zip(grid[0], shown, strict=True):
        axes.set_title(method.upper(), fontsize=8, color=colour_of(method), fontweight="bold")
    for axes, (method, what) in zip(below, shown.items(), strict=True):
        axes.axis("off")
        scored = what if "\n" in what else f"{what}\n"
        text = "\n".join((scored, "", *needs(method), "", *_cost_lines(method, costs)))
        axes.text(0.5, 1, text, ha="center", va="top", fontsize=6, linespacing=1.3, transform=axes.transAxes)
    figure.supxlabel(
        f"triangle: a move, the longer the larger its share of the scored steps (none below {_LEAST:.1%})\n"
        "above: moves that become likelier; below: less likely · blue: share of these steps in this state",
        fontsize=6.5,
    )
    return figure


def _draw_moves(axes: Axes, lake: Lake, share: np.ndarray, largest: float, colour: str) -> None:
    """A triangle for each move `[cells, 4]`: each side of a cell is one move's, so that none lies on another."""
    for cell, action in np.argwhere(share >= _LEAST).tolist():
        size = float(np.sqrt(share[cell, action] / largest))
        centre = np.array([cell % lake.shape[1], cell // lake.shape[1]])
        ahead = _DIRECTIONS[action]
        aside = ahead[::-1]
        base, half = centre + 0.09 * ahead, (0.04 + 0.07 * size) * aside
        corners = [base - half, base + half, base + (0.06 + 0.32 * size) * ahead]
        in_hole = lake.letters[cell] == "H"  # IFT's prediction may fall in: dark on dark would not be seen
        axes.add_patch(Polygon(corners, color="white" if in_hole else colour, linewidth=0))


def needs(method: str) -> list[str]:
    """What a method asks for, one line each."""
    learns_from = METHODS[method].learns_from
    return [
        f"pairs: {'yes' if learns_from == 'pairs' else 'no'}",
        f"reference policy: {'yes' if METHODS[method].needs_reference else 'no'}",
        f"sampling: {'no' if learns_from == 'targets' else 'negatives' if learns_from == 'pairs' else 'episodes'}",
    ]


def _cost_lines(method: str, costs: dict[str, Any]) -> list[str]:
    lines = []
    for kind, name in (("lake", "lake"), ("language", "LM")):
        cost = costs[kind].get(method)
        if cost is None:
            lines.append(f"{name}: not measured")
            continue
        share = cost["seconds"] / costs[kind]["sft"]["seconds"]
        lines.append(f"{name}: {share:.2f}× SFT's time")
        if "gigabytes" in cost:
            lines.append(f"{name}: {cost['gigabytes']:.2f} GB")
    return lines


def _caption(
    lake: Lake,
    settings: Settings,
    tables: dict[str, np.ndarray],
    costs: dict[str, Any],
    quick: bool,
    shown: dict[str, str],
) -> str:
    aside = "; ".join(
        f"{method} {100 * (1 - tables[f'{method}_states'][tables['sft_states'] > 0].sum()):.1f} %" for method in shown
    )
    return (
        f"What the first update of each method scores on the lake {'/'.join(lake.rows)}, from {settings.seeds} start "
        f"policies of the kind {settings.start} (seeds from {settings.seed}). IFT has λ "
        f"{settings.number(METHODS['ift'], 'lam'):g} with the {settings.prediction} prediction; ORPO and DPO have "
        f"{settings.negatives_per_step} negatives from the policy, and PPO has {settings.rollouts} episodes per "
        f"update. Each triangle is a move; its length grows with the square root of the move's share of all scored "
        f"steps of the method, on one scale for all. The share of the scored steps in cells off the target trajectory "
        f"is: {aside}. A white triangle lies in a hole, into which IFT's prediction may fall. "
        f"{_costs_in_words(costs, settings)} {made_by('paradigms', quick)}"
    )


def _costs_in_words(costs: dict[str, Any], settings: Settings) -> str:
    if not costs["lake"]:
        return NOT_MEASURED
    measured = "; ".join(
        f"{kind} {method} {1000 * cost['seconds']:.1f} ms" + (f" {cost['gigabytes']:.2f} GB" if len(cost) > 1 else "")
        for kind, by_method in costs.items()
        for method, cost in by_method.items()
    )
    language = "" if costs["language"] else " Language models are not measured: `python -m bench.methods` does it."
    return (
        f"The time of an update (the best of some rounds) and the peak memory of a process, by `python -m "
        f"bench.methods`: {measured}.{language} A batch of PPO's episodes serves {settings.epochs} updates. {SETTING}"
    )
