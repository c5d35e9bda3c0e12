"""What `python -m lm.train --dry-run` prints: what a run would need."""

from rich.console import Console
from rich.markup import escape

from ift import METHODS
from lm.lake import KINDS
from lm.train import data
from lm.train.acting import idle_options
from lm.train.estimate import A100_FLOPS, UTILISATION, accumulation, estimate, without_weights
from lm.train.models import load_config
from lm.train.settings import TrainSettings


def show_estimate(settings: TrainSettings, console: Console) -> None:
    """Print size, tokens per update, memory and time; raises `ValueError` where they cannot be known."""
    accumulation(settings, settings.devices)
    for sentence in idle_options(settings):
        console.print(f"[yellow]note[/yellow] {escape(sentence)}")
    config, where = load_config(settings)
    if getattr(config.get_text_config(), "num_experts_per_tok", None):
        raise ValueError(f"model {settings.model!r} has experts, which are not reckoned: train it without --dry-run")
    rows = _count_rows(settings)
    model = without_weights(config, settings.trust_remote_code)
    needs = estimate(settings, model, rows, bytes_per_weight=2 if settings.lora_r else 4)
    if not needs.trained:
        raise ValueError(f"lora_target_modules {settings.lora_target_modules!r} names no linear layer of the model")
    console.print(f"[bold]{settings.method}[/bold] of {escape(f'{settings.model} (architecture: {where})')}")
    trained = "all" if needs.trained == needs.parameters else f"{needs.trained / 1e6:,.1f} M"
    size = f"{needs.parameters / 1e9:.2f} B" if needs.parameters >= 1e9 else f"{needs.parameters / 1e6:.2f} M"
    console.print(f"  model         {size} parameters, {trained} trained")
    console.print(f"  data          {escape(', '.join(settings.dataset))}: {rows:,} rows")
    console.print(
        f"  update        {settings.batch_size} {'pairs' if settings.learns_from_pairs else 'sequences'}, up to "
        f"{needs.tokens_per_update:,} tokens; {needs.updates:,} updates, learning rate "
        f"{settings.learning_rate_or_default:g}"
    )
    shares = f"{needs.replicated / 2**30:.1f} GiB replicated (DDP)"
    if settings.devices > 1:
        shares += f", {needs.sharded / 2**30:.1f} GiB sharded (FSDP2, ZeRO-3) over {settings.devices}"
    console.print(f"  memory        about {shares} per device")
    console.print(f"  compute       {needs.flops_per_token / 1e9:.4g} GFLOP per token, attention scores left out")
    console.print(
        f"  time          about {needs.a100_hours:.2g} h on {settings.devices} × A100 ({A100_FLOPS / 1e12:.0f} TFLOP/s "
        f"at {UTILISATION:.0%}), at most"
    )


def _count_rows(settings: TrainSettings) -> int:
    """Rows of all data sets together; those of the named ones are known without reading them."""
    known = dict.fromkeys(KINDS, data.LAKE_ROWS) | {name: named.rows for name, named in data.NAMED.items()}
    labels, columns = METHODS[settings.method].unpaired, data.column_names(settings.columns)
    sources, sizes = [data.Source.of(text) for text in settings.dataset], []
    for text, source in zip(settings.dataset, sources, strict=True):
        size = source.rows or known.get(source.name)
        if size is None or data.format_of(source.name) is not None:
            pairs = settings.learns_from_pairs
            size = len(data.load((text,), pairs, settings.seed, labels=labels, columns=columns))
        sizes.append(size)
    return sum(data.mixed_counts(sources, sizes))
