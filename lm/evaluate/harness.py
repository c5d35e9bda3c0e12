"""Tasks of lm-evaluation-harness on a model; answers are kept as they come; a stopped evaluation continues."""

import contextlib
import functools
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zipfile import BadZipFile

import jinja2
import lm_eval
import torch
import yaml
from datasets.exceptions import DatasetsError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import tasks as harness_tasks
from lm_eval import utils as harness_utils
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from common import models
from common.folders import claim_folder, claimed, read_object, read_rows, reading, working_in, write_whole
from common.weights import files_of_model
from lm.evaluate.answers import Remembering
from lm.evaluate.scores import RESAMPLES, bootstrap_error
from lm.lake import tiny

TASKS = Path(__file__).parents[1] / "tasks"
# Folders of the harness with the tasks of the leaderboard.
_FOLDERS = {"arc_challenge": "arc", "mmlu": "mmlu/default", "truthfulqa_mc2": "truthfulqa", "winogrande": "winogrande",
            "gsm8k": "gsm8k"}  # fmt: skip
# What the harness adds that is of the machine and the hour. Of git it asks the commit of the folder that one is in.
_OF_THIS_RUN = ("date", "pretty_env_info", "git_hash")


def sandboxed(environment: jinja2.Environment) -> jinja2.Environment:
    """A sandbox that renders the same templates as `environment`, and lets none of them reach Python or the system."""
    sandbox = ImmutableSandboxedEnvironment(
        loader=environment.loader,
        undefined=environment.undefined,
        keep_trailing_newline=environment.keep_trailing_newline,
    )
    sandbox.filters |= environment.filters
    return sandbox


harness_utils.env = sandboxed(harness_utils.env)  # a task file's templates are data


@dataclass(frozen=True)
class Questions:
    """What is asked, and how: everything that the scores depend on beside the model."""

    tasks: dict[str, int | None]
    """Task (or group) of the harness → few-shot examples, None for the task's own number."""
    file: Path | None = None
    """The task's file; if not given, tasks are the harness's own and this project's."""
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

    `out/results.json` is what the harness itself would write, `templated` (whether the model was asked with its chat
    template, which some have not), and `cut_contexts`: of each task, the requests that are too long for the model's
    window, which the harness asks without their beginning. With `log_samples`, `out/samples_TASK.jsonl` has each
    question with the model's answer and score. The answers are kept as they come: a stopped evaluation goes on.

    Raises:
        ValueError: a bad task, a model that cannot be loaded, an `out` that holds something else.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with working_in(out):
        return _evaluate(name, questions, out, batch_size, log_samples)


def _evaluate(name: str, questions: Questions, out: Path, batch_size: int, log_samples: bool) -> dict[str, Any]:
    definition = {"model": fingerprint(name), "questions": described(questions)}
    claimed(out, definition)  # a folder that it may not have is refused before anything is asked
    if not _finished(out, log_samples):
        tasks = _load_tasks(questions)
        on_gpu = torch.cuda.is_available()
        model, tokenizer = models.load_trained(tiny.located(name), torch.bfloat16 if on_gpu else torch.float32)
        model.eval().to("cuda" if on_gpu else "cpu")
        begin = functools.partial(claim_folder, out, definition)  # with the first answers: till then all may be bad
        wrapped = Remembering(
            out / "answers.jsonl", begin, pretrained=model, tokenizer=tokenizer, batch_size=batch_size
        )
        _require_room(name, wrapped, tasks, questions.max_new_tokens)
        results = _run(wrapped, tasks, questions)
        begin()
        samples = results.pop("samples")
        templated = _templated(wrapped, questions)
        results |= {"model_name": name, "templated": templated, "cut_contexts": _cut_contexts(wrapped, samples)}
        for task, rows in samples.items() if log_samples else ():
            lines = [json.dumps(row, default=handle_non_serializable) for row in rows]
            _write(out / f"samples_{task}.jsonl", "\n".join(lines))
        _write(out / "results.json", json.dumps(results, indent=1, default=handle_non_serializable))
    return _read_results(out)


