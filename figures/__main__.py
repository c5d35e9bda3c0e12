"""Draw the paper's figures from this project's own results, and audit its claims; missing results are made and kept.

Examples:
  python -m figures frozen-lake step-length
  python -m figures all --quick
  python -m figures audit
  python -m figures frozen-lake --method my_method.py:mine
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from common.command import check_jobs, parse
from common.command import main as command_main

# What each figure shows; module and function are named like it.
FIGURES = {
    "paradigms": "the paper's figures 1 and 2: which states each method scores, what it needs, what that costs",
    "frozen-lake": "the paper's figure 3: policies, what each training scores, distances to the optimum",
    "step-length": "how much of the paper's order is the length of the step",
    "lambda-gamma": "the plane of IFT's two numbers",
    "phase": "where in the space of protocols the paper's order holds",
    "tables": "the language-model results as reported, beside the costs measured here",
}
OTHERS = {
    "audit": "the paper's claims, judged on lakes and seeds that nothing was chosen on",
    "lake-language": "the methods on language models that play the lake",
    "lake-optimisers": "whether the order on language models, too, is the length of the step",
    "study": "the methods on a pretrained model, from what `python -m experiments.study` left",
}
TAKE_METHODS = ("paradigms", "frozen-lake")  # figures that show other methods beside their own
_HELP = (
    f"One or more of: {'; '.join(f'{name}, {shows}' for name, shows in {**FIGURES, **OTHERS}.items())}. "
    f"all stands for the first {len(FIGURES)}."
)


@dataclass(frozen=True)
class Options:
    """Which figures, and where they go."""

    name: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME [NAME ...]", help=_HELP)]
    out: Path = Path("results/figures")
    """Folder for NAME.png, NAME.svg, NAME.md (the caption) and, in NAME-runs, the results that they are drawn from."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fewer lakes, seeds and settings, in a folder of their own."""
    jobs: int = -1
    """Processes; -1 takes every core."""
    method: tuple[str, ...] = ()
    """Other methods to show beside those of paradigms and frozen-lake, also FILE.py:NAME of your own; the figure goes
    into a folder with-METHOD of its own."""


def names_of(options: Options) -> list[str]:
    """The figures that are asked for; raises `ValueError` for an unknown one or a bad number of processes."""
    known = {**FIGURES, **OTHERS}
    if not options.name:
        raise ValueError(f"figure must name at least one of {', '.join(known)}, all")
    for name in options.name:
        if name not in (*known, "all"):
            raise ValueError(f"figure {name!r} is unknown (known: {', '.join(known)}, all)")
    check_jobs(options.jobs)
    for name in options.name if options.method else ():
        if name not in TAKE_METHODS:
            raise ValueError(f"figure {name!r} shows fixed methods: --method goes with {', '.join(TAKE_METHODS)}")
    return list(dict.fromkeys(each for name in options.name for each in (FIGURES if name == "all" else [name])))


def run(options: Options) -> None:
    """Draw them, and print what was written."""
    names, more = names_of(options), {}
    out = options.out / "quick" if options.quick else options.out
    if options.method:
        from ift import method_names

        more = {"more": method_names(options.method)}
        out = out / f"with-{'-'.join(more['more'])}"
    from common.folders import working_in

    with working_in(out):
        for name in names:
            function = name.replace("-", "_")
            draw = getattr(import_module(f"figures.{function}"), function)
            for path in draw(out, options.quick, options.jobs, **more):
                print(path)


def main() -> None:
    """Parse, draw, and end as all commands do."""
    command_main(
        lambda: run(parse(Options, "python -m figures", __doc__)), "stopped: the same command goes on where it was"
    )


if __name__ == "__main__":
    main()
