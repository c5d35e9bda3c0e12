"""The paper's figures 1 and 2: which states each method scores on the same lake, what it needs, and what that costs."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.folders import claim_folder, reading, write_whole
from experiments.costs import SETTING, measured_costs
from figures.style import PAGE, paper, save
from ift import METHODS
from toy import Lake, Settings, scored_states
from toy.picture import colour_of, draw_cells, draw_moves

SHOWN = {
    "sft": "states of targets",
    "ift": "states mixed with\nits own prediction",
    "orpo": "states of targets and\nof negatives",
    "dpo": "states of targets and\nof negatives",
    "ppo": "states of its\nown episodes",
}


def paradigms(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the figure into `out`, from `out/paradigms-runs` if it holds the results; returns the files written."""
    lake, settings = Lake.make("ring"), Settings(seeds=100, seed=60_000, prediction="expected", lam=0.2)
    folder = out / "paradigms-runs"
    claim_folder(folder, {"lake": lake.rows, "methods": list(SHOWN), "settings": settings.as_dict()})
    if not (folder / "states.npz").exists():
        scored = {method: scored_states(lake, method, settings) for method in SHOWN}
        tables = {
            f"{m}_{kind}": getattr(s, kind) for m, s in scored.items() for kind in ("states", "raised", "lowered")
        }
        write_whole(folder / "states.npz", lambda path: _save_tables(path, tables))
    costs = measured_costs(out, quick)
    with reading(folder / "states.npz"), np.load(folder / "states.npz") as held:
        tables = dict(held)
    return save(_draw(lake, tables, costs), out, "paradigms", _caption(lake, settings, tables, costs))


def _save_tables(path: Path, tables: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **tables)


@paper
def _draw(lake: Lake, tables: dict[str, np.ndarray], costs: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(PAGE, 2.42), layout="constrained")
    for axes, (method, what) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
        draw_cells(axes, lake, tables[f"{method}_states"], darkest=0.32, size=7)
        axes.set_anchor("N")
        for kind, colour in (("lowered", "#aa3377"), ("raised", "#1a1a1a")):
            share = tables[f"{method}_{kind}"]
            draw_moves(axes, lake, np.sqrt(share / share.sum()) if share.any() else share, colour, width=0.016)
        axes.set_title(method.upper(), fontsize=8, color=colour_of(method), fontweight="bold")
        scored = what if "\n" in what else f"{what}\n"
        text = "\n".join((scored, "", *needs(method), "", *_cost_lines(method, costs)))
        axes.set_xlabel(text, fontsize=6, linespacing=1.35)
    figure.supxlabel(
        "blue: share of the steps scored in this state · black: moves that become likelier · purple: less likely",
        fontsize=6.5,
    )
    return figure


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
        memory = f", {cost['gigabytes']:.2f} GB" if "gigabytes" in cost else ""
        lines.append(f"{name}: {share:.2f}× SFT's time{memory}")
    return lines


def _caption(lake: Lake, settings: Settings, tables: dict[str, np.ndarray], costs: dict[str, Any]) -> str:
    aside = "; ".join(
        f"{method} {100 * (1 - tables[f'{method}_states'][tables['sft_states'] > 0].sum()):.1f} %" for method in SHOWN
    )
    measured = "; ".join(
        f"{kind} {method} {1000 * cost['seconds']:.1f} ms" + (f" {cost['gigabytes']:.2f} GB" if len(cost) > 1 else "")
        for kind, by_method in costs.items()
        for method, cost in by_method.items()
    )
    return (
        f"Lake {'/'.join(lake.rows)}, start policy {settings.start}, {settings.seeds} seeds from {settings.seed}, λ "
        f"{settings.lam} with the {settings.prediction} prediction, {settings.negatives_per_step} negatives from the "
        f"policy and {settings.rollouts} episodes of PPO per update. Arrows: the square root of a move's share of the "
        f"scored steps. Share of them in cells off the target trajectory: {aside}. Time of an update and peak memory "
        f"of a process (PPO: a batch of episodes serves {settings.epochs} updates), by `python -m bench.methods`: "
        f"{measured or 'not measured'}. {SETTING} Made by `python -m figures paradigms`."
    )
