"""Tasks of lm-evaluation-harness on a model; answers are kept as they come, so that a stopped evaluation goes on."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
import yaml

from lm import models
from toy.store import claim_folder, write_whole

try:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import handle_non_serializable
except ImportError:  # an extra; `evaluate` says so
    lm_eval = None

TASKS = Path(__file__).parents[1] / "tasks"
_SPLITS = ("test_split", "validation_split")


@dataclass(frozen=True)
class Questions:
    """What is asked, and how: everything that the scores depend on beside the model."""

    tasks: dict[str, int | None]
    """Task (or group) of the harness → few-shot examples, None for the task's own number."""
    folder: Path | None = None
    """Where the task files are; the harness's own tasks and this project's if not given."""
    options: tuple[str, ...] = ()
    """NAME=VALUE each, for the functions of a task file (the harness's `metadata`)."""
    limit: int | None = None
    """Questions of each task, its first ones; all if not given."""
    plain: bool = False
    """Ask without the model's chat template."""
    max_new_tokens: int | None = None
    """Longest answer where text is generated; the task's own if not given."""


def evaluate(
    name: str, questions: Questions, out: Path, batch_size: int = 8, log_samples: bool = False
) -> dict[str, Any]:
    """The harness's results of model `name`, from `out` if it has them, else made and kept there.

    `out/results.json` is what the harness itself would write; with `log_samples`, `out/samples_TASK.jsonl` has each
    question with the model's answer and score. The answers are kept as they come: a stopped evaluation goes on.

    Raises:
        ValueError: no harness, a bad task, a model that cannot be loaded, an `out` that holds something else.
    """
    if lm_eval is None:
        raise ValueError("lm-evaluation-harness is missing: pip install -e '.[eval]' -c constraints.txt")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    asked = vars(questions) | {"folder": None if questions.folder is None else questions.folder.name}
    claim_folder(out, {"model": fingerprint(name), "questions": asked})
    if not (out / "results.json").is_file() or (log_samples and not any(out.glob("samples_*.jsonl"))):
        manager = _manager(questions)
        on_gpu = torch.cuda.is_available()
        model, tokenizer = models.load_trained(name, torch.bfloat16 if on_gpu else torch.float32)
        model.eval().to("cuda" if on_gpu else "cpu")
        results = _run(model, tokenizer, manager, questions, out, batch_size)
        results["model_name"] = name
        samples = results.pop("samples")
        if log_samples:
            for task, rows in samples.items():
                lines = [json.dumps(row, default=handle_non_serializable, ensure_ascii=False) for row in rows]
                _write(out / f"samples_{task}.jsonl", "\n".join(lines))
        _write(out / "results.json", json.dumps(results, indent=1, default=handle_non_serializable, ensure_ascii=False))
    return dict(json.loads((out / "results.json").read_text()))


def samples_of(out: Path, task: str) -> list[dict[str, Any]]:
    """The questions of a task with the model's answers, which `evaluate` kept in `out`."""
    return [json.loads(line) for line in (out / f"samples_{task}.jsonl").read_text().splitlines()]


def _write(file: Path, text: str) -> None:
    write_whole(file, lambda path: path.write_text(text + "\n"))


def _run(model: Any, tokenizer: Any, manager: Any, questions: Questions, out: Path, batch_size: int) -> dict[str, Any]:
    templated = tokenizer.chat_template is not None and not questions.plain
    try:
        results = lm_eval.simple_evaluate(
            HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=[_loaded(manager, name, fewshot) for name, fewshot in questions.tasks.items()],
            task_manager=manager,
            apply_chat_template=templated,
            fewshot_as_multiturn=templated,
            limit=questions.limit,
            gen_kwargs=None if questions.max_new_tokens is None else {"max_gen_toks": questions.max_new_tokens},
            use_cache=str(out / "answers"),
        )
    except (jinja2.TemplateError, KeyError, FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"task {', '.join(questions.tasks)}: {type(error).__name__}: {models.reason(error)}"
        ) from error
    return dict(results)


def _loaded(manager: Any, name: str, fewshot: int | None) -> Any:
    """A task or group of the harness, with its examples' number."""
    loaded = manager.load([name])
    for task in loaded["tasks"].values() if fewshot is not None else ():
        task.set_config(key="num_fewshot", value=fewshot)
    return loaded["groups"].get(name) or loaded["tasks"][name]


def _manager(questions: Questions) -> Any:
    """Where the harness looks for tasks; raises `ValueError` if one of those wanted is not there."""
    options = {}
    for option in questions.options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise ValueError(f"task_options must be NAME=VALUE each, got {option!r}")
        options[key] = yaml.safe_load(value)
    manager = TaskManager(
        include_path=str(questions.folder or TASKS), include_defaults=questions.folder is None, metadata=options
    )
    for name in questions.tasks:
        if name not in manager.task_index:
            raise ValueError(f"task {name!r} is not known to lm-evaluation-harness")
    return manager


def task_in(file: Path) -> str:
    """The name of the task that a file of the harness describes.

    Raises:
        ValueError: no such file, no YAML, or a field is missing.
    """
    config = _read(file)
    needed: dict[str, tuple[str, ...]] = {
        "task": ("task",),
        "dataset_path or custom_dataset": ("dataset_path", "custom_dataset"),
        "output_type": ("output_type",),
        "doc_to_text": ("doc_to_text",),
        "doc_to_target": ("doc_to_target",),
        "test_split or validation_split": _SPLITS,
    }
    missing = [words for words, names in needed.items() if not any(config.get(name) is not None for name in names)]
    if missing:
        raise ValueError(f"task {str(file)!r} lacks {', '.join(missing)}")
    return str(config["task"])


def _read(file: Path) -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Functions stay names here: nothing of the file is run to see what it holds."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    try:
        config = yaml.load(file.read_text(), Loader)  # a safe loader
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"task {str(file)!r} cannot be read ({models.reason(error)})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"task {str(file)!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"task {str(file)!r} holds no fields: see lm/tasks/gsm8k_files for one")
    included = config.get("include")
    return (_read(file.parent / included) if included else {}) | config


def fingerprint(name: str) -> str:
    """A model by the end of its name and a SHA-256 of its files (of the Hub: the name alone)."""
    path = Path(name).expanduser()
    if not path.exists():
        return name
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in [*files, *sorted(path.glob("*config.json")), *sorted(path.glob("*.jinja"))]:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"{path.resolve().name} sha256 {digest.hexdigest()[:16]}"
