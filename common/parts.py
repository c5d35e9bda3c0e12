"""Long work in parts: made by any number of processes, kept one by one, and continued after a stop."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend

from common.command import FailedError, progress_bar
from common.folders import claim_folder, reading, working_in, write_whole

Part = tuple[Callable[..., pd.DataFrame], tuple[Any, ...]]  # a function that can be imported, and its arguments
_START_SECONDS = 10  # that processes take until they have imported everything, several at a time


def run_parts(folder: Path, definition: dict[str, Any], parts: Mapping[str, Part], jobs: int = -1) -> pd.DataFrame:
    """All parts' rows in their order, with a column `part`, from `folder` if it has them, else made and kept there.

    Each finished part is kept in `folder/parts`, so that a run that was stopped goes on; then `folder/runs.parquet`
    holds everything. `definition` is JSON-ready and says what fixes the numbers; it is kept in `config.json`.
    `joblib.parallel_config(backend=...)` around the call spreads the parts over other engines (dask, ray).

    Raises:
        ValueError: `folder` holds results of another definition or version, cannot be written, or is being written.
    """
    with working_in(folder):
        claim_folder(folder, definition)
        made = folder / "parts"
        if not (folder / "runs.parquet").exists():
            _make(made, parts, jobs)
            rows = pd.concat([_read(made / f"{name}.parquet").assign(part=name) for name in parts], ignore_index=True)
            write_whole(folder / "runs.parquet", rows.to_parquet)
        for name in parts:  # a run that was killed here left some of them
            (made / f"{name}.parquet").unlink(missing_ok=True)
        with suppress(OSError):
            made.rmdir()
        return _read(folder / "runs.parquet")


def _read(file: Path) -> pd.DataFrame:
    with reading(file):
        return pd.read_parquet(file.absolute())


def _make(folder: Path, parts: Mapping[str, Part], jobs: int) -> None:
    with working_in(folder):
        missing = {name: part for name, part in parts.items() if not (folder / f"{name}.parquet").exists()}
        with progress_bar(count="parts") as progress:
            bar = progress.add_task(folder.parent.name, total=len(parts), completed=len(parts) - len(missing))
            # Rows come back to this process, which writes them: no shared file system is needed.
            for name, rows in _as_they_finish(missing, jobs):
                write_whole(folder / f"{name}.parquet", rows.to_parquet)
                progress.advance(bar)


def _as_they_finish(parts: Mapping[str, Part], jobs: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of each part as it is made, by this process or by those of joblib's engine.

    On this machine the first part tells how long the others take: processes are begun only if that is worth it.
    """
    engine, _ = get_active_backend()
    left = list(parts.items())
    if left and isinstance(engine, LokyBackend):
        begun = monotonic()
        name, part = left.pop(0)
        yield _one(name, *part)
        if (monotonic() - begun) * len(left) < _START_SECONDS:
            jobs = 1
    work = (delayed(_helped)(os.getpid(), name, *part) for name, part in left)
    # What is not fetched after a Ctrl-C is made again.
    warnings.filterwarnings("ignore", category=UserWarning, module="joblib.parallel")
    try:
        if engine.supports_return_generator:
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
            return
        while batch := list(islice(work, 2 * engine.effective_n_jobs(jobs))):  # ray gives results only together
            yield from Parallel(n_jobs=jobs)(batch)
    except BrokenProcessPool as error:
        raise FailedError(
            "a process that made a part was killed, which happens where the memory is too small: the same command goes "
            "on where it was, and --jobs 1 takes the least"
        ) from error


def _helped(owner: int, name: str, *part: Any) -> tuple[str, pd.DataFrame]:
    if os.getpid() != owner:
        _end_with_parent()
    return _one(name, *part)


@cache
def _end_with_parent() -> None:
    """Have this process end when the one that began it is gone, also by a kill: joblib's would wait for good."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _one(name: str, function: Callable[..., pd.DataFrame], arguments: tuple[Any, ...]) -> tuple[str, pd.DataFrame]:
    return name, function(*arguments)
