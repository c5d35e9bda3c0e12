"""The folder of a run: what may be written there, what a resumed run goes on from, what is kept."""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer_utils import rotate_checkpoints

from common.folders import holds_nothing, versions, write_json, write_whole
from common.renamed import with_new_names
from common.weights import require_own_files
from ift import METHODS
from lm.train.command_line import as_yaml
from lm.train.data import Source
from lm.train.inputs import digest_of_model, refuse_removal
from lm.train.settings import TrainSettings
from lm.trainers.names import NEW_NAMES

# What a run leaves in its folder; `overwrite` removes nothing else.
_WRITTEN = (
    "checkpoint-[0-9]*",
    "model",
    "base",
    "log.jsonl",
    "answers.jsonl",
    "settings.json",
    "config.yaml",
    "README.md",
    "nonfinite-loss-*.json",
    "runs/**/events.out.tfevents.*",
)
# Folders of a checkpoint in which FSDP and DeepSpeed keep weights that are split over the devices.
_SHARDED = ("pytorch_model_fsdp_[0-9]*", "global_step[0-9]*")
_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
# What a resumed run may do otherwise than the first.
_FREE = {
    "resume", "overwrite", "dry_run", "devices", "output_dir", "logging_steps", "save_steps", "report_to",
    "eval_answers",
}  # fmt: skip
# The same, but of note: on another number of devices as many sequences an update are other ones a device.
_MAY_CHANGE = {"per_device_train_batch_size"}


def describe(settings: TrainSettings) -> dict[str, Any]:
    """Settings and versions as JSON-ready data, without local paths: files by name and SHA-256."""
    kept = {name: value for name, value in vars(settings).items() if name not in _FREE}
    for name in ("dataset", "eval_dataset"):
        kept[name] = [anonymous(source) for source in kept[name]]
    kept |= {name: value for name, value in settings.numbers.items() if name in kept}  # also those that are defaults
    kept["learning_rate"] = settings.learning_rate_or_default
    for name in ("model", "chat_template", "first_predictions"):
        kept[name] = anonymous(kept[name])
    kept |= METHODS.from_outside([settings.method])
    return {"settings": kept, "versions": versions(_PACKAGES)}


@functools.cache
def anonymous(source: str) -> str:
    """A data set or model without the path to it: a file by name and SHA-256, a run's model as RUN/model."""
    path = Path(source if Path(source).exists() else Source.of(source).name)
    if path.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{source.replace(str(path), path.name)} sha256 {digest[:16]}"
    if not path.is_dir():
        return source
    run = path.resolve().parent.name  # every run calls its model so
    return source.replace(str(path), f"{run}/{path.name}" if path.name == "model" and run else path.name)


def folder_of(settings: TrainSettings) -> Path:
    """Where the run goes: as asked for, or a folder that no other settings share.

    `~` is the home, as transformers has it for checkpoints; where it knows no such user, it stays as it is.
    """
    if settings.output_dir is not None:
        with contextlib.suppress(RuntimeError):
            return Path(settings.output_dir).expanduser()
        return Path(settings.output_dir)
    digest = hashlib.sha256(json.dumps(describe(settings)["settings"]).encode()).hexdigest()[:6]
    return Path("results") / f"lm-{settings.method}-{Path(settings.model).name}-{digest}"


