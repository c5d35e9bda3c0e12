"""One `main` for every command: each is interrupted, refuses bad input and misses an extra in the same way.

A command's own file parses its options and imports what it needs after that, so that `--help` and a bad option do not
wait for PyTorch.
"""

import atexit
import errno
import io
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import tyro

from common import on_signals, stop_at_once

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Modules that only an extra installs, and the extra.
_EXTRA_OF = {
    **dict.fromkeys(("lm_eval",), "eval"),
    **dict.fromkeys(("alpaca_eval", "openai"), "judge"),
    **dict.fromkeys(("envpool", "jax", "mdptoolbox", "optax"), "bench"),
}


_LONGEST = 10_000  # characters of an argument
_NARROWEST = 40  # columns of a terminal: in fewer than eight, the help would never end
_IMPATIENT_SECONDS = 1.0  # within which a second Ctrl-C is the first one's echo, and lets the clearing up end
# What libraries say, each in its own type of error, where the disk (or a quota, or a file's limit) or the memory ends.
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "File too large", "disk is full", "unexpected pos",
              "PytorchStreamWriter failed", "basic_ios::clear: iostream error")  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Cannot allocate memory",
    "Unable to allocate",
    "malloc of size",
)


class FailedError(RuntimeError):
    """The input was right, and the work went wrong all the same: one line, exit code 1."""


def parse(
    options: Any,
    prog: str,
    description: str | None,
    *,
    arguments: Sequence[str] | None = None,
    default: Any = None,
    renamed: Mapping[str, str] | None = None,
) -> Any:
    """The options of a command line, as a value of the type `options`; group names are left out of the flags.

    `arguments` are those of the process if they are not given. `default` is what holds where nothing is given.
    `renamed` maps former spellings of flags to today's: they work for one version, and a note says so.
    """
    if shutil.get_terminal_size().columns < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)
    words = []
    for place, word in enumerate(sys.argv[1:] if arguments is None else arguments, 1):
        _check_text(place, word)
        flag, equals, value = word.partition("=")
        if flag == "--lambda":  # a keyword of Python, which no setting can be called
            raise ValueError("--lambda is no option: λ is --lam")
        new = (renamed or {}).get(flag.replace("_", "-"))
        if new is not None:
            print(f"note: {flag} is called {new} now; the old name goes with the next version", file=sys.stderr)
        words.append(f"{new}{equals}{value}" if new else word)
    more = {} if default is None else {"default": default}
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(options, prog=prog, description=description, args=words, config=config, **more)


def _check_text(place: int, word: str) -> None:
    if len(word) > _LONGEST:
        raise ValueError(f"argument {place}, {word[:40]!r}…, has {len(word):,} characters: {_LONGEST:,} are allowed")
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"argument {place}, {word[:40]!r}, is not UTF-8 text") from error


def main(command: Callable[[], object], stopped: str = "interrupted") -> None:
    """Run a command; `stopped` is what a person who interrupted it should know.

    Exit codes: 2 for bad input, a file that cannot be read or written, a disk or a memory that is too small and an
    extra that is not installed (one line says which); 1 where the work itself failed; 130 after Ctrl-C, SIGTERM, which
    schedulers send before they kill, and SIGHUP of a terminal that is closed; 141 where nobody reads what is printed.
    """
    interrupted: list[float] = []

    def interrupt(*_: Any) -> None:
        now = time.monotonic()
        if not interrupted or now - interrupted[-1] > _IMPATIENT_SECONDS:
            interrupted.append(now)
            raise KeyboardInterrupt

    def unraisable(problem: Any) -> None:
        if interrupted and isinstance(problem.exc_value, KeyboardInterrupt):  # it came while an object was cleared away
            interrupted.clear()
            _again_soon()
        else:
            sys.__unraisablehook__(problem)

    _open_streams()
    sys.unraisablehook = unraisable
    # Python's end gives signals their default back: what comes then comes too late. This is called last.
    atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    on_signals(interrupt)
    try:
        _to_the_end(command)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich's way to end
            sys.exit(141)
        raise
    except BaseException as error:
        on_signals(signal.SIG_IGN)  # what comes now has been heard
        # An interrupt within an import may come out of it as any other error.
        line, code = (stopped, 130) if interrupted or isinstance(error, KeyboardInterrupt) else _ending(error)
        if code is None:
            raise
        if code == 141:
            _to_nowhere(sys.stdout)
        if line:
            try:
                print(line, file=sys.stderr, flush=True)
            except OSError:  # the terminal was closed
                _to_nowhere(sys.stderr)
        sys.exit(code)
    finally:
        on_signals((lambda *_: os._exit(130)) if interrupted else stop_at_once)


