"""The cases of the campaign, each made from its name alone: FAMILY:INDEX:SEED."""

import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import random
import re
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaign import forked
from tests.campaign.commands import COMMANDS, COSTS, Command, in_a_folder
from tests.campaign.forked import Done

FAMILIES = ("input", "kill", "disk", "two")
INPUT_SECONDS = 40.0
CHECKPOINT = re.compile(r"checkpoint-\d+$")
WORDS = (
    "", " ", "-1", "0", "1", "2", "0.5", "nan", "inf", "-inf", "1e400", "1e-400", "1e300", "x", "²", "true", "None",
    "null", "99999999999999999999", "9223372036854775808", "4294967296", "1000000000", "-9223372036854775808",
    "9" * 5000, "/dev/null", "/proc/nowhere/x", "nowhere", "nowhere/x.jsonl", "rows.jsonl", "map.txt", ".", "..",
    "out", "base", "base/config.json", "adapter", "x" * 300, "x" * 20_000, "a b", "a\nb", "=", "a=", "=b", "a=b",
    "a=[", "a={b: [c", "{}", "[]", "[" * 3000, "{{", "{% include 'x' %}", "\udcff", "é", "�", "*", "?", "~",
    "~nobody/x", "$HOME", "`id`", ":", "@", "a:b", "lake:0", "lake:-1", "lake:4", "lake@nowhere:4", "rows.jsonl:2",
    "rows.jsonl:99", "ift:lam=2", "ift:lam=0", "ift.lam=x", "random:1:0", "random:5:0", "random:99999:0", "SFFG",
    "SG", "S", "SFF/FHG", "S" * 1000, "all", "none", "cpu", "cuda", "meta", "eval_on_start=true",
    "dataloader_num_workers=-1", "bf16=maybe", "tensorboard", "wandb", "adamw_8bit", "rmsprop", "-", "--",
    "out[/b]", "[red]",
)  # fmt: skip
CONTENTS = (
    b"", b"\n", b"null", b"[]", b"{}", b"3", b'"x"', b"[[]]", b"{", b"\xff\xfe\x00", b"\xe9t\xe9\n", b"[" * 100_000,
    b'{"a":' * 50_000, b"nan", b"\x00" * 64, b"&a [*a]", b"!!python/object/apply:os.system [id]",
    b"a: &a [*a, *a]\n", b"PAR1", b"PK\x03\x04",
    b'{"a": "[/b]"}',
)  # fmt: skip


@dataclass
class Campaign:
    """Where it runs, and what was found once and serves many cases.

    `inputs` holds what small runs read; `seconds` is how long a bad input may run; `references` are the files that each
    command leaves, and how long it took.
    """

    work: Path
    inputs: Path
    seconds: float = INPUT_SECONDS
    commands: dict[str, Command] = field(default_factory=lambda: dict(COMMANDS))
    references: dict[str, tuple[dict[str, str], float]] = field(default_factory=dict)

    def folder_for(self, command: Command, name: str) -> Path:
        """A new folder with all that the command reads."""
        folder = self.work / name.replace(":", "-")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.inputs, folder)
        (folder / "tmp").mkdir()  # where the command has its temporary files
        for other in command.made:
            self.reference(self.commands[other])
            shutil.copytree(self.work / f"kept-{other}" / "out", folder / "made" / other)
        if command.module == "figures":  # else they would measure the bench's costs for minutes
            in_a_folder(lambda: COSTS, folder / "out" / "quick" / "costs-runs")
        return folder

    def reference(self, command: Command) -> tuple[dict[str, str], float]:
        """Files (with their SHA-256) and seconds of a run that nothing stops; its folder stays as `kept-NAME`."""
        if command.name not in self.references:
            folder = self.folder_for(command, f"kept-{command.name}")
            done = forked.run(command.module, list(command.arguments), folder, 300)
            if done.code:
                raise RuntimeError(f"{command.name} does not work at all: {done.code} {done.errors[-2000:]}")
            self.references[command.name] = files(folder), done.seconds
        return self.references[command.name]


def draw(campaign: Campaign, draws: random.Random, writing: bool = False) -> Command:
    """A command, or one of those that write."""
    commands = [command for command in campaign.commands.values() if command.writes or not writing]
    return draws.choices(commands, [command.weight for command in commands])[0]


def run_case(campaign: Campaign, name: str) -> str:
    """Nothing if the case ended as it should, else what was wrong."""
    family, index, seed = name.split(":")
    draws = random.Random(f"{family} {index} {seed}")
    return {"input": bad_input, "kill": kill, "disk": disk, "two": two}[family](campaign, name, draws)


