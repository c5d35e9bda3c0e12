"""What the recipes need on larger models and more devices: writes docs/scaling.md. Run: `python -m lm.scaling`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import command
from common.folders import write_whole, writing
from lm.train.command_line import read_recipe
from lm.train.settings import TrainSettings

if TYPE_CHECKING:
    from lm.train.estimate import Estimate

_RECIPE_FOLDER = Path(__file__).parent / "recipes"
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "SFT": ("sft", {}),
    "IFT": ("ift", {}),
    "IFT, lagged": ("ift", {"prediction": "lagged"}),
    "DPO": ("dpo", {}),
    "ORPO": ("orpo", {}),
}
# Mistral-7B's shapes, and those that Llama 2 has at 13B and 70B.
MODELS: dict[str, Callable[[], Any]] = {
    "7B": lambda: _config("MistralConfig"),
    "13B": lambda: _config(
        "LlamaConfig",
        hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40, vocab_size=32000,
    ),
    "70B": lambda: _config(
        "LlamaConfig",
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=32000,
    ),
}  # fmt: skip
DEVICES = (1, 8, 64, 512)
_SHARDED = "FSDP2 or ZeRO-3"
DEVICE_BYTES, FILLED = 80 * 2**30, 0.9  # of an A100 or H100, and how much of it may be planned with


_HEAD = """# What the recipes need on larger models and more devices

Written by `python -m lm.scaling` from `lm/recipes/mistral-7b-*.yaml` and the shapes of Mistral-7B and of Llama 2 at 13B
and 70B. FLOPs are checked against torch's counter on a small model, memory against what a training holds there
(`tests/lm/test_scaling.py`) and at 7B on one GPU (`bench/scaling.py`, numbers in `bench/README.md`). Nothing was run
on several GPUs."""
_FLOPS = """Forward, backward (twice as much) and most of the forward pass again for gradient checkpointing; IFT's first
pass, or with lagged predictions that of the first epoch alone; DPO's reference. Attention scores are left out: they
grow with the length and are small at 1,024 tokens."""
_ENGINES = f"""*Engine*: the simplest setup that fits into {FILLED:.0%} of a card of 80 GiB; `lm/recipes/ddp.yaml`,
`fsdp2.yaml` and `zero3.yaml` configure them. Where no setup holds the whole training, the table has LoRA of rank 16 on
the linear layers (`lm/recipes/lora.yaml`), or on 4-bit weights (`qlora.yaml`), with the GiB that a device needs for it,
and the hours are those of LoRA. A device of a sharded training also holds the layer that it works on as a whole. On 512
devices each takes one sequence at a time, so communication weighs most there."""


@dataclass(frozen=True)
class Options:
    """Where the page goes."""

    out: Path = Path("docs/scaling.md")
    """Markdown file."""


def _config(kind: str, **shapes: int) -> Any:
    import transformers

    return getattr(transformers, kind)(**shapes)


def settings_for(method: str, devices: int) -> TrainSettings:
    """The paper's recipe of a method (a key of `RECIPES`), its batch of 512 spread over the devices."""
    name, changed = RECIPES[method]
    settings = read_recipe(_RECIPE_FOLDER / f"mistral-7b-{name}.yaml").settings()
    at_a_time = min(settings.per_device_train_batch_size, settings.batch_size // devices)
    return replace(settings, devices=devices, per_device_train_batch_size=at_a_time, **changed)


def needs(method: str, model: Any, devices: int, **changed: Any) -> Estimate:
    """The estimate of a recipe on a model without weights; trained weights are held in float32, frozen ones halved."""
    from lm.train.data import NAMED, Source
    from lm.train.estimate import estimate

    settings = replace(settings_for(method, devices), **changed)
    rows = sum(source.rows or NAMED[source.name].rows for source in map(Source.of, settings.dataset))
    return estimate(settings, model, rows, bytes_per_weight=2 if settings.lora_r else 4)


def engine(needed: Estimate) -> str:
    """The simplest way to hold it in devices of 80 GiB, or nothing."""
    room = FILLED * DEVICE_BYTES
    if needed.replicated <= room:
        return "one device" if needed.devices == 1 else "DDP"
    return _SHARDED if needed.sharded <= room and needed.devices > 1 else ""


def page() -> str:
    """The page, Markdown."""
    from lm.train.estimate import A100_FLOPS, UTILISATION, without_weights

    models = {size: without_weights(config(), trust_remote_code=False) for size, config in MODELS.items()}
    first = settings_for("IFT", 1)
    flops = [
        (name, *(f"{needs(name, model, 1).flops_per_token / 1e9:,.0f} G" for model in models.values()))
        for name in RECIPES
    ]
    lines = [
        _HEAD,
        f"Updates of {first.batch_size} sequences (pairs for DPO and ORPO) of {first.max_length} tokens at most, "
        f"{first.num_train_epochs:g} epochs, {first.optim}, gradient checkpointing, weights in float32 and arithmetic "
        f"in bfloat16. Hours take every sequence at its longest and {UTILISATION:.0%} of the "
        f"{A100_FLOPS / 1e12:.0f} TFLOP/s of an A100, and no communication. An H100 is about three times as fast.",
        "## FLOPs of a token's training",
        _table(("method", *models), flops),
        _FLOPS,
    ]
    header = ("method", "devices", "GiB each, whole (DDP)", "GiB each, sharded", "engine", "updates", "hours")
    for size, model in models.items():
        rows = [_row(name, model, devices) for name in RECIPES for devices in DEVICES]
        lines += [f"## {size}", _table(header, rows)]
    return "\n\n".join([*lines, _ENGINES]) + "\n"


def _row(method: str, model: Any, devices: int) -> tuple[str, ...]:
    whole = cheapest = needs(method, model, devices)
    means = engine(whole)
    if not means:
        for name, changed in (("LoRA", {"lora_r": 16}), ("QLoRA", {"lora_r": 16, "load_in_4bit": True})):
            smaller = needs(method, model, devices, **changed)
            if engine(smaller):
                each = smaller.sharded if engine(smaller) == _SHARDED else smaller.replicated
                means, cheapest = f"{name}, {engine(smaller)} ({each / 2**30:,.0f} GiB)", smaller
                break
    replicated, sharded = (f"{part / 2**30:,.0f}" for part in (whole.replicated, whole.sharded))
    return (method, f"{devices}", replicated, sharded if devices > 1 else "–", means or "none", f"{whole.updates:,}",
            f"{cheapest.a100_hours:,.1f}")  # fmt: skip


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def run() -> None:
    """Parse, then reckon and write the page."""
    options = command.parse(Options, "python -m lm.scaling", __doc__)
    command.quieten()
    with writing(options.out):
        text = page()
        write_whole(options.out, lambda path: path.write_text(text, encoding="utf-8"))
    print(f"Written to {options.out}")


def main() -> None:
    """The command."""
    command.main(run, "interrupted: nothing was written")


if __name__ == "__main__":
    main()