def _again_soon() -> None:
    """Have an interrupt come again, from where Python can raise it."""
    again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def _open_streams() -> None:
    """Have somewhere to print, also where a stream was closed, and print what its encoding has no letters for as ?."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):  # another file was put in its place, whose end it cannot find
            sys.stdout.reconfigure(errors="replace")


def _to_the_end(command: Callable[[], object]) -> None:
    """Run it, and write what it has printed, also where it ended as after a help text."""
    try:
        command()
    except SystemExit as stop:
        if not stop.code:
            _flush()
        raise
    _flush()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _to_nowhere(sys.stdout)
        raise ValueError("the work is done, but what it prints cannot be written: look where stdout goes") from None


def _to_nowhere(stream: TextIO) -> None:
    """Have Python's end find nothing to complain of in what a stream still holds."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _ending(error: BaseException) -> tuple[str, int | None]:
    """The line and the exit code that an error stands for; no code for a bug, which keeps its traceback."""
    chain = [error]
    while (cause := _cause(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    texts = [str(each) for each in chain]
    if isinstance(error, FailedError):
        return f"error: {_one_line(error)}", 1
    if _says(texts, _DISK_FULL) or any(isinstance(each, OSError) and each.errno in _NO_ROOM for each in chain):
        return f"error: the disk is full ({_one_line(error)}): make room, then give the same command again", 2
    if isinstance(error, BrokenPipeError):
        return "", 141
    if any(isinstance(each, MemoryError) for each in chain) or _says(texts, _NO_MEMORY):
        return f"error: the memory is too small for this ({_one_line(error) or 'MemoryError'}): ask for less", 2
    if isinstance(error, RecursionError):
        return "error: a file or a value is nested too deeply to be read", 2
    if isinstance(error, ImportError):
        return _missing(error), 2
    if isinstance(error, ValueError | OSError | OverflowError):
        return f"error: {_one_line(error)}", 2
    return "", None


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says(texts: Sequence[str], words: Sequence[str]) -> bool:
    return any(word in text for text in texts for word in words)


def _one_line(error: BaseException) -> str:
    """What an error says, on one line that a terminal holds: long words lose their middle."""
    text = re.sub(r"\S{300,}", lambda word: f"{word[0][:200]}…{word[0][-40:]}", " ".join(str(error).split()))
    return text if len(text) <= 2000 else f"{text[:2000]}…"


def _missing(error: ImportError) -> str:
    """The line for a module that is not there: with the command that installs it, where an extra has it."""
    extra = _EXTRA_OF.get((error.name or "").split(".")[0])
    if extra is None:
        return f"error: {error}"
    return (
        f"error: this needs the extra {extra!r}, which is not installed: pip install -e '.[{extra}]' -c constraints.txt"
    )


def hand_over(former: str, module: str, arguments: Sequence[str]) -> NoReturn:
    """Go on as `python -m module` in this process's place, after a line that says so: for commands that moved."""
    print(f"note: {former} is python -m {module} now; the former spelling goes with the next version", file=sys.stderr)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def check_jobs(jobs: int) -> None:
    """Raise `ValueError` for a number of processes that is neither positive nor −1, which stands for every core."""
    if jobs < 1 and jobs != -1:
        raise ValueError(f"jobs must be at least 1, or -1 for every core; got {jobs}")


def quieten() -> None:
    """Keep the libraries' own bars and notes out of the way of ours; call it before they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    warnings.simplefilter("ignore", FutureWarning)
    for line in ("Unable to fetch remote file", "Could not find a config file"):  # PEFT's, of a base in a .gguf file
        warnings.filterwarnings("ignore", line, UserWarning)
    logging.getLogger("trl").setLevel(logging.ERROR)


def progress_bar(console: "Console | None" = None, count: str = "") -> "Progress":
    """A progress bar with times: on `console` it counts percent and goes away, else on stderr it counts `count`.

    Where `console` is no terminal there is no bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    done = f"{{task.completed}}/{{task.total}} {count}" if count else "{task.percentage:>3.0f} %"
    columns = (TextColumn("{task.description:<40}", markup=False), BarColumn(), TextColumn(done), TimeElapsedColumn())
    bar_console = console or Console(stderr=True)
    ours = console is not None
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=bar_console,
        transient=ours,
        disable=ours and not bar_console.is_terminal,
    )
