"""What a run reads of this machine: held by its content, and never removed by the run itself."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from common.weights import files_of_model
from lm.train import models
from lm.train.data import Source
from lm.train.settings import TrainSettings

_READ_WHOLE = 2**28  # bytes of a file; of a longer one its blocks count
_BLOCK, _BLOCKS = 2**20, 64


def refuse_removal(settings: TrainSettings, removed: Iterable[Path]) -> None:
    """Raise `ValueError` where a file or a folder that the settings name lies in what is to be `removed`."""
    places = [path.resolve() for path in removed]
    for option, name in _inputs(settings):
        place = Path(name).expanduser().resolve()
        for path in places:
            if place == path or path in place.parents:
                raise ValueError(
                    f"overwrite would remove {str(path)!r}, which {option} {name[:200]!r} needs: take another "
                    "output_dir"
                )


def _inputs(settings: TrainSettings) -> list[tuple[str, str]]:
    """The option and the name of all that is there as a file or a folder."""
    named = [("model", settings.model), ("chat_template", settings.chat_template)]
    named += [("first_predictions", settings.first_predictions)]
    for option in ("dataset", "eval_dataset"):
        named += [(option, name) for text in getattr(settings, option) for name in (text, Source.of(text).name)]
    if Path(settings.model).is_dir():
        named.append(("the adapter's base", models.base_of(settings.model)))
    return [(option, name) for option, name in named if Path(name).expanduser().exists()]


def digest_of_model(name: str) -> str | None:
    """A SHA-256 of a model's folder, with the base of an adapter; None of what is no folder.

    Of files above 256 MiB their size and 64 blocks of 1 MiB count, spread evenly: another training changes them all.
    """
    if not Path(name).is_dir():
        return None
    digest = hashlib.sha256()
    for file in files_of_model(Path(name)):
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        digest.update(_digest_of(file))
    return digest.hexdigest()[:16]


def _digest_of(file: Path) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= _READ_WHOLE:
            return hashlib.file_digest(opened, "sha256").digest()
        digest = hashlib.sha256()
        for block in range(_BLOCKS):
            opened.seek((size - _BLOCK) * block // (_BLOCKS - 1))
            digest.update(opened.read(_BLOCK))
    return digest.digest()
