"""What the benchmarks share: timing in turns, rows of ratios, the table and the JSON file."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from common.folders import write_json, write_whole

ROOT = Path(__file__).resolve().parents[1]  # the checkout, where `python -m toy.frozenlake` finds its code


@dataclass(frozen=True)
class Row:
    """One comparison; met if `ratio` reaches `target`, or stays within it where `at_most`."""

    name: str
    ours: str
    peer: str
    ratio: float
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target


@dataclass(frozen=True)
class Options:
    """Options of a benchmark."""

    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take fewer rounds and sizes."""
    json: Path | None = None
    """Write {name: {ours, peer, ratio, target, met}} to this file."""
    page: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write the table into bench/README.md as well."""


def seconds(*functions: Callable[[], object], rounds: int) -> list[float]:
    """Best time of each function over some rounds, taken in turns."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            begin = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - begin)
    return best


def run(benchmarks: Sequence[Callable[[bool], Row | Iterable[Row]]], options: Options) -> None:
    """Run them one after the other, print the table, write the file."""
    console = Console()
    rows: list[Row] = []
    for benchmark in benchmarks:
        console.print(f"[dim]{benchmark.__name__.replace('_', ' ')} …[/dim]")
        measured = benchmark(options.quick)
        for row in [measured] if isinstance(measured, Row) else measured:
            console.print(f"  {row.name}: {row.ours}, {row.peer}, ratio {row.ratio:.2f}")
            rows.append(row)
    table = Table("benchmark", "ours", "peer", "ratio", "target", "met")
    for row in rows:
        limit = f"{'≤ ' if row.at_most else '≥ '}{row.target:g}"
        places = 2 if row.at_most else 1
        table.add_row(
            row.name, row.ours, row.peer, f"{row.ratio:.{places}f}", limit, "yes" if row.met else "[red]no[/red]"
        )
    console.print(table)
    if options.json:
        write_json(options.json, {row.name: {**asdict(row), "met": row.met} for row in rows})
    if options.page:
        write_page(Path(sys.argv[0]).stem, rows)


def write_page(benchmark: str, rows: Sequence[Row], page: Path = ROOT / "bench" / "README.md") -> None:
    """Put the rows as a table between the page's comments `table: BENCHMARK` and `end`.

    Raises:
        ValueError: the page has no such place.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(f"<!-- table: {benchmark} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not begin or not end:
        raise ValueError(f"page {str(page)!r} has no place for the table of {benchmark!r}")
    lines = ["| benchmark | ours | peer | ratio | target | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.at_most or row.ratio < 10 else f"{row.ratio:.0f}"
        limit = f"{'≤ ' if row.at_most else '≥ '}{row.target:g}"
        lines.append(f"| {row.name} | {row.ours} | {row.peer} | {ratio} | {limit} | {'yes' if row.met else 'no'} |")
    write_whole(
        page, lambda part: part.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
    )
