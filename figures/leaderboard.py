"""The page of a benchmark: a picture of ranks, and tables of ranks, distances, what is forgotten and what it costs."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from common.folders import write_whole
from experiments.benchmark import DISTANCES, FULL, PROTOCOL_NAMES, QUICK, STEP_SIZES, Scale
from experiments.ranks import overall, standings
from figures.style import PAGE, paper, save
from ift import METHODS
from toy import protocol
from toy.picture import colour_of

_TITLES = {"parameter_mse": "between parameters", "policy_mse": "between policies"}
_KINDS = {"targets": "targets", "pairs": "pairs", "rollouts": "rewards", "optimum": "the optimum (a ceiling)"}


def write_page(
    out: Path, rows: pd.DataFrame, costs: Mapping[str, float], shown: tuple[str, ...], quick: bool
) -> list[Path]:
    """Write `benchmark.md`, `benchmark.html`, `.png` and `.svg`, of the rows of `experiments.benchmark`; their paths.

    `shown` are the methods that the page is about, if it is about some: they are set off from the others.
    """
    places, by_protocol = overall(rows), standings(rows)
    pictures = save(_draw(places, by_protocol, shown), out, "benchmark", quick=quick)
    blocks = _blocks(rows, places, by_protocol, costs, shown, quick)
    markdown, page = out / "benchmark.md", out / "benchmark.html"
    write_whole(markdown, lambda path: path.write_text(_as_markdown(blocks), encoding="utf-8"))
    picture = base64.b64encode(pictures[0].read_bytes()).decode()
    write_whole(page, lambda path: path.write_text(_as_html(blocks, picture, shown), encoding="utf-8"))
    return [page, markdown, *pictures]


@paper
def _draw(places: pd.DataFrame, by_protocol: pd.DataFrame, shown: tuple[str, ...]) -> Figure:
    """A panel for each protocol and distance: every method's mean place, with its interval."""
    order = list(places["method"])
    figure = Figure(figsize=(PAGE, 1.2 + 0.26 * len(order)), layout="constrained")
    grid = figure.subplots(1, len(PROTOCOL_NAMES) * len(DISTANCES), sharey=True)
    panels = [(name, distance) for name in PROTOCOL_NAMES for distance in DISTANCES]
    for axes, (name, distance) in zip(grid, panels, strict=True):
        table = by_protocol[(by_protocol["protocol"] == name) & (by_protocol["distance"] == distance)]
        for row in table.to_dict("records"):
            place, colour = order.index(row["method"]), colour_of(row["method"])
            axes.plot([row["rank_low"], row["rank_high"]], [place, place], color=colour, linewidth=1.6)
            axes.plot(row["rank"], place, "o", color=colour, markersize=4 if row["method"] in shown else 2.8)
        axes.set_title(f"{name}\n{_TITLES[distance]}", fontsize=6.5)
        axes.set_xlim(0.2, len(order) + 0.8)
        axes.grid(axis="x", linewidth=0.3)
        for place in (order.index(method) for method in shown):
            axes.axhspan(place - 0.5, place + 0.5, color="#fff3c4", zorder=0)
    grid[0].set_yticks(range(len(order)), order)
    grid[0].set_ylim(len(order) - 0.4, -0.6)
    for label in grid[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in shown else "normal")
    figure.supxlabel("mean place among all methods on a held-out lake (1 is the closest), 95 % interval", fontsize=7)
    return figure


Table = tuple[list[str], list[list[str]]]


def _blocks(
    rows: pd.DataFrame,
    places: pd.DataFrame,
    by_protocol: pd.DataFrame,
    costs: Mapping[str, float],
    shown: tuple[str, ...],
    quick: bool,
) -> list[str | Table]:
    """Headings (they begin with #), paragraphs, the picture (an empty string), and tables: header and rows of cells."""
    scale, lakes = (QUICK if quick else FULL), rows["lake"].nunique()
    name = " and ".join(shown) if shown else "all methods"
    blocks: list[str | Table] = [f"# Benchmark of {name}" if shown else "# Leaderboard", _how(scale, lakes, shown), ""]
    blocks += ["## All protocols together", _places(places, costs)]
    for each in PROTOCOL_NAMES:
        blocks += [f"## Protocol {each}", _of_protocol(rows, places, by_protocol, each)]
    return [*blocks, "## Settings that were chosen", _at_the_limit(rows), _settings(rows, places)]


def _how(scale: Scale, lakes: int, shown: tuple[str, ...]) -> str:
    quick = scale == QUICK
    named = " ".join(METHODS.origins[name].shown if name in METHODS.origins else name for name in shown) or "all"
    made = f"python -m toy.benchmark --method {named}{' --quick' if quick else ''}"
    who = " and ".join(shown) if quick and shown else "every method"
    others = f" (the others, whose runs ship, from {FULL.step_sizes * FULL.draws})" if quick and shown else ""
    settings, seeds = scale.step_sizes * scale.draws, scale.development_seeds[1]
    return (
        f"Made by `{made}`. In each protocol {who} chose from {settings} settings{others}, on "
        f"{len(scale.development)} development lakes with {seeds} seeds: step sizes, and draws of a method's own "
        "numbers around their defaults. What came closest to the optimum, in both distances together, was then "
        f"trained once on {lakes} held-out lakes, with {scale.held_out_seeds[1]} seeds that nothing was chosen on. "
        "A place is a method's rank on a lake, 1 the closest to the optimum. A share is a method's distance divided by "
        "the start policy's, in the geometric mean over lakes. Intervals (95 %) come from drawing lakes with "
        "replacement. What is forgotten is the divergence from the start policy in nats, in cells on the target and "
        "beside it."
    )