def check(folder: Path, settings: TrainSettings) -> dict[str, Any] | None:
    """The settings of the run that `folder` holds, if any.

    Raises:
        ValueError: another run's folder without `overwrite`, or a resumed run with other settings.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {str(folder)!r} is a file: name a folder")
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(above, os.W_OK):
        raise ValueError(f"output_dir {str(folder)!r} cannot be written: {str(above)!r} does not allow it")
    wanted, held = json.loads(json.dumps(describe(settings)["settings"])), _settings_in(folder / "settings.json")
    if settings.resume and held is not None:
        _refuse_strange(folder)
        other = [name for name in wanted if name not in _MAY_CHANGE and wanted[name] != held.get(name)]
        if other:
            changes = ", ".join(f"{name} was {held.get(name)!r}, is {wanted[name]!r}" for name in other)
            raise ValueError(f"resume: {str(folder)!r} holds a run with other settings ({changes})")
        _refuse_another_model(folder, settings)
    elif folder.is_dir() and not holds_nothing(folder):
        if not settings.overwrite and settings.resume:
            there = "is none of a training" if (folder / "settings.json").exists() else "is not there"
            raise ValueError(
                f"output_dir {str(folder)!r} holds no run to go on from, as its settings.json {there}: name another"
            )
        if not settings.overwrite:
            raise ValueError(f"output_dir {str(folder)!r} holds files already: take --resume, --overwrite or another")
        if held is None:
            raise ValueError(f"output_dir {str(folder)!r} holds no run of ours: nothing is removed, name another")
        refuse_removal(settings, _written_in(folder))
    return held


def _written_in(folder: Path) -> list[Path]:
    return [path for pattern in _WRITTEN for path in folder.glob(pattern)]


def _refuse_strange(folder: Path) -> None:
    """Raise `ValueError` for what stands where a resumed run reads or writes a folder, and is none."""
    for path in _checkpoints(folder):
        if not path.is_dir():
            raise ValueError(
                f"resume: {str(path)!r} is no folder of a checkpoint, but a file or a broken link: remove it"
            )
    model = folder / "model"
    is_other = not model.is_dir() and (model.exists() or model.is_symlink())
    if is_other or (model.is_dir() and any(model.iterdir()) and not _holds_model(model)):
        raise ValueError(f"resume: {str(model)!r} is where the model goes, and holds something else: remove it")


def _holds_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def _refuse_another_model(folder: Path, settings: TrainSettings) -> None:
    """Raise `ValueError` if the model that the run began with is another one now; former runs do not say."""
    began_with = json.loads((folder / "settings.json").read_text(encoding="utf-8")).get("model_sha256")
    if began_with is not None and began_with != digest_of_model(settings.model):
        raise ValueError(
            f"resume: the files of model {settings.model[:200]!r} are not those that the run in {str(folder)!r} began "
            "with: put them back, or take another output_dir"
        )


def prepare(folder: Path, settings: TrainSettings, limit: int | None = None) -> str | None:
    """Make the folder ready; the checkpoint to go on from, if the run resumes and there is one. Raises as `check`.

    `limit` is how many checkpoints the run keeps.
    """
    held = check(folder, settings)
    if settings.resume and held is not None:
        if not (folder / "config.yaml").exists():  # it was stopped just before
            _write_config(folder, settings)
        checkpoint = newest_whole_checkpoint(folder, limit)
        return None if checkpoint is None else str(checkpoint)
    for path in _written_in(folder):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for left in sorted((folder / "runs").rglob("*"), reverse=True):
        with contextlib.suppress(OSError):  # what is not empty holds something else
            left.rmdir()
    write_json(folder / "settings.json", describe(settings) | {"model_sha256": digest_of_model(settings.model)})
    _write_config(folder, settings)
    return None


def _write_config(folder: Path, settings: TrainSettings) -> None:
    text = as_yaml(settings)
    write_whole(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))


def is_finished(folder: Path, settings: TrainSettings) -> bool:
    """Whether a run that is to be resumed has its model already, which is written last; raises as `check`."""
    return check(folder, settings) is not None and settings.resume and _holds_model(folder / "model")


def _settings_in(file: Path) -> dict[str, Any] | None:
    """The settings of the run that wrote `file`; None if no run of ours did."""
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        if "torch" not in described["versions"]:
            return None
        return with_new_names(described["settings"], NEW_NAMES, lambda line: None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def no_half_checkpoint(folder: Path, limit: int | None) -> Iterator[None]:
    """Where a training ends early, also by Ctrl-C or a full disk, leave no half checkpoint, new or old."""
    try:
        yield
    except BaseException:
        for path in _checkpoints(folder)[:1]:
            if not _has_state(path):
                shutil.rmtree(path, ignore_errors=True)
        _rotate(folder, limit)
        raise


def newest_whole_checkpoint(folder: Path, limit: int | None = None) -> Path | None:
    """The last checkpoint whose files are whole; those that a kill cut short are removed, and those beyond `limit`."""
    for path in _checkpoints(folder):
        if _is_whole(path):
            _rotate(folder, limit)
            return path
        shutil.rmtree(path)
    return None


def _rotate(folder: Path, limit: int | None) -> None:
    """Remove the checkpoints beyond the limit, as the trainer does after each new one: a stop may fall into that."""
    for newest in _checkpoints(folder)[:1]:
        if _has_state(newest):
            state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
            rotate_checkpoints(str(folder), limit, state.get("best_model_checkpoint"))


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    numbered = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]{1,18}", path.name)]
    return sorted(numbered, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def _has_state(checkpoint: Path) -> bool:
    """Whether the trainer's state is there, which transformers writes last."""
    try:
        return _is_state(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return False


def _has_parts(checkpoint: Path) -> bool:
    """Whether optimiser, schedule and random numbers are there, which transformers goes on without if they are not.

    FSDP keeps the optimiser in a folder or as optimizer.bin, DeepSpeed in a folder, and there maybe the schedule, too.
    """
    step = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")).get("global_step")
    deepspeed = any(path.is_dir() for path in checkpoint.glob("global_step*"))
    files = [(checkpoint / name).is_file() for name in ("optimizer.pt", "optimizer.bin")]
    optimizer = deepspeed or any(files) or any(path.is_dir() for path in checkpoint.glob("optimizer*"))
    schedule = deepspeed or (checkpoint / "scheduler.pt").is_file()
    of_its_name = step == int(checkpoint.name.removeprefix("checkpoint-"))
    return of_its_name and optimizer and schedule and any(checkpoint.glob("rng_state*.pth"))


def _is_whole(checkpoint: Path) -> bool:
    if not _has_state(checkpoint) or not _has_parts(checkpoint):
        return False
    try:
        for file in checkpoint.rglob("*.json"):
            json.loads(file.read_text(encoding="utf-8"))
        require_own_files(str(checkpoint))
        for file in checkpoint.rglob("*.safetensors"):
            with safe_open(file, "pt") as tensors:  # its header knows how long the file has to be
                tensors.keys()
        for file in (*checkpoint.rglob("*.pt"), *checkpoint.rglob("*.pth")):
            with zipfile.ZipFile(file) as archive:
                if archive.testzip() is not None:
                    return False
    except (OSError, ValueError, RecursionError, SafetensorError, zipfile.BadZipFile):
        return False
    if any(checkpoint.glob("*model*.safetensors")):  # a model's or an adapter's
        return True
    return any(path.is_dir() and any(path.iterdir()) for name in _SHARDED for path in checkpoint.glob(name))


def _is_state(state: Any) -> bool:
    """Whether it is a trainer's state, which transformers takes as it is: each value has the kind of its default."""
    if not isinstance(state, dict):
        return False
    kinds = {name: type(value) for name, value in vars(TrainerState()).items() if value is not None}
    numbers = {int: (int, float), float: (int, float)}
    return all(isinstance(state.get(name, kind()), numbers.get(kind, kind)) for name, kind in kinds.items())


def keep_model(trainer: Any, folder: Path, finish: Callable[[Path], None]) -> Path:
    """Save the trained model and tokenizer as `folder/model`, whole or not at all; every process calls this.

    `finish` adds the card to the folder that it is given. The model's folder gets its name last, so that a run with a
    model is a finished one.
    """
    # Its name is one that `common.folders` removes after a kill; all processes have to know it.
    part, model = folder / ".model.by_train.part", folder / "model"
    if trainer.accelerator.is_main_process and part.exists():
        shutil.rmtree(part)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(part))
    if trainer.accelerator.is_main_process:
        (part / "training_args.bin").unlink(missing_ok=True)  # torch.save of the arguments, with paths of this machine
        if (part / "ref").is_dir():  # the adapter as it was before, which TRL holds beside the trained one
            shutil.rmtree(part / "ref")
        lines = "".join(json.dumps(row) + "\n" for row in trainer.state.log_history)
        write_whole(folder / "log.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
        finish(part)
        if model.exists():
            shutil.rmtree(model)
        part.rename(model)
    trainer.accelerator.wait_for_everyone()
    return model
