"""One `main` for every command: each is interrupted, refuses bad input and misses an extra in the same way.

A command's own file parses its options and imports what it needs after that, so that `--help` and a bad option do not
wait for PyTorch.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import tyro

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Modules that only an extra installs, and the extra.
_EXTRA_OF = {"lm_eval": "eval", "alpaca_eval": "judge", "openai": "judge", "envpool": "bench", "mdptoolbox": "bench"}


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
    words = []
    for word in sys.argv[1:] if arguments is None else arguments:
        flag, equals, value = word.partition("=")
        new = (renamed or {}).get(flag.replace("_", "-"))
        if new is not None:
            print(f"note: {flag} is called {new} now; the old name goes with the next version", file=sys.stderr)
        words.append(f"{new}{equals}{value}" if new else word)
    more = {} if default is None else {"default": default}
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(options, prog=prog, description=description, args=words, config=config, **more)


def main(command: Callable[[], None], stopped: str = "interrupted") -> None:
    """Run a command; `stopped` is what a person who interrupted it should know.

    Exit codes: 2 for bad input, a file that cannot be read or written and an extra that is not installed (one line
    says which); 1 where the work itself failed; 130 after Ctrl-C or SIGTERM, which schedulers send before they kill.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except ImportError as error:
        _end(_missing(error), 2)
    except (ValueError, OSError) as error:
        _end(f"error: {error}", 2)
    except FailedError as error:
        _end(f"error: {error}", 1)
    except KeyboardInterrupt:
        _end(stopped, 130)


def _missing(error: ImportError) -> str:
    """The line for a module that is not there: with the command that installs it, where an extra has it."""
    extra = _EXTRA_OF.get((error.name or "").split(".")[0])
    if extra is None:
        return f"error: {error}"
    return (
        f"error: this needs the extra {extra!r}, which is not installed: pip install -e '.[{extra}]' -c constraints.txt"
    )


def _end(line: str, code: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(code)


def hand_over(former: str, module: str, arguments: Sequence[str]) -> NoReturn:
    """Go on as `python -m module` in this process's place, after a line that says so: for commands that moved."""
    print(f"note: {former} is python -m {module} now; the former spelling goes with the next version", file=sys.stderr)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def quieten() -> None:
    """Keep the libraries' own bars and notes out of the way of ours; call it before they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("trl").setLevel(logging.ERROR)


def progress_bar(console: "Console | None" = None, count: str = "") -> "Progress":
    """A progress bar with times: on `console` it counts percent and goes away, else on stderr it counts `count`.

    Where `console` is no terminal there is no bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    done = f"{{task.completed}}/{{task.total}} {count}" if count else "{task.percentage:>3.0f} %"
    columns = (TextColumn("{task.description:<40}"), BarColumn(), TextColumn(done), TimeElapsedColumn())
    bar_console = console or Console(stderr=True)
    ours = console is not None
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=bar_console,
        transient=ours,
        disable=ours and not bar_console.is_terminal,
    )
