"""Compare two result folders of `python -m toy.frozenlake`: paired by method and seed, with intervals.

Examples:
  python -m toy.compare results/lam-0 results/lam-0.2
  python -m toy.compare results/first results/second --metrics success value_gap
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.command import main as command_main
from common.command import parse

if TYPE_CHECKING:
    import pandas as pd

_FILES = ("runs.parquet", "config.json")
METRICS = ("parameter_mse", "policy_mse", "success", "value_gap")


@dataclass(frozen=True)
class Options:
    """Two result folders that share methods and seeds."""

    first: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FIRST")]
    """A folder that `python -m toy.frozenlake` wrote."""
    second: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SECOND")]
    """Another one; the differences are first minus second."""
    metrics: tuple[str, ...] = METRICS
    """Columns of runs.parquet to compare."""


def compare(first: Path, second: Path, metrics: Sequence[str] = METRICS) -> "pd.DataFrame":
    """First minus second, paired by seed: `method, metric, seeds, mean, low, high` (95 % bootstrap interval).

    A method that only one folder has is left out, and so is a seed.

    Raises:
        ValueError: a folder that holds no results, no metric or an unknown one, or folders that share no method and
            seed.
    """
    metrics = tuple(dict.fromkeys(metrics))
    if not metrics:
        raise ValueError("metrics must name at least one column of runs.parquet, such as success")
    for folder, name in ((folder, name) for folder in (first, second) for name in _FILES):  # before heavy imports
        if not (folder / name).is_file():
            raise ValueError(f"{str(folder)!r} holds no {name}: give a folder of python -m toy.frozenlake")
    import numpy as np
    import pandas as pd

    from toy.metrics import mean_interval

    of_first, of_second = _runs(first, metrics), _runs(second, metrics)
    shared = of_first.index.intersection(of_second.index, sort=False)
    if shared.empty:
        raise ValueError(f"{str(first)!r} and {str(second)!r} share no method and seed: nothing can be paired")
    differences = of_first.loc[shared] - of_second.loc[shared]
    rows = []
    for method, of_method in differences.groupby(level="method", sort=False):
        for metric in metrics:
            values = of_method[metric].dropna().to_numpy()
            with np.errstate(all="ignore"):  # of infinite ones
                rows.append((method, metric, len(values), *mean_interval(values)))
    return pd.DataFrame(rows, columns=["method", "metric", "seeds", "mean", "low", "high"])


def changed_settings(first: Path, second: Path) -> dict[str, tuple[Any, Any]]:
    """What differs between the two experiments, by name: `(first's, second's)`."""
    of_first, of_second = (dict(_flat(_config(folder))) for folder in (first, second))
    names = dict.fromkeys((*of_first, *of_second))
    both = {name: (of_first.get(name), of_second.get(name)) for name in names}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _runs(folder: Path, metrics: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    with _reading(folder, "runs.parquet"):
        runs = pd.read_parquet((folder / "runs.parquet").absolute()).set_index(["method", "seed"])
        twice = runs.index[runs.index.duplicated()]
    if len(twice):
        method, seed = map(_plain, twice[0])
        raise ValueError(
            f"{str(folder / 'runs.parquet')!r} has method {method} with seed {seed} twice: give another folder"
        )
    for metric in metrics:
        if metric not in runs:
            columns = ", ".join(map(_plain, runs))
            raise ValueError(f"metric {metric!r} is no column of {str(folder)!r} (columns: {columns})")
    with _reading(folder, "runs.parquet"):
        return runs[list(metrics)].astype(float)


def _config(folder: Path) -> dict[str, Any]:
    from common.folders import read_object

    with _reading(folder, "config.json"):
        return {name: value for name, value in read_object(folder / "config.json").items() if name != "versions"}


@contextmanager
def _reading(folder: Path, name: str) -> Iterator[None]:
    """Turn what reading a broken file raises into a `ValueError` that names it."""
    from common.folders import reading

    try:
        with reading(folder / name):
            yield
    # NotImplementedError: what the Parquet reader has no code for in a broken file; nothing is left undone here.
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{str(folder / name)!r} is broken: give another folder of python -m toy.frozenlake, or make it again"
        ) from error


def _plain(value: object) -> str:
    """A value as text that a terminal only shows: nothing in it moves the cursor or sets a colour."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(value)
    )


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def run(options: Options) -> None:
    """Print which settings differ, and the differences; bold where the interval leaves out 0."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = compare(options.first, options.second, options.metrics)
    console = Console()
    for name, (before, after) in changed_settings(options.first, options.second).items():
        line = f"{name}: {before} in the first, {after} in the second"
        console.print(_plain(line), highlight=False, markup=False)
    console.print("[bold]First minus second[/bold], paired by seed, ± half the 95 % interval, bold if it excludes 0")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", vertical="bottom")
    scales = {metric: 1000 if "_mse" in metric else 1 for metric in options.metrics}
    for metric, scale in scales.items():
        head = Text(f"{_plain(metric)}\n×10⁻³" if scale > 1 else _plain(metric))
        table.add_column(head, justify="right", vertical="bottom", no_wrap=True)
    for method, of_method in rows.groupby("method", sort=False):
        cells = []
        for metric, mean, low, high in of_method[["metric", "mean", "low", "high"]].itertuples(index=False):
            shown = f"{scales[metric] * mean:+.4f} ±{scales[metric] * (high - low) / 2:.4f}"
            cells.append(f"[bold]{shown}[/bold]" if low > 0 or high < 0 else shown)
        table.add_row(Text(_plain(method)), *cells)
    console.print(table)


def main() -> None:
    """Parse, compare, and end as all commands do."""
    command_main(lambda: run(parse(Options, "python -m toy.compare", __doc__)))


if __name__ == "__main__":
    main()
