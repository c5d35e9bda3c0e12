"""What training really takes beside what `--dry-run` estimates: `python -m bench.scaling [--size 7B] [--json FILE]`.

A model of that size with random weights trains on sequences of random words by `python -m lm.train`, each method in a
process of its own. Memory is the most that the process (on a GPU: the device) held; TFLOP/s are the reckoned FLOPs over
the measured time.
"""

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from common.command import main
from lm.scaling import MODELS, RECIPES
from lm.train.estimate import estimate, without_weights
from lm.train.settings import TrainSettings

SIZES: dict[str, Callable[[], Any]] = {
    "tiny": lambda: LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=1024,
        tie_word_embeddings=True,
    ),
    "135M": lambda: LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    ),
    **MODELS,
}  # fmt: skip
_WORDS = 1000


@dataclass(frozen=True)
class Options:
    """What to train, and how much of it."""

    size: Literal["tiny", "135M", "7B", "13B"] = "135M"
    """Take the shapes of SmolLM2, Mistral or Llama 2. With all weights in float32, 7B wants 116 GB of GPU memory. tiny
    only tries the command."""
    methods: tuple[str, ...] = tuple(RECIPES)
    """The methods to train by."""
    lora_r: int = 0
    """Give the adapters this rank; 0 trains all weights."""
    load_in_4bit: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep the frozen weights in 4 bits (QLoRA; needs bitsandbytes)."""
    processes: int = 1
    """Train on this many devices, one process each, by torchrun."""
    length: int = 1024
    """Make sequences of this many tokens, half of them prompt."""
    at_a_time: int = 2
    """Let the device hold this many sequences (or pairs) at once."""
    batch_size: int = 4
    """Take this many sequences (or pairs) for an update."""
    updates: int = 6
    """Train for this many updates; the first two are not timed."""
    json: Path | None = None
    """Write the numbers to this file."""


def measure(method: str, model: Path, data: Path, options: Options) -> dict[str, float]:
    """One method's training: reckoned and measured."""
    name, changed = RECIPES[method]
    settings = TrainSettings(
        method=name, model=str(model), dataset=(str(data),), max_length=options.length, num_train_epochs=1e3,
        max_prompt_length=options.length // 2, batch_size=options.batch_size, chat_template="none",
        per_device_train_batch_size=options.at_a_time, max_steps=options.updates, optim="rmsprop",
        gradient_checkpointing=True, lora_r=options.lora_r, load_in_4bit=options.load_in_4bit, logging_steps=1,
        save_steps=10**6, **changed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        asked = {key: value for key, value in vars(replace(settings, output_dir=f"{folder}/out")).items()
                 if value != getattr(TrainSettings(), key)}  # fmt: skip
        words = [word for key, value in asked.items() for word in _argument(key, value)]
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.processes}"]
        launch = [sys.executable, *(several if options.processes > 1 else []), "-m", "lm.train"]
        subprocess.run([*launch, *words], check=True, stdout=subprocess.DEVNULL)
        rows = [
            json.loads(line) for line in (Path(folder) / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        ]
    timed = [row["seconds_per_update"] for row in rows if row.get("step", 0) > 2 and "seconds_per_update" in row]
    config = SIZES[options.size]()
    reckoned = estimate(
        settings, without_weights(config, False), len(rows), bytes_per_weight=2 if options.lora_r else 4
    )
    seconds = float(np.median(timed))
    return {
        "reckoned_gigabytes": reckoned.replicated / 1e9,
        "measured_gigabytes": max(row.get("peak_gigabytes", 0.0) for row in rows),
        "seconds_per_update": seconds,
        "tokens_per_second": reckoned.tokens_per_update / seconds,
        "tflops": reckoned.flops_per_token * reckoned.tokens_per_update / seconds / 1e12,
    }


def _argument(key: str, value: Any) -> list[str]:
    flag = f"--{key.replace('_', '-')}"
    if value is True:
        return [flag]
    return [flag, *map(str, value)] if isinstance(value, tuple) else [flag, str(value)]


def write_model(size: str, folder: Path) -> None:
    """Random weights and a tokenizer of a thousand words."""
    words = {f"w{i}": i for i in range(_WORDS)} | {"<eos>": _WORDS, "<pad>": _WORDS + 1}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(SIZES[size](), dtype=torch.bfloat16).save_pretrained(folder)
    gc.collect()
    torch.cuda.empty_cache()  # else this process holds on to what those of the trainings need


def write_data(file: Path, options: Options) -> None:
    """Pairs of random answers to random prompts, of full length, for two updates: what is timed is a later epoch."""
    generator = np.random.default_rng(0)
    half = options.length // 2
    rows = []
    for _ in range(2 * options.batch_size):
        prompt, chosen, rejected = (" ".join(f"w{i}" for i in generator.integers(_WORDS, size=half)) for _ in range(3))
        rows.append(json.dumps({"prompt": f"{prompt} ", "chosen": chosen, "rejected": rejected}))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")


def bench_scaling() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.scaling", description=__doc__)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / "model", Path(folder) / "data.jsonl"
        write_model(options.size, model)
        write_data(data, options)
        costs = {}
        for method in options.methods:
            costs[method] = measure(method, model, data, options)
            print(method, costs[method], flush=True)
    kind = f"LoRA {options.lora_r}" if options.lora_r else "all weights"
    title = f"{options.size}, {kind}, {options.at_a_time} × {options.length} tokens at a time, {device}"
    table = Table("method", *(name.replace("_", " ") for name in next(iter(costs.values()))),
                  title=title)  # fmt: skip
    for method, numbers in costs.items():
        table.add_row(method, *(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in numbers.values()))
    Console().print(table)
    if options.json is not None:
        asked = {name: value for name, value in vars(options).items() if name != "json"}
        options.json.write_text(
            json.dumps({"device": device, **asked, "found": costs}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main(bench_scaling)