def described(questions: Questions) -> dict[str, Any]:
    """What the scores depend on, with files by their content, JSON-ready."""
    options, values = {}, _values(questions.options)
    for name, _, text in (option.partition("=") for option in questions.options):
        path = Path(str(values[name])).expanduser()
        options[name] = data_fingerprint(path) if path.exists() else text
    # A task's file calls functions and includes other files, which lie beside it.
    beside = questions.file.parent if questions.file else TASKS / "arc_gen"
    files = [path for kind in ("*.yaml", "*.yml", "*.py") for path in sorted(beside.glob(kind))]
    digest = _sha256([questions.file, *files] if questions.file else files)
    file = f"{questions.file.name if questions.file else beside.name} sha256 {digest}"
    return vars(questions) | {"file": file, "options": options, "lm_eval": version("lm_eval")}


def _values(options: tuple[str, ...]) -> dict[str, Any]:
    """The options of a task's functions by name, their values read as YAML, so that a number is one."""
    values = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise ValueError(f"task_options must be NAME=VALUE each, got {option!r}")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"task_options {option!r}: its value is no YAML, quote it: {name}='\"{value}\"'"
            ) from error
    return values


def _finished(out: Path, log_samples: bool) -> bool:
    """Whether all is there: of a first run without samples and a second with them, a stop may have left a part."""
    if not (out / "results.json").is_file():
        return False
    tasks = _read_results(out)["configs"]
    return not log_samples or all((out / f"samples_{task}.jsonl").is_file() for task in tasks)


def _read_results(out: Path) -> dict[str, Any]:
    with reading(out / "results.json"):
        results = read_object(out / "results.json")
        if not all(isinstance(results[name], dict) for name in ("results", "configs", "cut_contexts")):
            raise TypeError("not what was written")
        return results


def samples_of(out: Path, task: str) -> list[dict[str, Any]]:
    """The questions of a task with the model's answers, which `evaluate` kept in `out`."""
    return read_rows(out / f"samples_{task}.jsonl")