def bad_input(campaign: Campaign, name: str, draws: random.Random) -> str:
    """A flag with a value that it was not made for, or a file that is not what it was."""
    command = draw(campaign, draws)
    arguments = list(command.arguments)
    folder = campaign.folder_for(command, name)
    if not command.reads or draws.random() < 0.6:
        flag, count = draws.choice(command.flags())
        number = count if isinstance(count, int) else draws.choice((0, 1, 1, 2))
        words = [draws.choice(WORDS) for _ in range(number if draws.random() < 0.9 else max(number - 1, 0))]
        if flag == "--jobs":  # as many processes would be begun
            words = [word for word in words if not word.isdecimal() or len(word) == 1]
        arguments += [flag, *words]
        what = f"{command.name} {flag} {' '.join(word[:60] for word in words)!r}"
    else:
        what = f"{command.name} with {_spoil(campaign, command, folder, draws)}"
    before = files(folder)
    done = forked.run(command.module, arguments, folder, command.seconds or campaign.seconds)
    problem = problem_of_input(done, before, files(folder), may_remove="--resume" in arguments)
    return f"{what}: {problem}" if problem else ""


def _spoil(campaign: Campaign, command: Command, folder: Path, draws: random.Random) -> str:
    pattern = draws.choice(command.reads)
    if pattern.startswith("out/"):  # what a run has left
        of = "train" if command.name == "resumed" else command.name
        campaign.reference(campaign.commands[of])
        shutil.copytree(campaign.work / f"kept-{of}" / "out", folder / "out", dirs_exist_ok=True)
        if command.name == "resumed":  # a finished run would read nothing of it
            shutil.rmtree(folder / "out" / "model")
    file = draws.choice(sorted(path for path in folder.glob(pattern) if path.is_file()))
    whole, change = file.read_bytes(), draws.random()
    if change < 0.5:
        tenth = draws.randrange(10)
        file.write_bytes(whole[: len(whole) * tenth // 10])
        how = f"cut at {tenth} tenths"
    elif change < 0.75 and file.suffix == ".json" and isinstance(data := json.loads(whole), dict) and data:
        key, value = draws.choice(sorted(data)), draws.choice((None, -1, 10**30, "x", [], {}, 0.5, True, [None]))
        file.write_text(json.dumps({**data, key: value}))
        how = f"{key} = {value!r}"
    else:
        content = draws.choice(CONTENTS)
        file.write_bytes(content)
        how = f"holding {content[:30]!r}"
    return f"{file.relative_to(folder)} {how}"


def kill(campaign: Campaign, name: str, draws: random.Random) -> str:
    """A run that is stopped at any moment, then the same command: as if it had not been stopped."""
    command = draw(campaign, draws, writing=True)
    wanted, seconds = campaign.reference(command)
    number = draws.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    folder = campaign.folder_for(command, name)
    moment = draws.random() * seconds
    done = forked.start(command.module, list(command.arguments), folder).wait(300, (moment, number))
    assert done is not None
    problem = problem_of_stop(done, number, files(folder)) or goes_on(campaign, command, folder, wanted)
    return f"{command.name} {number.name} at {moment:.2f} of {seconds:.2f} s: {problem}" if problem else ""


def disk(campaign: Campaign, name: str, draws: random.Random) -> str:
    """A disk on which files end early, then the same command with more room."""
    command = draw(campaign, draws, writing=True)
    wanted, _ = campaign.reference(command)
    inputs = files(campaign.inputs)
    sizes = [(campaign.work / f"kept-{command.name}" / file).stat().st_size
             for file, digest in wanted.items() if file not in inputs and digest != "folder"]  # fmt: skip
    limit = int(draws.random() * max(sizes))
    folder = campaign.folder_for(command, name)
    done = forked.run(command.module, list(command.arguments), folder, 300, file_bytes=limit)
    if done.code == 0:  # all of it fitted
        problem = problem_of_end(done, command, files(folder), wanted)
    else:
        problem = problem_of_disk(done, files(folder)) or goes_on(campaign, command, folder, wanted)
    return f"{command.name} with files of {limit} bytes: {problem}" if problem else ""


def two(campaign: Campaign, name: str, draws: random.Random) -> str:
    """Two at once in one folder: the second says who writes there, the first is as if it had been alone."""
    command = draw(campaign, draws, writing=True)
    wanted, _ = campaign.reference(command)
    for _ in range(5):  # until both are there at once: the first may be done before it is seen
        folder = campaign.folder_for(command, name)
        first = forked.start(command.module, list(command.arguments), folder)
        if first.wait(300, until=lambda folder=folder: _locked(folder)) is not None:
            continue
        first.send(signal.SIGSTOP)
        held = _locked(folder)
        second = forked.run(command.module, list(command.arguments), folder, 60) if held else None
        first.send(signal.SIGCONT)
        done = first.wait(300)
        assert done is not None
        if second is not None:
            problem = problem_of_second(second) or problem_of_end(done, command, files(folder), wanted)
            return f"two of {command.name}: {problem}" if problem else ""
    return f"{command.name}: nobody saw it lock its folder"


def goes_on(campaign: Campaign, command: Command, folder: Path, wanted: dict[str, str]) -> str:
    """What is wrong with the files after the same command has run again."""
    was_done = command.new is not None and (folder / command.new).exists()
    usual = campaign.references[command.name][1]
    done = forked.run(command.module, [*command.arguments, *command.again], folder, max(300, 5 * usual))
    if was_done and done.code == 2 and "exists already" in done.errors:
        done = dataclasses.replace(done, code=0)
    problem = problem_of_end(done, command, files(folder), wanted)
    return f"then {problem}" if problem else ""


def problem_of_input(done: Done, before: dict[str, str], after: dict[str, str], may_remove: bool = False) -> str:
    """Accepted with whole files, or refused in one line with nothing written; no traceback, no crash, no hang."""
    if done.too_long:
        stopped = done.code in (0, 130) and "Traceback" not in done.errors
        return _remains(after) if stopped else f"does not stop: {_end(done)}"
    if done.code not in (0, 1, 2) or "Traceback" in done.errors:
        return _end(done)
    said = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    if done.code == 1 and len(said) != 1:
        return _end(done)
    if done.code == 2 and len(said) != 1 and "\u256d" not in done.errors:  # the parser draws a box
        return f"not one line: {_end(done)}"
    if len(done.errors) > 20_000:
        return f"{len(done.errors)} characters of errors"
    if done.code == 2:
        changed = sorted(set(after.items()) - set(before.items())) or sorted(set(before) - set(after))
        if changed and not (may_remove and set(after.items()) <= set(before.items())):
            return f"refused, and wrote {changed[:3]}"
    return _remains(after)


def problem_of_stop(done: Done, number: int, after: dict[str, str]) -> str:
    """Killed, or done before; after a signal that can be heard, exit code 130 and nothing half-written."""
    if number == signal.SIGKILL:
        return "" if done.code in (0, -signal.SIGKILL) else _end(done)
    if done.code not in (0, 130) or "Traceback" in done.errors:
        return _end(done)
    return _remains(after)


def problem_of_disk(done: Done, after: dict[str, str]) -> str:
    """One line that says so, exit code 2, nothing half-written."""
    said = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    if done.code != 2 or "Traceback" in done.errors or len(said) != 1:
        return _end(done)
    return _remains(after)


def problem_of_second(done: Done) -> str:
    """Refused, with the name of who writes there."""
    return "" if done.code == 2 and "is being written by process" in done.errors else f"the second: {_end(done)}"


def problem_of_end(done: Done, command: Command, after: dict[str, str], wanted: dict[str, str]) -> str:
    """Done, with the same files and the same bytes; times aside."""
    if done.code:
        return _end(done)
    if set(after) != set(wanted):
        return (
            f"other files: {sorted(set(after) - set(wanted))[:5]} more, {sorted(set(wanted) - set(after))[:5]} missing"
        )
    other = [name for name in wanted if after[name] != wanted[name]]
    other = [name for name in other if not any(fnmatch.fnmatch(name, pattern) for pattern in command.varying)]
    return f"other bytes: {other[:5]}" if other else ""


def _remains(after: dict[str, str]) -> str:
    left = [name for name in after if name.endswith((".part", ".lock"))]
    # A checkpoint's last file is the trainer's state.
    left += [name for name in after if CHECKPOINT.search(name) and f"{name}/trainer_state.json" not in after]
    return f"left behind {left[:3]}" if left else ""


def _end(done: Done) -> str:
    lines = done.errors.strip().splitlines()
    return (
        f"exit code {done.code}{' after its time' if done.too_long else ''}, {lines[-1][:300] if lines else 'silent'}"
    )


def _locked(folder: Path) -> bool:
    """Whether a lock is held: its file says by whom from then on, and is there a moment before that."""
    with contextlib.suppress(OSError):  # files come and go
        return any(path.stat().st_size for path in folder.rglob("*.lock"))
    return False


def files(folder: Path) -> dict[str, Any]:
    """Every file below with its SHA-256, every folder as such."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }
