"""Results of many trainings: made in parts by any number of processes, kept, and gone on with after a stop."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Part = tuple[Callable[..., pd.DataFrame], tuple[Any, ...]]  # a function that can be imported, and its arguments


def runs_of(folder: Path, definition: dict[str, Any], parts: Mapping[str, Part], jobs: int = -1) -> pd.DataFrame:
    """All parts' rows in their order, with a column `part`, from `folder` if it has them, else made and kept there.

    Each finished part is kept in `folder/parts`, so that a run that was stopped goes on; then `folder/runs.parquet`
    holds everything. `definition` is JSON-ready and says what fixes the numbers; it is kept in `config.json`.
    `joblib.parallel_config(backend=...)` around the call spreads the parts over other engines (dask, ray).

    Raises:
        ValueError: `folder` holds results of another definition or version, or cannot be written.
    """
    claim_folder(folder, definition)
    if not (folder / "runs.parquet").exists():
        _make(folder / "parts", parts, jobs)
        frames = [_read(folder / "parts" / f"{name}.parquet").assign(part=name) for name in parts]
        write_whole(folder / "runs.parquet", lambda path: pd.concat(frames, ignore_index=True).to_parquet(path))
        for left in (folder / "parts").iterdir():
            left.unlink()
        (folder / "parts").rmdir()
    return _read(folder / "runs.parquet")


def _read(file: Path) -> pd.DataFrame:
    with reading(file):
        return pd.read_parquet(file)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what reading broken results raises into a `ValueError` that names `path` and says what to do."""
    try:
        yield
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{str(path)!r} cannot be read: delete it, and it is made again") from error


def claim_folder(folder: Path, definition: dict[str, Any]) -> None:
    """Make `folder` and note in it what its results are of; refuse one that holds anything else."""
    wanted = json.loads(json.dumps({"version": package_version(), **definition}))
    try:
        held = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_dir() and any(not path.name.endswith(".part") for path in folder.iterdir()):
            raise ValueError(f"out {str(folder)!r} holds files of something else: give another --out") from None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({**wanted, "made_with": _versions()}, indent=1, ensure_ascii=False) + "\n"
            write_whole(folder / "config.json", lambda path: path.write_text(text))
        except OSError as error:
            raise ValueError(f"out {str(folder)!r} cannot be written: {error.strerror}") from error
        return
    except (OSError, ValueError) as error:
        raise ValueError(f"out {str(folder)!r} has a config.json that cannot be read: give another --out") from error
    if not isinstance(held, dict):
        raise ValueError(f"out {str(folder)!r} has a config.json that is not this project's: give another --out")
    refuse_other(folder, {key: value for key, value in held.items() if key != "made_with"}, wanted)


def refuse_other(folder: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `ValueError`, naming the first key in which what `folder` holds differs from what is wanted."""
    wanted = json.loads(json.dumps(wanted))
    for key in {**wanted, **held}:
        if held.get(key) != wanted.get(key):
            name, was, now = _narrowed(key, held.get(key), wanted.get(key))
            raise ValueError(
                f"out {str(folder)!r} holds results of another {name} ({_short(was)}; now {_short(now)}): move it away "
                "or give another --out"
            )


def _narrowed(name: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """The first part in which two settings differ, where both have parts."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in {**now, **was}:
            if was.get(key) != now.get(key):
                return _narrowed(f"{name}.{key}", was.get(key), now.get(key))
    return name, was, now


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, then give it its own: it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    part.replace(path)


def package_version() -> str:
    """This project's version, or "not installed"."""
    try:
        return version("intuitive-fine-tuning")
    except PackageNotFoundError:
        return "not installed"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "numpy", "gymnasium", "pandas")}


def _make(folder: Path, parts: Mapping[str, Part], jobs: int) -> None:
    folder.mkdir(exist_ok=True)
    missing = {name: part for name, part in parts.items() if not (folder / f"{name}.parquet").exists()}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} parts"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as progress:
        bar = progress.add_task(folder.parent.name, total=len(parts), completed=len(parts) - len(missing))
        work = (delayed(_one)(name, *part) for name, part in missing.items())
        # Rows come back to this process, which writes them: no shared file system is needed.
        for name, rows in Parallel(n_jobs=jobs, return_as="generator_unordered")(work):
            write_whole(folder / f"{name}.parquet", rows.to_parquet)
            progress.advance(bar)


def _one(name: str, function: Callable[..., pd.DataFrame], arguments: tuple[Any, ...]) -> tuple[str, pd.DataFrame]:
    return name, function(*arguments)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
