"""A trained model's card: what it is, what it learned from, how the training went, how to load it."""

import html
import json
import re
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from common.folders import write_whole

_WHOLE = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")"""
_ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")  # `python -m lm.merge` makes a whole model of it
tokenizer = AutoTokenizer.from_pretrained("FOLDER")"""
# PEFT alone cannot find a base inside a .gguf file.
_ADAPTER_ON_GGUF = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("FOLDER_OF_THE_BASE", gguf_file={name!r})
model = PeftModel.from_pretrained(base, "FOLDER")  # `python -m lm.merge` makes a whole model of it
tokenizer = AutoTokenizer.from_pretrained("FOLDER")"""
_COLUMNS = (
    "use", "data sets", "rows", "tokens", "answer tokens", "prompts cut", "answers cut", "SHA-256 of the tokens"
)  # fmt: skip

_RUN = """## In this folder

`model/` is what is described here, `log.jsonl` has the losses by update, `config.yaml` every option, which
`python -m lm.train --config config.yaml` takes back, and `checkpoint-*/` what `--resume` goes on from.
"""


def write_card(
    folder: Path,
    described: dict[str, Any],
    base: str,
    data: dict[str, Any],
    log: list[dict[str, Any]],
    held_out: list[float],
) -> None:
    """Write `README.md` and `loss.png` into a model's folder.

    `described` is `lm.train.run_folder.describe` of the run, `base` the whole model that an adapter stands on, `data`
    the counts by use (train, held out), `log` the trainer's rows, `held_out` the loss on held-out data before and
    after, what there is of it.
    """
    settings, versions = described["settings"], described["versions"]
    losses = [(row["step"], row["loss"]) for row in log if "loss" in row]
    if losses:
        figure = Figure(figsize=(5, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*losses, strict=True), marker="." if len(losses) < 40 else "")
        axes.set_xlabel("update")
        axes.set_ylabel("training loss")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / "loss.png", dpi=150)
    head = {"base_model": base, "library_name": "peft" if settings["lora_r"] else "transformers",
            "pipeline_tag": "text-generation", "tags": ["intuitive-fine-tuning", settings["method"]]}  # fmt: skip
    listed = yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False).replace("```", "'''")
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {_plain(settings['model'])}, fine-tuned with {settings['method'].upper()}",
        "Made by `python -m lm.train` of Intuitive Fine-Tuning.",
        f"## Data\n\n{_table(_COLUMNS, data)}",
        *(_left_out(use, counts) for use, counts in data.items()),
        "## Training\n\n![training loss](loss.png)" if losses else "## Training",
        f"Loss at update {losses[0][0]}: {losses[0][1]:.4f}, at update {losses[-1][0]}: {losses[-1][1]:.4f}."
        if losses
        else "",
        f"Loss on the held-out data: {' before, '.join(f'{loss:.4f}' for loss in held_out)} after." if held_out else "",
        f"## Settings\n\n```yaml\n{listed}```",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        f"## Loading\n\n```python\n{_loading(base, settings['lora_r'])}\n```",
        "`python -m lm.chat --model FOLDER` talks to it.",
    ]
    (folder / "README.md").write_text("\n\n".join(line for line in lines if line) + "\n", encoding="utf-8")


def write_run_card(folder: Path, model: Path) -> None:
    """The card of a run's folder: that of its model, with what else is there. `model` has the card already."""
    card = (model / "README.md").read_text(encoding="utf-8").replace("](loss.png)", "](model/loss.png)")
    text = f"{card.replace('FOLDER', 'model').replace('model_OF_THE_BASE', 'FOLDER_OF_THE_BASE')}\n{_RUN}"
    write_whole(folder / "README.md", lambda path: path.write_text(text, encoding="utf-8"))


def _loading(base: str, adapter: int) -> str:
    """Python that loads the model."""
    if not adapter:
        return _WHOLE
    name = base.split(" sha256 ")[0]
    return _ADAPTER_ON_GGUF.format(name=name) if name.endswith(".gguf") else _ADAPTER


def _plain(text: str) -> str:
    """Text of somebody else as Markdown shows it: no tags, no cells, no markup."""
    escaped = html.escape(text, quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(escaped.split()))


def _left_out(use: str, counts: dict[str, Any]) -> str:
    """A sentence on the rows that were dropped, if there are any."""
    parts = [f"{counts['dropped']:,} without prompt or answer"] * bool(counts["dropped"])
    parts += [f"{counts['alike']:,} whose chosen and rejected answers are the same"] * bool(counts["alike"])
    return f"Rows left out ({use}): {' and '.join(parts)}." if parts else ""


def _table(header: tuple[str, ...], data: dict[str, Any]) -> str:
    rows = [
        (
            use,
            ", ".join(map(_plain, counts["sources"])),
            *(f"{counts[name]:,}" for name in ("kept", "tokens", "answer_tokens", "prompts_cut", "answers_cut")),
            f"`{counts['sha256'][:16]}`",
        )
        for use, counts in data.items()
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join((lines[0], "|---" * len(header) + "|", *lines[1:]))
