"""A task file as `--suite local` takes it: checked before a question is asked, with none of its functions run."""

import re
from collections import deque
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api import metrics as _metrics  # noqa: F401  (fills the registry)
from lm_eval.api.registry import metric_registry

from common import models
from common.rows import format_of, rows_of

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")  # it becomes a part of file names
_FUNCTION = re.compile(r"([\w-]+)\.\w+")
_LONGEST_ANSWER = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class _Function(str):
    """The name of a function, as it stands in the file."""

    __slots__ = ()


def task_in(file: Path) -> str:
    """The name of the task that a file of the harness describes.

    Raises:
        ValueError: no such file, no YAML, a field is missing or of another type, or it names a function or a score
            that is neither the harness's nor in a Python file beside it.
    """
    config = _read(file, file.resolve().parent, ())
    needed: dict[str, tuple[str, ...]] = {
        "task": ("task",),
        "dataset_path or custom_dataset": ("dataset_path", "custom_dataset"),
        "output_type": ("output_type",),
        "doc_to_text": ("doc_to_text",),
        "doc_to_target": ("doc_to_target",),
        "test_split or validation_split": ("test_split", "validation_split"),
    }
    if config.get("output_type") == "multiple_choice":
        needed["doc_to_choice"] = ("doc_to_choice",)
    missing = [words for words, names in needed.items() if not any(config.get(name) is not None for name in names)]
    if missing:
        raise ValueError(f"task {str(file)!r} lacks {', '.join(missing)}")
    problem = _problem(config) or _problem_of_answers(config.get("generation_kwargs"))
    if problem:
        raise ValueError(f"task {str(file)!r}: {problem}")
    _require_rows(file, config)
    return str(config["task"])


def _require_rows(file: Path, config: dict[str, Any]) -> None:
    """Raise `ValueError` for local files of questions that hold something else: on `null` Arrow's reader crashes."""
    options = config.get("dataset_kwargs")
    if config.get("dataset_path") != "json" or not isinstance(options, dict) or "field" in options:
        return
    named = options.get("data_files")
    for names in named.values() if isinstance(named, dict) else [named]:
        for name in names if isinstance(names, list) else [names]:
            if isinstance(name, str) and Path(name).is_file() and format_of(name) in (".json", ".jsonl"):
                try:
                    deque(rows_of(Path(name)), maxlen=0)
                except ValueError as error:
                    raise ValueError(f"task {str(file)!r}: {name!r}: {error}") from error


def _problem(config: dict[str, Any]) -> str | None:
    """What is wrong with a task's fields."""
    name, examples, scores = config["task"], config.get("num_fewshot"), config.get("metric_list")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"its name must be letters, digits, '_', '-' and '.', at most 100, got task: {name!r}"
    if "group" in config:
        return f"it must describe one task, and no group; take out group: {config['group']!r}"
    if not isinstance(config["doc_to_text"], str):
        return f"doc_to_text must be text or a function, got {config['doc_to_text']!r}"
    if examples is not None and (not _is_number(examples, int) or examples < 0):
        return f"num_fewshot must be a whole number of 0 or more, got {examples!r}"
    if scores is None:
        return None
    if not isinstance(scores, list) or not all(isinstance(score, dict) for score in scores):
        return f"metric_list must be a list of mappings with metric, got {scores!r}"
    for score in scores if config.get("process_results") is None else ():
        metric = score.get("metric")
        ours = isinstance(metric, _Function) or (isinstance(metric, str) and metric in metric_registry)
        if not ours or score.get("hf_evaluate"):  # else the harness would load a script of that name, and run it
            return f"metric must be a score of the harness or a function in a Python file beside it, got {metric!r}"
    return None


def _problem_of_answers(options: Any) -> str | None:
    """What is wrong with `generation_kwargs`."""
    if options is None:
        return None
    if not isinstance(options, dict):
        return f"generation_kwargs must be a mapping, got {options!r}"
    for name in _LONGEST_ANSWER:
        longest = options.get(name, 1)
        if not _is_number(longest, int) or longest < 1:
            return f"{name} must be a whole number of at least 1, got {longest!r}"
    until, temperature = options.get("until", ""), options.get("temperature", 0)
    if not all(isinstance(text, str) for text in (until if isinstance(until, list) else [until])):
        return f"until must be text or a list of texts, got {until!r}"
    if not _is_number(temperature, int | float):
        return f"temperature must be a number, got {temperature!r}"
    return None


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _read(file: Path, folder: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    """The fields of a file with those that it includes; functions have to lie in `folder`, that of the task's file."""

    class Loader(yaml.SafeLoader):
        """Functions stay names here: nothing of the file is run to see what it holds."""

    Loader.add_constructor("!function", lambda loader, node: _function(file, folder, node.value))
    try:
        config = yaml.load(file.read_text(encoding="utf-8"), Loader)  # a safe loader
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"task {str(file)!r} cannot be read ({models.reason(error)})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"task {str(file)!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"task {str(file)!r} holds no fields: see lm/tasks/gsm8k_files for one")
    fields: dict[str, Any] = {}
    for included in _included(file, config.get("include")):
        if included.resolve() in (*within, file.resolve()):
            raise ValueError(f"task {str(file)!r} includes itself (include: {included.name}): take that out")
        fields |= _read(included, folder, (*within, file.resolve()))
    return fields | config


def _included(file: Path, names: Any) -> list[Path]:
    listed = names if isinstance(names, list) else [] if names is None else [names]
    if not all(isinstance(name, str) and name for name in listed):
        raise ValueError(f"task {str(file)!r}: include must be the name of a file, or a list of names, got {names!r}")
    return [file.resolve().parent / name for name in listed]


def _function(file: Path, folder: Path, name: Any) -> _Function:
    """A function's name, if it is one of a Python file in the task file's folder; the harness would import any."""
    words = _FUNCTION.fullmatch(name) if isinstance(name, str) else None
    if words is None or file.resolve().parent != folder or not (folder / f"{words[1]}.py").is_file():
        raise ValueError(
            f"task {str(file)!r}: !function must be NAME.FUNCTION with NAME.py in the task file's folder, got {name!r}"
        )
    return _Function(name)
