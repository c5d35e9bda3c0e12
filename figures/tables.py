"""The paper's language-model results as reported, beside what this project measured; each cell says from where."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.costs import SETTING, measured_costs
from figures.style import PAGE, made_by, paper, save

_MARKS = {"paper": "ᵃ", "own": "ᵇ"}
_MISSING = "–"
NOT_MEASURED = (
    "Time and memory of an update are not measured here: they need a checkout of the repository, as an installed "
    "package has no `bench`. There, `python -m figures tables` measures them."
)


def tables(out: Path, quick: bool, jobs: int) -> list[Path]:
    """Draw the tables into `out`; the costs are those of `out/costs-runs`, measured if they are not there."""
    reported = json.loads((Path(__file__).parents[1] / "lm" / "evaluate" / "paper.json").read_text(encoding="utf-8"))
    costs = measured_costs(out, quick)["language"]
    header, rows = _cells(reported, costs)
    return save(_draw(header, rows), out, "tables", _page(header, rows, reported, costs, quick), quick)


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
    figure = Figure(figsize=(PAGE, 0.2 * (len(rows) + 3)), layout="constrained")
    figure.suptitle(
        "ᵃ as the paper reports it · ᵇ measured here · – not recorded, or not measured", fontsize=7, x=0.01, ha="left"
    )
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
    header: list[str],
    rows: list[list[str]],
    reported: dict[str, Any],
    costs: dict[str, dict[str, float]],
    quick: bool,
) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    measured = (
        f"This was measured by `python -m bench.methods` of this project. {SETTING.rstrip('.')}. {_memory(costs)}"
        if costs
        else NOT_MEASURED
    )
    notes = (
        f"{_MARKS['paper']} These are the paper's numbers as reported in {reported['reported']['source']}. "
        f"{_MARKS['own']} {measured} The sign {_MISSING} stands for a number that is not recorded at the source, or "
        f"that this project has not measured: it has not trained a model of that size. {made_by('tables', quick)}"
    )
    return "\n".join((*lines, "", notes))


def _memory(costs: dict[str, dict[str, float]]) -> str:
    if any("gigabytes" in cost for cost in costs.values()):
        return "Memory is the peak of a process of its own."
    return "The memory is not measured in a quick run; `python -m figures tables` measures it."
