"""Folders of results: files written whole or not at all, one note of what they are of, and who may write there."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile


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
            write_json(folder / "config.json", {**wanted, "made_with": versions()})
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


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, then give it its own: it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    part.replace(path)


def write_json(path: Path, data: Any) -> None:
    """Write JSON-ready data, whole or not at all; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda part: part.write_text(text))


def package_version() -> str:
    """This project's version, or "not installed"."""
    try:
        return version("intuitive-fine-tuning")
    except PackageNotFoundError:
        return "not installed"


def versions(packages: tuple[str, ...] = ("torch", "numpy", "gymnasium", "pandas")) -> dict[str, str]:
    """The installed versions of packages, by name."""
    return {name: version(name) for name in packages}
