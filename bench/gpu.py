"""Language models on one GPU machine, part by part: `python -m bench.gpu [--parts …] [--processes N] [--out FOLDER]`.

Each part runs in a process of its own and ends after ten minutes; its results are FOLDER/PART.json. The page of all
parts that are there, with the card's name, is FOLDER/README.md. A part whose package is missing has a row that says so.
It also runs without a GPU, which tries the command: `--size tiny`.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from bench.report import ROOT
from common.command import main
from common.folders import write_json, write_whole

PARTS = {
    "steps": "A step at 57M beside its peers, `python -m bench.lm`",
    "weights": "Trainings of all weights, `python -m bench.scaling`",
    "lora": "Trainings of LoRA adapters",
    "qlora": "Trainings of LoRA adapters on weights of 4 bits",
    "peers": "A step of the model beside TRL's SFT on the same batch",
    "ift": "Where the time of an IFT step goes",
    "prompt": "IFT with each pass whole, and with the prompt shared by both",
    "launches": "A model so small that the starting of kernels counts",
    "parity": "bfloat16 beside float32",
}
LIMIT_SECONDS = 600
_COLUMNS = ("seconds", "host_seconds", "tokens_per_second", "tflops", "reckoned_gigabytes", "measured_gigabytes",
            "memory_ratio", "ratio", "target")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to measure."""

    parts: tuple[Literal["steps", "weights", "lora", "qlora", "peers", "ift", "prompt", "launches", "parity"], ...] = (
        "steps", "weights", "lora", "qlora", "peers", "ift", "prompt", "launches", "parity",
    )  # fmt: skip
    """The parts to run; others keep what the folder has of them."""
    size: Literal["tiny", "135M", "7B"] = "135M"
    """The model of all parts but steps and launches, with random weights."""
    sequences: int = 2
    """Sequences that the device holds at a time."""
    length: int = 1024
    """Tokens of a sequence, half of them prompt."""
    processes: int = 1
    """Devices that trainings take, one process each; a step is always taken on one."""
    out: Path = Path("results/gpu")
    """Folder for the results."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fewer rounds and methods."""


def run_part(part: str, options: Options, limit: float = LIMIT_SECONDS) -> list[dict[str, Any]]:
    """The rows of a part, measured in a process of its own; one row with a note where it failed or took too long."""
    asked = {name: getattr(options, name) for name in ("size", "sequences", "length", "processes", "quick")}
    command = [sys.executable, "-m", "bench.gpu_parts", part, json.dumps(asked)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return [{"name": part, "note": f"stopped after {limit:g} s"}]
    if done.returncode:
        last = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        return [{"name": part, "note": last[:300]}]
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def page(results: Iterable[dict[str, Any]]) -> str:
    """Markdown with a table a part, in the order of `PARTS`; each says on which card it was measured."""
    lines = ["# Language models on a GPU machine", "", "Made by `python -m bench.gpu`.", ""]
    for result in results:
        rows = result["rows"]
        columns = [name for name in _COLUMNS if any(name in row for row in rows)]
        columns += ["note"] if any("note" in row for row in rows) else []
        lines += [f"## {PARTS[result['part']]}", "", _where(result), ""]
        lines += [
            f"| {' | '.join(['', *(name.replace('_', ' ') for name in columns)])} |",
            "|---" * (len(columns) + 1) + "|",
        ]
        lines += [f"| {' | '.join([row['name'], *(_cell(row.get(name)) for name in columns)])} |" for row in rows]
        lines += [""]
    return "\n".join(lines)


def _where(result: dict[str, Any]) -> str:
    says = [f"{result['card']}, torch {result['torch']}: "]
    if result["part"] not in ("steps", "launches"):
        says += [f"{result['size']}, {result['sequences']} × {result['length']:,} tokens at a time, "]
    if result["processes"] > 1:
        says += [f"{result['processes']} processes, "]
    return "".join([*says, f"{result['took']:.0f} s in all."])


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return "–" if value is None else value.replace("|", "/")
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def bench_gpu() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.gpu", description=__doc__)
    for name in ("sequences", "length", "processes"):
        least = 8 if name == "length" else 1
        if getattr(options, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(options, name)}")
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    asked = {name: getattr(options, name) for name in ("size", "sequences", "length", "processes", "quick")}
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        print(f"{PARTS[part]} …", flush=True)
        begin = time.perf_counter()
        rows = run_part(part, options)
        for row in rows:
            print("  ", row, flush=True)
        where = {"part": part, "card": card, "torch": torch.__version__, "took": time.perf_counter() - begin}
        write_json(options.out / f"{part}.json", where | asked | {"rows": rows})
    found = [options.out / f"{part}.json" for part in PARTS]
    text = page([json.loads(file.read_text(encoding="utf-8")) for file in found if file.exists()])
    write_whole(options.out / "README.md", lambda file: file.write_text(text, encoding="utf-8"))
    print(f"Written to {options.out}")


if __name__ == "__main__":
    main(bench_gpu)
