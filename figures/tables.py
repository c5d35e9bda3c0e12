"""The paper's language-model results as reported, beside what this project measured; each cell says from where."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.costs import SETTING, measured_costs
from figures.style import PAGE, paper, save

_MARKS = {"paper": "ᵃ", "own": "ᵇ"}
_MISSING = "–"


def tables(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the tables into `out`; the costs are those of `out/costs-runs`, measured if they are not there."""
    reported = json.loads((Path(__file__).parents[1] / "lm" / "evaluate" / "paper.json").read_text())
    costs = measured_costs(out, quick)["language"]
    header, rows = _cells(reported, costs)
    return save(_draw(header, rows), out, "tables", _page(header, rows, reported, costs))


def _cells(reported: dict[str, Any], costs: dict[str, dict[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: each method as the paper has it, then as this project has it. Nothing blank is filled in."""
    header = ["method", "from", *reported["benchmarks"], "time of an update", "peak memory"]
    rows = []
    for method in ("sft", "dpo", "orpo", "ift"):
        numbers = reported["reported"][method]
        scores = [
            f"{numbers[name]:.2f}{_MARKS['paper']}" if name in numbers else _MISSING for name in reported["benchmarks"]
        ]
        claimed = f"as SFT{_MARKS['paper']}" if method == "ift" else _MISSING
        rows.append([method.upper(), "paper", *scores, claimed, _MISSING])
        own = [_MISSING] * len(scores)
        rows.append([method.upper(), "here", *own, *_cost_cells(method, costs)])
    rows.append(["IFT, lagged", "here", *[_MISSING] * len(reported["benchmarks"]), *_cost_cells("ift lagged", costs)])
    return header, rows


def _cost_cells(method: str, costs: dict[str, dict[str, float]]) -> list[str]:
    if method not in costs:
        return [_MISSING, _MISSING]
    share = costs[method]["seconds"] / costs["sft"]["seconds"]
    memory = f"{costs[method]['gigabytes']:.2f} GB{_MARKS['own']}" if "gigabytes" in costs[method] else _MISSING
    return [f"{share:.2f}× SFT{_MARKS['own']}", memory]


@paper
def _draw(header: list[str], rows: list[list[str]]) -> Figure:
    figure = Figure(figsize=(PAGE, 0.2 * (len(rows) + 2)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    widths = [0.09, 0.05, *[0.085] * (len(header) - 4), 0.13, 0.1]
    table = axes.table(
        rows, colLabels=header, colWidths=widths, cellLoc="right", colLoc="right", loc="center", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(6)
    table.scale(1, 1.1)
    for cell in table.get_celld().values():
        cell.set_linewidth(0.4)
    return figure


def _page(
    header: list[str], rows: list[list[str]], reported: dict[str, Any], costs: dict[str, dict[str, float]]
) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    measured = (
        f"`python -m bench.methods` of this project. {SETTING.rstrip('.')}"
        if costs
        else "nothing measured: it needs the `lm` extra and a checkout of the repository"
    )
    notes = (
        f"ᵃ {reported['reported']['source']}. ᵇ {measured}. {_MISSING} not recorded, or not measured: this project has "
        "not trained a model of that size. Made by `python -m figures tables`."
    )
    return "\n".join((*lines, "", notes))