def _places(places: pd.DataFrame, costs: Mapping[str, float]) -> Table:
    header = ["", "method", "mean place", "learns from", "time of an update", "source"]
    table = []
    for number, row in enumerate(places.to_dict("records"), 1):
        method = METHODS[row["method"]]
        cost = f"{costs[method.name]:.1f} × SFT's" if method.name in costs else "not measured"
        place = f"{row['rank']:.1f} [{row['rank_low']:.1f}, {row['rank_high']:.1f}]"
        table.append([str(number), method.name, place, _KINDS[method.learns_from], cost, method.title])
    return header, table


def _of_protocol(rows: pd.DataFrame, places: pd.DataFrame, by_protocol: pd.DataFrame, protocol: str) -> Table:
    header = ["method"]
    for distance in DISTANCES:
        header += [f"place {_TITLES[distance]}", f"share {_TITLES[distance]}"]
    header += ["success", "value gap", "share beside the target", "forgotten on it", "forgotten beside it"]
    of_protocol = rows[rows["protocol"] == protocol]
    of_protocol = of_protocol.assign(beside=of_protocol["policy_mse_beside"] / of_protocol["start_policy_mse_beside"])
    columns = ["success", "value_gap", "beside", "drift_target", "drift_beside"]
    means = of_protocol.groupby("method")[columns].mean()
    standing = by_protocol[by_protocol["protocol"] == protocol].set_index(["method", "distance"])
    start = of_protocol.groupby("lake")[["start_success", "start_value_gap"]].first().mean()
    table = [["start", "", "1.00", "", "1.00", f"{start.iloc[0]:.3f}", f"{start.iloc[1]:.3f}", "1.00", "0", "0"]]
    for method in places["method"]:
        cells = [method]
        for distance in DISTANCES:
            row = standing.loc[(method, distance)]
            cells += [
                f"{row['rank']:.1f} [{row['rank_low']:.1f}, {row['rank_high']:.1f}]",
                f"{row['share']:.2f} [{row['share_low']:.2f}, {row['share_high']:.2f}]",
            ]
        digits = (3, 3, 2, 2, 2)
        table.append([*cells, *(f"{means.loc[method, c]:.{d}f}" for c, d in zip(columns, digits, strict=True))])
    return header, table


def _at_the_limit(rows: pd.DataFrame) -> str:
    """How many methods chose the largest step size that they were offered: longer steps might bring them closer."""
    found = []
    for name, group in rows.drop_duplicates(["method", "protocol"]).groupby("protocol", sort=False):
        settings = protocol(str(name))
        largest = float(f"{settings.lr * STEP_SIZES[settings.optimizer][1]:.3g}")
        chosen = group["settings"].str.extract(r"step size ([\d.e-]+)")[0].astype(float)
        found.append(f"by {(chosen == largest).sum()} of {len(group)} methods in `{name}` ({largest:g})")
    return (
        f"The largest step size that was offered was chosen {', '.join(found)}. Still longer steps, or more updates, "
        "might bring these methods closer."
    )


def _settings(rows: pd.DataFrame, places: pd.DataFrame) -> Table:
    chosen = rows.drop_duplicates(["method", "protocol"]).pivot(index="method", columns="protocol", values="settings")
    table = [[method, *(chosen.loc[method, name] for name in PROTOCOL_NAMES)] for method in places["method"]]
    return ["method", *PROTOCOL_NAMES], table


def _as_markdown(blocks: list[str | Table]) -> str:
    parts = []
    for block in blocks:
        if isinstance(block, str):
            parts.append(block or "![Mean places with intervals](benchmark.png)")
        else:
            lines = [block[0], ["---"] * len(block[0]), *block[1]]
            parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:74rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}"
    "td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}"
    "tr.shown{background:#fff3c4;font-weight:600}code{background:#f2f2f2;padding:0 .2rem}"
)


def _as_html(blocks: list[str | Table], picture: str, shown: tuple[str, ...]) -> str:
    """One file that needs nothing else."""
    parts = []
    for block in blocks:
        if isinstance(block, tuple):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block[0])
            body = ""
            for cells in block[1]:
                mark = ' class="shown"' if set(cells[:2]) & set(shown) else ""
                body += f"<tr{mark}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>\n"
            parts.append(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>")
        elif block.startswith("#"):
            level = block.index(" ")
            parts.append(f"<h{level}>{html.escape(block[level + 1 :])}</h{level}>")
        elif block:
            words = html.escape(block).split("`")
            parts.append("<p>" + "".join(f"<code>{w}</code>" if i % 2 else w for i, w in enumerate(words)) + "</p>")
        else:
            parts.append(f'<img alt="Mean places with intervals" src="data:image/png;base64,{picture}">')
    title = html.escape(str(blocks[0]).lstrip("# "))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>\n'
        + "\n".join(parts) + "\n</html>\n"
    )  # fmt: skip
