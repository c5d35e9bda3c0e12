"""Fine-tune policies on Frozen Lake and measure how close each method comes to the policy known to be optimal.

Without `--protocol` the experiment is the paper's. `ift` alone is shown beside `ift:lam=0` and `sft`, so that one sees
what each of its parts adds.

Examples:
  python -m toy.frozenlake --method ift
  python -m toy.frozenlake --method sft ift dpo orpo --seeds 100 --lam 0.3 --prediction expected
  python -m toy.frozenlake --method ift:lam=0 ift:lam=0.5 --protocol adam
  python -m toy.frozenlake --method all --map 8x8 --slippery --out results/slippery
  python -m toy.frozenlake --method sft ift my_method.py:mine
"""

import argparse
import sys
import warnings
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape

from common.command import main as command_main
from common.command import parse, progress_bar
from ift import METHODS
from ift.fields import check_number_names
from toy.protocols import PROTOCOLS, protocol
from toy.settings import (
    FORMER_NAMES,
    IFTOptions,
    NumberOptions,
    PairOptions,
    PPOOptions,
    RunOptions,
    Settings,
    StartOptions,
    TrainingOptions,
    as_numbers,
    other_numbers,
)
from toy.trials import named_trials

_PROG = "python -m toy.frozenlake"
_RENAMED = {f"--{former}": f"--{name}" for former, name in FORMER_NAMES.items()}
_IFT_ALONE = ("ift", "ift:lam=0", "sft")  # what is shown for `--method ift`: IFT without either of its parts beside it


@dataclass(frozen=True)
class Output:
    """What to run and where the results go."""

    method: tuple[str, ...] = ("ift",)
    protocol: str = "paper"
    """Settings that the other options change; list describes each."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["--output-dir"])] = None
    """Folder for config.json, runs.parquet, summary.json, picture.png; results/MAP-METHODS-DIGEST if not given."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write into a folder that holds other results."""
    render: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also play each trained policy (first seed) in Gymnasium's renderer, as play-METHOD.gif."""


@dataclass(frozen=True)
class LakeOptions:
    """The lake."""

    map: str = "ring"
    """4x4, 8x8, ring, random:SIZE:SEED, a text file, or rows such as SFFF/FHFH/FFFH/HFFG."""
    slippery: tyro.conf.FlagCreatePairsOff[bool] = False
    """Moves may slip a quarter turn to either side."""
    success_rate: float = 1 / 3
    """Probability of the intended move on slippery ice."""
    rewards: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Reward for entering a goal, a hole, any other cell."""
    max_episode_steps: int | None = None
    """Steps after which an episode is cut, in success and value; 0 is no limit. If not given it is Gymnasium's for
    FrozenLake-v1, 100 (FrozenLake8x8-v1 has 200)."""


@dataclass(frozen=True)
class Command:
    """Options by group; `Settings` holds those that `toy.align` takes."""

    output: Output = field(default_factory=Output)
    lake: LakeOptions = field(default_factory=LakeOptions)
    runs: RunOptions = field(default_factory=RunOptions)
    start: StartOptions = field(default_factory=StartOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    numbers: NumberOptions = field(default_factory=NumberOptions)
    ift: IFTOptions = field(default_factory=IFTOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    ppo: PPOOptions = field(default_factory=PPOOptions)
    own: object = None  # numbers that no group above has, see `command_type`

    def of_protocol(self, name: str) -> "Command":
        """The same command whose options say what the protocol's settings say."""
        settings = protocol(name)
        groups = {key: type(group) for key, group in vars(self).items() if key not in ("output", "lake", "own")}
        options: dict[str, Any] = {
            key: kind(**{each.name: getattr(settings, each.name) for each in fields(kind)})
            for key, kind in groups.items()
        }
        return replace(self, output=replace(self.output, protocol=name), **options)

    def settings(self) -> Settings:
        """The settings: numbers of single methods are added to the protocol's, and the later ones count."""
        groups = [group for name, group in vars(self).items() if name not in ("output", "lake", "own")]
        given = {name: value for group in groups for name, value in vars(group).items()}
        of_protocol = protocol(self.output.protocol).numbers
        own = as_numbers(vars(self.own)) if self.own is not None else ()
        return Settings(**{**given, "numbers": tuple(dict.fromkeys((*of_protocol, *own, *given["numbers"])))})