def _write(file: Path, text: str) -> None:
    write_whole(file, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def _templated(wrapped: Any, questions: Questions) -> bool:
    return wrapped.tokenizer.chat_template is not None and not questions.plain


def _run(wrapped: Any, tasks: list[Any], questions: Questions) -> dict[str, Any]:
    templated = _templated(wrapped, questions)
    # Outside a checkout git would complain on stderr.
    with (
        _one_line(questions),
        patch("lm_eval.evaluator.get_git_commit_hash", return_value=None),
        patch("lm_eval.api.metrics.bootstrap_stderr", bootstrap_error),
    ):
        results = lm_eval.simple_evaluate(
            wrapped,
            tasks=tasks,
            task_manager=TaskManager(include_defaults=False),
            apply_chat_template=templated,
            fewshot_as_multiturn=templated,
            limit=questions.limit,
            bootstrap_iters=RESAMPLES,
            gen_kwargs=None if questions.max_new_tokens is None else {"max_gen_toks": questions.max_new_tokens},
        )
    for config in results["configs"].values():
        (config.get("metadata") or {}).pop("config_source", None)  # a path on this machine
    return {name: part for name, part in results.items() if name not in _OF_THIS_RUN}


def _cut_contexts(wrapped: Any, samples: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    cut: dict[str, int] = {}
    for task, rows in samples.items():
        requests = [request for row in rows if row["filter"] == rows[0]["filter"] for request in row["arguments"]]
        for context, rest in (request for request in requests if len(request) == 2):  # one: windows that roll
            if isinstance(rest, dict):  # how to generate
                text, room = context, wrapped.max_length - rest.get("max_gen_toks", wrapped.max_gen_toks)
            else:  # how it goes on; the last token is predicted, not read
                text, room = context + rest, wrapped.max_length + 1
            # A token is a byte at least: what is short enough need not be taken apart.
            if len(text.encode()) > room and len(wrapped.tok_encode(text)) > room:
                cut[task] = cut.get(task, 0) + 1
    return cut


def _load_tasks(questions: Questions) -> list[Any]:
    """Tasks and groups of the harness, with their examples' number; a file's own one, as others may share its name."""
    file, manager, loaded_tasks = questions.file, _manager(questions), []
    with _one_line(questions):
        for name, fewshot in questions.tasks.items():
            loaded = manager.load([str(file) if file else name])
            for task in loaded["tasks"].values() if fewshot is not None else ():
                task.set_config(key="num_fewshot", value=fewshot)
            for task in loaded["tasks"].values():
                _require_examples(task)
                for ensemble in getattr(task, "_filters", ()):
                    for make in ensemble.filters:  # the harness makes them after all is asked
                        make()
            loaded_tasks.append(loaded["groups"].get(name) or loaded["tasks"][name])
    return loaded_tasks


def _require_examples(task: Any) -> None:
    """Raise `ValueError` where a task has fewer examples than are to come before each question."""
    config: Any = getattr(task, "config", None)
    number, sampler = getattr(config, "num_fewshot", None), getattr(task, "sampler", None)
    if number and sampler is not None:
        own = task.fewshot_cfg.split == config.test_split  # then the question itself is no example of it
        most = max(len(sampler.df) - own, 0)
        if number > most:
            raise ValueError(f"fewshot must be at most {most}, the examples that {task.task_name} has, got {number}")


def _manager(questions: Questions) -> TaskManager:
    """The harness's finder of tasks; it reads all 13,000 of its task files only where these are not where we know."""
    options = _values(questions.options)
    if questions.file:
        return TaskManager(include_defaults=False, metadata=options)
    known = [Path(harness_tasks.__file__).parent / _FOLDERS[name] for name in questions.tasks if name in _FOLDERS]
    manager = TaskManager(include_path=[TASKS, *known], include_defaults=False, metadata=options)
    if set(questions.tasks) <= set(manager.all_tasks):
        return manager
    return TaskManager(include_path=TASKS, metadata=options)


# What fields, templates and functions of a task raise that do not fit its questions. The harness raises
# NotImplementedError where a task wants what it has no code for; nothing is left undone here.
_OF_TASKS = (jinja2.TemplateError, LookupError, ImportError, AttributeError, TypeError, AssertionError, ArithmeticError,
             NotImplementedError, SyntaxError, re.error)  # fmt: skip
_NO_SCRIPTS = "Dataset scripts are no longer supported"


@contextlib.contextmanager
def _one_line(questions: Questions) -> Iterator[None]:
    """What the harness and its data sets raise, as one `ValueError`."""
    try:
        yield
    except (ConnectionError, FileNotFoundError) as error:
        raise ValueError(
            f"the questions of {', '.join(questions.tasks)} could not be fetched ({models.reason(error)}): they come "
            "from the Hub, or from its cache (HF_HOME) once they were fetched"
        ) from error
    except (DatasetsError, BadZipFile, EOFError) as error:
        problem = models.reason(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        raise ValueError(f"the questions of {', '.join(questions.tasks)} cannot be read ({problem})") from error
    except StopIteration as error:  # so ends reading a file without a line
        raise ValueError(f"the questions of {', '.join(questions.tasks)} cannot be read: a file is empty") from error
    except Exception as error:
        # Of its own kind is what the harness raises for some fields, and the data sets' library for scripts.
        if isinstance(error, _OF_TASKS) or type(error) is Exception or str(error).startswith(_NO_SCRIPTS):
            task = repr(str(questions.file)) if questions.file else ", ".join(questions.tasks)
            problem = f"{type(error).__name__}: {models.reason(error)}"
            raise ValueError(f"task {task} cannot be asked ({problem}): look at its file") from error
        raise


def _require_room(name: str, wrapped: Any, tasks: list[Any], max_new_tokens: int | None) -> None:
    """Raise `ValueError` where an answer alone would fill the model's context, or would have no end."""
    if wrapped.tokenizer.eos_token_id is None:
        raise ValueError(f"model {name!r}: its tokenizer has no eos_token: name one in its tokenizer_config.json")
    for task in tasks:
        config: Any = getattr(task, "config", None)  # groups have none: those of the harness generate nothing
        if getattr(config, "output_type", None) != "generate_until":
            continue
        longest = max_new_tokens or (config.generation_kwargs or {}).get("max_gen_toks", wrapped.max_gen_toks)
        if longest >= wrapped.max_length:
            asked = f"got {longest}" if max_new_tokens else f"and {longest} is the task's own"
            raise ValueError(
                f"max_new_tokens must be below the model's context of {wrapped.max_length} tokens, {asked}: give a "
                "smaller --max-new-tokens"
            )


def fingerprint(name: str) -> str:
    """A model by the end of its name and a SHA-256 of its files (of the Hub: the name alone)."""
    path = Path(name).expanduser()
    if not path.exists():
        return name
    return f"{path.resolve().name} sha256 {_sha256(files_of_model(path) if path.is_dir() else [path])}"


def data_fingerprint(path: Path) -> str:
    """A file, or a folder with all in it that is not hidden, by the end of its name and a SHA-256."""
    inside = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
    shown = [path / file for file in inside if not any(part.startswith(".") for part in file.parts)]
    return f"{path.resolve().name} sha256 {_sha256(shown if path.is_dir() else [path])}"


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]
