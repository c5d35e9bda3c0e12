"""A method against all others: tuned alike on development lakes, scored once on held-out ones, in every protocol.

Examples:
  python -m toy.benchmark --method my_method.py:mine --quick
  python -m toy.benchmark --method my_method.py:mine
  python -m toy.benchmark --method all --ship     (the leaderboard: every method of this project)
  python -m toy.benchmark --method still --ship   (the same, with this method's runs anew beside the others')

The others' runs ship with the project. The page that is written, in HTML and Markdown, has a picture, ranks with
intervals, and what each method costs and forgets.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from common.command import check_jobs, parse, quieten
from common.command import main as command_main

Flag = tyro.conf.FlagCreatePairsOff[bool]


@dataclass(frozen=True)
class Options:
    """Which methods, and where the page goes."""

    method: tuple[str, ...] = ()
    """Methods to compare with all others, also FILE.py:NAME of your own; all makes every method's runs anew."""
    out: Path | None = None
    """Folder for benchmark.html, benchmark.md, benchmark.png and the runs; results/benchmark-METHODS if not given.
    The same command continues with the results that are there."""
    quick: Flag = False
    """Two development lakes, half as many settings and four held-out lakes."""
    jobs: int = -1
    """Processes; -1 takes every core."""
    ship: Flag = False
    """Write the runs into the project, beside experiments/benchmark.py, for methods of this project; the page is then
    the leaderboard. A method's runs do not depend on which others are asked for."""


def run(options: Options) -> None:
    """Check, run what is missing, write the page and print where it is."""
    check_jobs(options.jobs)
    everything = options.method == ("all",)
    if options.ship and options.quick:
        raise ValueError("ship needs the full scale: leave --quick out")
    from ift import METHODS, method_names

    asked = method_names(options.method)
    if everything:
        asked = tuple(name for name in asked if name not in METHODS.origins)
    outside = [name for name in asked if name in METHODS.origins]
    if options.ship and (outside or not asked):
        raise ValueError(f"ship is for methods of this project, got {', '.join(outside) or 'none'}")
    quieten()
    from common.folders import working_in
    from experiments import benchmark
    from experiments.ranks import update_costs
    from figures.leaderboard import write_page

    shown = "all" if everything else "-".join(asked)
    out = options.out or Path("results") / ("quick" if options.quick else "") / f"benchmark-{shown}"
    known = None if everything else benchmark.shipped()
    if known is not None and options.ship:  # these are made anew
        known = benchmark.without(known, asked)
    new = asked if known is None else tuple(name for name in asked if name not in set(known.rows["method"]))
    rows, costs = None, {} if known is None else known.costs
    with working_in(out):
        if new:
            rows = benchmark.benchmark(out / "runs", new, options.quick, options.jobs)
            costs = costs | update_costs(new)
        every = benchmark.together(known, rows)
        if options.ship:
            benchmark.ship(every, costs)
        for path in write_page(out, every, costs, () if everything or options.ship else asked, options.quick):
            print(path)


def main() -> None:
    """Parse, run, and end as all commands do."""
    stopped = "stopped: the same command goes on where it was"
    command_main(lambda: run(parse(Options, "python -m toy.benchmark", __doc__)), stopped)


if __name__ == "__main__":
    main()
