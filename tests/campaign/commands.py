"""The commands that the campaign runs: each with a small run, its flags from its parser, and what it reads."""

import importlib
import inspect
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

TASK = """task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
test_split: test
generation_kwargs: {max_gen_toks: 4, until: ["."]}
"""
_ANSWER = {"question": "2 plus 3", "answer": "5\n#### 5"}
STUDY = {
    "train": _ANSWER, "test": _ANSWER, "pairs": {"prompt": "2 plus 3", "chosen": "5", "rejected": "6"}
}  # fmt: skip
COSTS = {
    "lake": {name: {"seconds": 0.001} for name in ("sft", "ift", "orpo", "dpo", "ppo")},
    "language": {name: {"seconds": 0.5} for name in ("sft", "ift", "ift lagged", "orpo", "dpo")},
}


@dataclass(frozen=True)
class Command:
    """A command and a run of it that takes seconds.

    Attributes:
        name, module: how the campaign and how Python calls it.
        options: where its parser's type stands (or the function that makes it), `module:name`.
        arguments: of the small run, in a folder that `prepare` has filled.
        reads: files (patterns) that it reads there; those under `out` it has written before.
        made: other commands whose results it reads, as `made/NAME`.
        again: what is added to go on after a stop.
        varying: files (patterns) whose bytes hold times.
        new: what it writes, where it refuses to write it a second time.
        writes: whether it is for the kills, too.
        weight: how often it is drawn; what takes longer is drawn less often.
        seconds: how long a bad input may run, if not as long as any.
    """

    name: str
    module: str
    options: str
    arguments: tuple[str, ...]
    reads: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    varying: tuple[str, ...] = ()
    new: str | None = None
    writes: bool = True
    weight: int = 4
    seconds: float | None = None

    def flags(self) -> list[tuple[str, Any]]:
        """Every flag with its number of values, as the parser knows them."""
        module, name = self.options.split(":")
        kind = getattr(importlib.import_module(module), name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = kind() if inspect.isfunction(kind) else kind
            parser = tyro.extras.get_parser(kind, config=(tyro.conf.OmitArgPrefixes,))
        return [(action.option_strings[0], action.nargs) for action in parser._actions if action.option_strings]


def _small(name: str, module: str, options: str, *arguments: str, weight: int = 1, **more: Any) -> Command:
    """A command that is cut down by `tests.campaign.small`."""
    words = (module, *arguments, "--jobs", "1")
    return Command(name, "tests.campaign.small", f"{options}", words, weight=weight, **more)


_TRAIN_OPTIONS = "lm.train.settings:groups_type"
_MODEL = ("base/*.json", "base/*.safetensors")
_TRAIN = ("--model", "base", "--dataset", "rows.jsonl", "--max-steps", "4", "--save-steps", "1", "--batch-size", "4",
          "--per-device-train-batch-size", "4", "--max-length", "96", "--max-prompt-length", "64",
          "--output-dir", "out")  # fmt: skip
_TRAINED = ("out/log.jsonl", "out/checkpoint-*/trainer_state.json")
_COSTLY = ("out/benchmark.*", "out/runs/costs.json")  # what an update costs is measured
COMMANDS = {
    command.name: command
    for command in (
        Command("toy", "toy.frozenlake", "toy.frozenlake:command_type",
                ("--method", "sft", "ift", "--map", "map.txt", "--seeds", "2", "--steps", "5", "--start-steps", "5",
                 "--width", "8", "--out", "out"), ("map.txt", "out/*.json")),
        Command("compare", "toy.compare", "toy.compare:Options", ("made/toy", "made/toy"),
                ("made/toy/*.json", "made/toy/*.parquet"), made=("toy",), writes=False, weight=2),
        Command("page", "toy.explore", "toy.explore.__main__:Command", ("--no-browser", "--port", "0"),
                writes=False, weight=1, seconds=4),
        Command("replay", "toy.explore", "toy.explore.__main__:Command",
                ("--preset", "ties", "--replay", "replay.html"), weight=1),
        Command("train", "lm.train", _TRAIN_OPTIONS, ("--config", "recipe.yaml", *_TRAIN),
                ("rows.jsonl", "recipe.yaml", *_MODEL), again=("--resume",), varying=_TRAINED),
        Command("lora", "lm.train", _TRAIN_OPTIONS, ("--method", "dpo", *_TRAIN, "--lora-r", "2"),
                ("rows.jsonl", *_MODEL), again=("--resume",), varying=_TRAINED),
        Command("seeds", "lm.train", _TRAIN_OPTIONS,
                ("--config", "recipe.yaml", *_TRAIN, "--max-steps", "2", "--seeds", "1", "2"), ("recipe.yaml",),
                again=("--resume",), varying=tuple(name.replace("/", "/seed-*/", 1) for name in _TRAINED), weight=1),
        Command("resumed", "lm.train", _TRAIN_OPTIONS, ("--config", "recipe.yaml", *_TRAIN, "--resume"),
                ("out/settings.json", "out/log.jsonl", "out/checkpoint-*/*.json", "out/checkpoint-*/*.safetensors",
                 "out/checkpoint-*/*.p*"), writes=False),
        Command("evaluate", "lm.evaluate", "lm.evaluate.options:Options",
                ("--model", "base", "--suite", "local", "--task", "task.yaml", "--out", "out", "--log-samples",
                 "--batch-size", "2"), ("task.yaml", "questions.jsonl", *_MODEL, "out/*")),
        Command("against", "lm.evaluate", "lm.evaluate.options:Options",
                ("--model", "base", "--suite", "local", "--task", "task.yaml", "--out", "out", "--log-samples",
                 "--batch-size", "2", "--against", "made/evaluate"), ("made/evaluate/*",), made=("evaluate",),
                writes=False, weight=2),
        Command("answers", "lm.evaluate", "lm.evaluate.options:Options",
                ("--model", "base", "--suite", "alpaca-eval", "--instructions", "instructions.json", "--out", "out",
                 "--max-new-tokens", "4"), ("instructions.json", "out/*"), weight=2),
        Command("data", "lm.lake", "lm.lake.options:Data", ("data", "--rows", "64", "--out", "out/rows.jsonl")),
        Command("score", "lm.lake", "lm.lake.options:Score",
                ("score", "--model", "base", "--maps", "4", "--out", "out/scores.json"), _MODEL),
        Command("pairs", "lm.pairs", "lm.pairs.options:Options",
                ("--model", "base", "--dataset", "rows.jsonl", "--samples", "2", "--max-new-tokens", "6",
                 "--batch-size", "4", "--out", "out/pairs.jsonl"), ("rows.jsonl", *_MODEL), new="out/pairs.jsonl"),
        Command("merge", "lm.merge", "lm.merge:Options", ("--model", "adapter", "--out", "out/merged"),
                ("adapter/adapter*", *_MODEL), new="out/merged"),
        Command("chat", "lm.chat", "lm.chat:Options", ("--model", "base", "--max-new-tokens", "4"), _MODEL,
                writes=False),
        Command("scaling", "lm.scaling", "lm.scaling:Options", ("--out", "out/scaling.md"), weight=1),
        Command("figures", "figures", "figures.__main__:Options",
                ("paradigms", "tables", "--quick", "--out", "out", "--jobs", "1"),
                ("out/quick/*-runs/*",)),
        _small("lake", "figures", "figures.__main__:Options", "frozen-lake", "--quick", "--out", "out",
               reads=("out/quick/frozen-lake-runs/*",)),
        _small("lengths", "figures", "figures.__main__:Options", "step-length", "--quick", "--out", "out",
               reads=("out/quick/step-length-runs/*/*",)),
        _small("audit", "figures", "figures.__main__:Options", "audit", "--quick", "--out", "out",
               reads=("out/quick/audit-runs/*/*",)),
        _small("benchmark", "toy.benchmark", "figures.benchmark:Options", "--method", "own_method.py:mine", "--quick",
               "--out", "out", reads=("own_method.py", "out/runs/*/*"), varying=_COSTLY),
        _small("parts", "experiments.paper_choices", "experiments.paper_choices:Options", "--out", "out",
               reads=("out/*",)),
        _small("language", "experiments.lake_language", "experiments.lake_language:CommandOptions", "--quick",
               "--out", "out/l", reads=("out/quick/l/*/*",)),
        _small("still", "experiments.better_language", "experiments.better_language:Options", "development",
               "--out", "out/runs", "--tables", "out/tables", reads=("out/runs/*/*",)),
        _small("lagged", "experiments.lagged", "experiments.lagged:CommandOptions", "--quick", "--out", "out/l",
               reads=("out/quick/l/*", "out/quick/l/*/*")),
        _small("optimisers", "experiments.lake_optimisers", "experiments.lake_optimisers:CommandOptions",
               "--out", "out", reads=("out/*/*",)),
        _small("study", "experiments.study", "experiments.study:Options", "--model", "base", "--data", "data",
               "--quick", "--out", "out/s", reads=("data/*.jsonl",),
               varying=("out/quick/s/runs.parquet", "out/quick/s/*/log.jsonl", "out/quick/s/*/trainer_state.json")),
        _small("better", "experiments.better", "experiments.better:Options", "development", "--out", "out/runs",
               "--tables", "out/tables", reads=("out/runs/*/*",)),
        _small("search", "experiments.better_search", "experiments.better_search:Options", "--out", "out/runs",
               "--tables", "out/tables", reads=("out/runs/*",)),
    )
}  # fmt: skip


def prepare(work: Path) -> Path:
    """A folder with all that the small runs read, and a cache with a small model under the name of `tiny-lake`."""
    import pandas as pd
    from peft import LoraConfig, get_peft_model

    from common.models import save_whole
    from lm.lake import make_model, make_tokenizer
    from lm.lake.teacher import examples

    inputs = work / "inputs"
    inputs.mkdir(parents=True)
    model, tokenizer = make_model(make_tokenizer(), 0), make_tokenizer()
    save_whole(model, tokenizer, inputs / "base")
    shutil.copytree(inputs / "base", work / "cache" / "intuitive-fine-tuning" / "tiny-lake-2")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = "base"
    adapted.save_pretrained(inputs / "adapter")
    tokenizer.save_pretrained(inputs / "adapter")
    pd.DataFrame(examples(16, "train", 0)).to_json(inputs / "rows.jsonl", orient="records", lines=True)
    questions = [{"question": f"map {number}", "answer": "left"} for number in range(6)]
    (inputs / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (inputs / "task.yaml").write_text(TASK)
    asked = [{"instruction": f"map {number}", "output": "left", "generator": "right"} for number in range(3)]
    (inputs / "instructions.json").write_text(json.dumps(asked))
    (inputs / "data").mkdir()
    for name, row in STUDY.items():
        (inputs / "data" / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 6)
    shutil.copy(Path(__file__).parents[2] / "examples" / "own_method.py", inputs)
    (inputs / "map.txt").write_text("SFFFF\nFHHHF\nFFFGF\n")
    (inputs / "recipe.yaml").write_text("method: ift\nlearning_rate: 5e-4\nlogging_steps: 1\nlam: 0.2\n")
    return inputs


def in_a_folder(make: Callable[[], Any], folder: Path) -> None:
    """Costs as the bench would have measured them, so that the figures need not wait for it."""
    from common.folders import claim_folder, write_json

    claim_folder(folder, {"bench": "methods", "quick": True})
    write_json(folder / "costs.json", make())
