"""Runs one of our commands in a process of its own, forked from one that has imported the libraries already.

It is the command's own `main` with its own arguments, in its own process group; it only need not wait for imports.
"""

import contextlib
import os
import resource
import runpy
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common import folders, stop_at_once

MEMORY_BYTES = 6 * 2**30  # of addresses, beyond what the forking process has: a command may not take the machine down
GRACE_SECONDS = 30.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (negative: of a signal), what it printed, whether it outlasted its time."""

    code: int
    output: str
    errors: str
    seconds: float
    too_long: bool = False


@dataclass
class Running:
    """A command that runs."""

    process: int
    output: int
    errors: int
    begun: float

    def wait(
        self,
        seconds: float,
        stop: tuple[float, int] | None = None,
        until: Callable[[], bool] | None = None,
    ) -> Done | None:
        """Its end; `stop` is when which signal goes to its group; after `seconds` it gets SIGTERM, then SIGKILL.

        With `until`, None as soon as that holds.
        """
        texts = {self.output: b"", self.errors: b""}
        stopped = too_long = False
        while True:
            ready, _, _ = select.select([*texts], [], [], 0.01)
            for descriptor in ready:
                texts[descriptor] += os.read(descriptor, 2**16)
            process, status = os.waitpid(self.process, os.WNOHANG)
            now = time.monotonic() - self.begun
            if process:
                break
            if until is not None and until():
                return None
            if stop is not None and not stopped and now > stop[0]:
                self.send(stop[1])
                stopped = True
            if now > seconds and not too_long:
                self.send(signal.SIGTERM)
                too_long = True
            if now > max(seconds, stop[0] if stop else 0) + GRACE_SECONDS:
                self.send(signal.SIGKILL)
        for descriptor in texts:
            while ready := select.select([descriptor], [], [], 0)[0]:
                if not (more := os.read(descriptor, 2**16)):
                    break
                texts[descriptor] += more
            os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)  # helpers that it may have left
        output, errors = (text.decode(errors="replace") for text in texts.values())
        return Done(os.waitstatus_to_exitcode(status), output, errors, now, too_long)

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, number)


def start(module: str, arguments: list[str], folder: Path, file_bytes: int | None = None) -> Running:
    """Begin `python -m module arguments` in a folder; files may not grow beyond `file_bytes`."""
    (output, to_output), (errors, to_errors) = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child is one of its own
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for descriptor in (to_output, to_errors):
            os.close(descriptor)
        return Running(process, output, errors, time.monotonic())
    code = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, stop_at_once)  # as where a command is imported
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(to_output, 1)
        os.dup2(to_errors, 2)
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")  # what is left there is seen, too
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES,) * 2)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes,) * 2)
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)  # runpy's: it is run anew
        _only_where_locked()
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _only_where_locked() -> None:
    """Have an error raised where a file is written that a kill would leave half-written for good.

    The next command clears the folder that it works in, or what it left of a file that it writes.
    """
    make = folders.private_folder

    @contextlib.contextmanager
    def watched(folder: Path, name: str) -> Iterator[Path]:
        known = any(
            place.suffix == ".part" or place.name.startswith("checkpoint-") for place in (folder, *folder.parents)
        )
        if not known and not (folder / ".lock").exists() and not (folder / f".{name}.lock").exists():
            raise RuntimeError(f"{folder / name} is written where nobody would clear what a kill leaves")
        with make(folder, name) as stage:
            yield stage

    folders.private_folder = watched


def run(module: str, arguments: list[str], folder: Path, seconds: float = 60.0, **limits: int | None) -> Done:
    """`start` it, and wait for its end."""
    done = start(module, arguments, folder, **limits).wait(seconds)
    assert done is not None
    return done