def command_type() -> type[Command]:
    """`Command` with what the methods that are known by now add: their names in the help, and their own numbers."""
    help_of_method = (
        f"One or more of {', '.join(METHODS)}, or all. A method with a setting changed is METHOD:NAME=VALUE, as "
        "ift:lam=0; one of a file of yours is FILE.py:NAME (docs/add-a-method.md)."
    )
    hint = Annotated[tuple[str, ...], tyro.conf.arg(help=help_of_method)]
    output = make_dataclass("Output", [("method", hint, field(default=Output.method))], bases=(Output,), frozen=True)
    output.__doc__ = Output.__doc__
    numbers = other_numbers()
    taken = {each.name for kind in (Output, LakeOptions) for each in fields(kind)}
    for method in METHODS.values():
        check_number_names(method, taken, _PROG)
    added = [("output", output, field(default_factory=output)), ("own", numbers, field(default_factory=numbers))]
    return make_dataclass("Command", added, bases=(Command,), frozen=True)


def parse_command(arguments: list[str]) -> Command:
    """The command of a line of arguments, on top of the protocol that it names; raises `ValueError` for a bad one."""
    arguments = METHODS.named_in_option(arguments)  # first, as help and options are made of the methods
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--protocol", nargs="?", default=Output.protocol)
    named = first.parse_known_args(arguments)[0].protocol or "list"
    if named == "list":
        for each in PROTOCOLS.values():
            print(f"{each.name}: {each.summary} Source: {each.source}.")
        sys.exit(0)
    kind = command_type()
    return parse(kind, _PROG, __doc__, arguments=arguments, default=kind().of_protocol(named), renamed=_RENAMED)


def run(command: Command, console: Console) -> Path:
    """The whole command: check, train with a progress bar, write the files, print what came out; the folder."""
    methods, settings = command.output.method, command.settings()
    methods = _IFT_ALONE if methods == ("ift",) else tuple(named_trials(methods, settings))
    from common.folders import working_in
    from toy import results
    from toy.experiment import align
    from toy.lake import Lake
    from toy.report import show

    lake = Lake.make(
        command.lake.map,
        slippery=command.lake.slippery,
        success_rate=command.lake.success_rate,
        reward_schedule=command.lake.rewards,
        max_episode_steps=command.lake.max_episode_steps,
    )
    config = results.describe(lake, methods, settings, command.output.protocol)
    folder = command.output.out or results.default_folder(config, command.lake.map)
    with working_in(folder), progress_bar(console) as bar:
        results.check_folder(folder, config, command.output.overwrite)
        task = bar.add_task("", total=1.0)
        result = align(lake, methods, settings, lambda doing, done: bar.update(task, description=doing, completed=done))
        bar.update(task, description="writing files and picture")
        summary = results.summary(result)
        written = results.save(result, summary, config, lake, settings, folder, render=command.output.render)
    each = PROTOCOLS[command.output.protocol]
    console.print(f"\nProtocol [bold]{each.name}[/bold]: {each.summary}")
    show(result, summary, lake, settings.seeds, console)
    console.print(f"\nWritten to [bold]{escape(str(folder))}[/bold]: {', '.join(path.name for path in written)}")
    return folder


def main() -> None:
    """Parse, run, and end as all commands do."""
    console = Console(soft_wrap=False)
    warnings.showwarning = lambda message, *_, **__: console.print(f"[yellow]warning[/yellow] {escape(str(message))}")
    command_main(
        lambda: run(parse_command(sys.argv[1:]), console), "interrupted: results are written whole or not at all"
    )


if __name__ == "__main__":
    main()
