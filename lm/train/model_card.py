"""A trained model's card: what it is, what it learned from, how the training went, how to load it."""

import json
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

_LOAD = {
    False: "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
    True: "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
    'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")  # `python -m lm.merge` makes a whole model of it\n'
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
}
_COLUMNS = (
    "use", "data sets", "rows", "tokens", "answer tokens", "prompts cut", "answers cut", "SHA-256 of the tokens"
)  # fmt: skip


def write_card(
    folder: Path, described: dict[str, Any], data: dict[str, Any], log: list[dict[str, Any]], held_out: list[float]
) -> None:
    """Write `README.md` and `loss.png` into a model's folder.

    `described` is `lm.train.run_folder.describe` of the run, `data` the counts by use (train, held out), `log` the
    trainer's rows, `held_out` the loss on held-out data before and after, what there is of it.
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
    head = {"base_model": settings["model"], "library_name": "peft" if settings["lora_r"] else "transformers",
            "pipeline_tag": "text-generation", "tags": ["intuitive-fine-tuning", settings["method"]]}  # fmt: skip
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {settings['model']}, fine-tuned with {settings['method'].upper()}",
        "Made by `python -m lm.train` of Intuitive Fine-Tuning.",
        f"## Data\n\n{_table(_COLUMNS, data)}",
        "## Training\n\n![training loss](loss.png)" if losses else "## Training",
        f"Loss at update {losses[0][0]}: {losses[0][1]:.4f}, at update {losses[-1][0]}: {losses[-1][1]:.4f}."
        if losses
        else "",
        f"Loss on the held-out data: {' before, '.join(f'{loss:.4f}' for loss in held_out)} after." if held_out else "",
        f"## Settings\n\n```yaml\n{yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False)}```",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
        f"## Loading\n\n```python\n{_LOAD[bool(settings['lora_r'])]}\n```",
        "`python -m lm.chat --model FOLDER` talks to it.",
    ]
    (folder / "README.md").write_text("\n\n".join(line for line in lines if line) + "\n")


def _table(header: tuple[str, ...], data: dict[str, Any]) -> str:
    rows = [
        (
            use,
            ", ".join(counts["sources"]),
            *(f"{counts[name]:,}" for name in ("kept", "tokens", "answer_tokens", "prompts_cut", "answers_cut")),
            f"`{counts['sha256'][:16]}`",
        )
        for use, counts in data.items()
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (header, *rows)]
    return "\n".join((lines[0], "|---" * len(header) + "|", *lines[1:]))
