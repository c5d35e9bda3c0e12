"""Folders of results: what is there is whole, a note says what it is of, and one process at a time writes there.

Everything is written in a private folder beside its place, `.NAME.RANDOM.part`, reaches the disk there, and is then
renamed. What a killed run leaves of that is known by its name, and removed by the next run that writes there.
"""

import glob
import json
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from filelock import FileLock, Timeout

_ANY = "[0-9a-z_]" * 8  # what tempfile puts into a name
_LOCK, _WHOLE = ".lock", ".whole.part"
_HELD_BY = "process "  # so begins what a lock holds


@contextmanager
def working_in(folder: Path, name: str = "out") -> Iterator[None]:
    """Be the only process that writes into `folder`, which is made if it is not there, and removed if it stays empty.

    What a killed run left half-written is removed, and what it had yet to move into place is moved. The same goes for
    what processes that help leave where this one is stopped: joblib kills them. `name` is the option that names the
    folder.

    Raises:
        ValueError: another process writes there (the message says which), or `folder` is a file or cannot be written.
    """
    whole = folder / _WHOLE
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{name} {str(folder)!r} is a file: give a folder")
        if whole.is_symlink() or whole.is_file():
            raise ValueError(f"{name} {str(folder)!r} holds {_WHOLE!r}, which is no folder of ours: move it away")
    except OSError as error:
        raise ValueError(f"{name} {str(folder)!r} cannot be written: {error.strerror}") from error
    with _alone(f"{name} {str(folder)!r}", folder / _LOCK):
        _move_together(folder)
        _clear(folder)
        try:
            yield
        except BaseException:
            _clear(folder)
            raise


@contextmanager
def writing(path: Path, *, folder: bool = False, new: bool = False) -> Iterator[None]:
    """Be the only process that writes the file or the folder `path`; what a killed run left of it is removed.

    With `folder` it is one that several processes need: they wait for the first to be done with it.

    Raises:
        ValueError: another process writes it (the message says which), it is a device or a folder where a file goes,
            cannot be written, or is there already although it should be `new`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"out {str(path)!r} is no ordinary file: give another name")
    if path.is_dir() and not new and not folder:
        raise ValueError(f"out {str(path)!r} is a folder: give the name of a file")
    with _alone(f"out {str(path)!r}", path.with_name(f".{path.name}{_LOCK}"), timeout=-1 if folder else 0):
        _remove_remains(path.parent, glob.escape(path.name))
        if new and path.exists():
            raise ValueError(f"out {str(path)!r} exists already: give a new name")
        try:
            yield
        except BaseException:  # a signal may come before a private folder is known, or while it is removed
            _remove_remains(path.parent, glob.escape(path.name))
            raise


def made_once(folder: Path, make: Callable[[], Any]) -> Path:
    """`folder`, which `make` writes whole if it is not there; of several processes one does, and the others wait."""
    killed = folder.with_name(f".{folder.name}{_LOCK}").exists()  # after it was there: its lock goes now
    if killed or not folder.exists():
        with writing(folder, folder=True):
            if not folder.exists():
                make()
    return folder


@contextmanager
def _alone(place: str, lock_file: Path, timeout: int = 0) -> Iterator[None]:
    """Hold a lock, in a folder that is made if it is not there; the lock's file and empty new folders go afterwards."""
    new_folders = [parent for parent in lock_file.absolute().parents if not parent.exists()]
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file, is_singleton=True, thread_local=False)  # this process may lock it again
        lock.acquire(timeout=timeout)
    except Timeout:
        if not lock_file.exists():
            raise ValueError(f"{place} cannot be written: its folder takes no new files") from None
        raise ValueError(f"{place} is being written by {_holder(lock_file)}: wait for it, or name another") from None
    except OSError as error:
        _remove_empty(new_folders)
        raise ValueError(f"{place} cannot be written: {error.strerror}") from error
    try:
        lock_file.write_text(f"{_HELD_BY}{os.getpid()} on {socket.gethostname()} ({_command()})\n", encoding="utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            lock_file.unlink(missing_ok=True)
        lock.release()
        _remove_empty(new_folders)


def _holder(lock_file: Path) -> str:
    try:
        return lock_file.read_text(encoding="utf-8", errors="replace").strip()[:200] or "another process"
    except OSError:
        return "another process"


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _remove_remains(folder: Path, name: str) -> None:
    for left in folder.glob(f".{name}.{_ANY}.part"):  # `name` is a pattern
        shutil.rmtree(left, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove what killed processes left in a folder: half-written parts, and locks that nobody holds."""
    _remove_remains(folder, "*")
    for left in folder.glob(f".*{_LOCK}"):
        lock = FileLock(left, is_singleton=True, thread_local=False)
        with suppress(Timeout, OSError), lock.acquire(timeout=0):
            # Else it is this process's own, or somebody else's file of such a name.
            if lock.lock_counter == 1 and left.read_text(errors="replace").startswith(_HELD_BY):
                left.unlink()


def holds_nothing(folder: Path) -> bool:
    """Whether a folder holds nothing but what a writer of ours has there for a while."""
    return all(path.name == _LOCK or path.match(f".*.{_ANY}.part") for path in folder.iterdir())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what reading broken results raises into a `ValueError` that names `path` and says what to do."""
    try:
        yield
    except (OSError, ValueError, EOFError, BadZipFile, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: delete it, and it is made again") from error


def finite(data: Any) -> Any:
    """The same data with `null` for numbers that JSON cannot hold."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of results; raises `ValueError` that names the file if it holds anything else."""
    with reading(file):
        data = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError("no object")
        return data


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file of results, one a line; raises as `read_object`."""
    with reading(file), file.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("no objects")
        return rows


def claim_folder(folder: Path, definition: dict[str, Any]) -> None:
    """Note in `folder`, which is made if it is not there, what its results are of; refuse one that holds anything else.

    Raises:
        ValueError: it holds results of another definition or version, or other files; or it cannot be written.
    """
    if not claimed(folder, definition):
        try:
            write_json(folder / "config.json", record(definition))
        except OSError as error:
            raise ValueError(f"out {str(folder)!r} cannot be written: {error.strerror}") from error


def claimed(folder: Path, definition: dict[str, Any]) -> bool:
    """Whether `folder` has the note of `claim_folder` already; raises `ValueError` where that would refuse it."""
    held = held_record(folder)
    if held is not None:
        refuse_other(folder, held, record(definition))
    elif folder.is_dir() and not holds_nothing(folder):
        raise ValueError(f"out {str(folder)!r} holds files of something else: give another --out")
    return held is not None


def record(definition: dict[str, Any]) -> dict[str, Any]:
    """What `config.json` holds: what fixes the numbers, this project's version, and those of the libraries."""
    return json.loads(json.dumps({"version": package_version(), **definition, "made_with": versions()}))


def held_record(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a folder, None if it has none; raises `ValueError` for one that is not this project's."""
    try:
        held = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"out {str(folder)!r} has a config.json that cannot be read: give another --out") from error
    if not isinstance(held, dict):
        raise ValueError(f"out {str(folder)!r} has a config.json that is not this project's: give another --out")
    return held


def refuse_other(folder: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `ValueError`, naming the first key in which a record that `folder` holds differs from what is wanted.

    The versions of libraries may differ.
    """
    for key in {**wanted, **held}:
        if key != "made_with" and held.get(key) != wanted.get(key):
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


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file, or a folder that is not there yet: it is there whole or not at all, and no link is followed.

    `write` gets a path of the same name in a private folder.
    """
    with private_folder(path.parent, path.name) as stage:
        write(stage / path.name)
        _to_disk(stage)
        (stage / path.name).replace(path)
    _to_disk(path.parent, deep=False)


def write_together(folder: Path, write: Callable[[Path], Any], replacing: Iterable[str] = ()) -> list[Path]:
    """Write several files into `folder`, all or none of them also after a kill; their paths.

    `write` gets a private folder. Files that match a pattern in `replacing` are gone afterwards, unless they are new.
    It is for use within `working_in`, which finishes what a killed run had yet to move.

    Raises:
        ValueError: `folder` holds a folder where a file should go.
    """
    former = [path for pattern in replacing for path in folder.glob(pattern)]
    for path in former:
        if path.is_dir():
            raise ValueError(f"out {str(folder)!r} holds a folder {path.name!r} where a file goes: move it away")
    with private_folder(folder, "all") as stage:
        write(stage)
        _to_disk(stage)
        names = sorted(path.name for path in stage.iterdir())
        stage.rename(folder / _WHOLE)
    for path in former:
        if path.name not in names:
            path.unlink(missing_ok=True)
    _move_together(folder)
    return [folder / name for name in names]


def _move_together(folder: Path) -> None:
    if (folder / _WHOLE).is_dir():
        for path in (folder / _WHOLE).iterdir():
            path.replace(folder / path.name)
        _to_disk(folder, deep=False)
        (folder / _WHOLE).rmdir()


@contextmanager
def private_folder(folder: Path, name: str) -> Iterator[Path]:
    """A new folder in `folder` that nobody else can know of, so that no link can lie in wait there.

    It is removed in any case; after a kill, by the next process that is `working_in` the folder.
    """
    # Absolute: pandas takes a folder that is called `~` for one's home.
    stage = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=folder.absolute()))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _to_disk(folder: Path, deep: bool = True) -> None:
    """Have everything in a folder on the disk, so that a rename cannot be there before it."""
    for path in (folder, *(folder.rglob("*") if deep else ())):
        if path.is_dir() or path.is_file():
            opened = os.open(path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def write_json(path: Path, data: Any) -> None:
    """Write JSON-ready data, whole or not at all; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def package_version() -> str:
    """This project's version, or "not installed"."""
    try:
        return version("intuitive-fine-tuning")
    except PackageNotFoundError:
        return "not installed"


def versions(packages: tuple[str, ...] = ("torch", "numpy", "scipy", "gymnasium", "pandas")) -> dict[str, str]:
    """The installed versions of packages, by name."""
    return {name: version(name) for name in packages}
