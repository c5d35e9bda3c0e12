"""Fine-tune a language model with SFT, IFT, DFT, DPO, IPO, KTO, ORPO or SimPO.

Alone it needs no network: a small model that plays Frozen Lake in words learns from 512 optimal walks. Options come
from --config FILE.yaml (lm/recipes has the paper's runs; later files win) and from the command line, which wins.

Examples:
  python -m lm.train
  python -m lm.train --method ift --model mistralai/Mistral-7B-v0.1 --dataset ultrachat:60000 ultrafeedback
  python -m lm.train --config lm/recipes/mistral-7b-ift.yaml --dry-run
  accelerate launch --config_file lm/recipes/fsdp2.yaml -m lm.train --config lm/recipes/mistral-7b-ift.yaml
"""

import argparse
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import psutil
import torch
import transformers
import tyro
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from ift import METHODS
from lm.lake import KINDS
from lm.train import data, models
from lm.train.estimate import A100_FLOPS, UTILISATION, estimate, without_weights
from lm.train.lake_report import played, plays, show
from lm.train.methods import make_arguments, make_trainer
from lm.train.model_card import write_card
from lm.train.run_folder import anonymous, check, describe, folder_of, keep_model, prepare
from lm.train.settings import Groups, Settings, read_recipe, trainer_options
from lm.trainers.examples import NonFiniteLossError


class Progressing(TrainerCallback):
    """A progress bar with the loss and tokens per second on a terminal, lines elsewhere; checkpoints without paths."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = _bar(console)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            rate = f" · {logs['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in logs else ""
            line = f"loss {logs['loss']:.4f}{rate}"
            self.bar.update(self.task, description=line)
            if not self.console.is_terminal:
                self.console.print(f"update {state.global_step}/{state.max_steps} {line}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # torch.save of the arguments, with paths of this machine and perhaps a token; nothing reads it.
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / "training_args.bin").unlink(missing_ok=True)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.bar.stop()


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal)


def run(settings: Settings, console: Console) -> None:
    """The whole command: check, load, measure, train, keep, measure again."""
    options = trainer_options(settings)
    if settings.dry_run:
        show_estimate(settings, console)
        return
    PartialState(cpu=not torch.cuda.is_available())  # without a GPU it joins the other processes only if told so
    if settings.model == "tiny-lake":
        with PartialState().main_process_first(), _bar(console) as bar:
            task = bar.add_task("training the base model, once", total=1.0)
            models.tiny_lake(lambda share: bar.update(task, completed=share))
    folder, (dtype, half), main = folder_of(settings), _precision(settings, console), PartialState().is_main_process
    args = make_arguments(settings, _trl_options(settings, half) | options)
    if main:
        check(folder, settings)  # before the work; `prepare` writes, once data and model are known to be good
    tokenizer = models.load_tokenizer(settings)
    with PartialState().main_process_first():
        train, test, counted = _encoded(settings, tokenizer, console)
    model = models.load_model(settings, dtype)
    _warn_of_memory(settings, model, len(train), console)
    needs_reference = METHODS[settings.method].needs_reference and not settings.lora_r
    trainer = make_trainer(
        settings,
        args,
        model,
        models.load_model(settings, dtype) if needs_reference else None,
        train,
        test,
        processing_class=tokenizer,
        peft_config=models.adapters(settings),
        callbacks=[Progressing(console)] if main else [],
    )
    if settings.model.endswith(".gguf"):  # PEFT notes the folder alone, from which nothing can be loaded
        for adapter in getattr(trainer.model, "peft_config", {}).values():
            adapter.base_model_name_or_path = settings.model
    trainer.remove_callback(transformers.PrinterCallback)
    found = [prepare(folder, settings) if main else None]
    checkpoint = broadcast_object_list(found)[0]
    # Engines that shard the model want to meet it together with its optimiser, in `train`.
    measured = test is not None and checkpoint is None and not _sharded()
    before = trainer.evaluate()["eval_loss"] if measured else None
    before_play = played(trainer.model, tokenizer, settings)
    if checkpoint is not None:
        console.print(f"Going on from [bold]{checkpoint}[/bold]")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except ValueError as error:  # bad input has been refused by now: this is a bug, and wants its traceback
        raise RuntimeError("training failed") from error
    kept = keep_model(trainer, folder)
    held_out = _show_training(trainer, before, console)
    if main:
        write_card(kept, describe(settings), counted, trainer.state.log_history, held_out)
    if before_play is not None:
        show(kept, settings, before_play, console)
    console.print(f"Written to [bold]{folder}[/bold]: model/, log.jsonl, settings.json")


def _precision(settings: Settings, console: Console) -> tuple[torch.dtype, bool]:
    """Type of the loaded weights, and whether to compute in bfloat16."""
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if settings.dtype == "bfloat16" and not able:
        console.print("[yellow]note[/yellow] dtype bfloat16 is not supported on this device: training in float32")
    half = able and settings.dtype != "float32"
    # Frozen weights may be half; trained ones stay whole, or updates of 5e-7 would round to nothing.
    return (torch.bfloat16 if half and settings.lora_r else torch.float32), half


def _encoded(settings: Settings, tokenizer: Any, console: Console) -> tuple[Any, Any, dict[str, Any]]:
    """Training and held-out tokens, and what the model's card says of them."""
    counted: dict[str, Any] = {}
    cut = data.Cut(settings.max_length, settings.max_prompt_length)
    sets: list[Any] = []
    held_out = settings.eval_dataset or (("lake:200",) if plays(settings) else ())
    for name, sources, split in (("train", settings.dataset, "train"), ("held out", held_out, "test")):
        if not sources:
            sets.append(None)
            continue
        rows = data.load(sources, settings.learns_from_pairs, settings.seed, split)
        tokens, counts = data.encode(rows, tokenizer, cut)
        console.print(f"[bold]{name}[/bold] {', '.join(sources)}: {counts}")
        counted[name] = {"sources": [anonymous(source) for source in sources], **vars(counts)}
        sets.append(tokens)
    return sets[0], sets[1], counted


def _trl_options(settings: Settings, half: bool) -> dict[str, Any]:
    """Our settings in the words of TRL's configurations."""
    on_cpu, several = not torch.cuda.is_available(), PartialState().num_processes > 1
    options = {
        "output_dir": str(folder_of(settings)),
        "learning_rate": settings.learning_rate_or_default,
        "gradient_accumulation_steps": _accumulation(settings, PartialState().num_processes),
        "per_device_eval_batch_size": settings.per_device_train_batch_size,
        "data_seed": settings.seed,
        "bf16": half,
        "use_cpu": on_cpu,
        "ddp_backend": "gloo" if on_cpu and several else None,
        "ddp_find_unused_parameters": False,
        "report_to": settings.report_to.split(","),
        "save_total_limit": 2,  # the newest may be cut short by a kill: the one before it counts then
        "disable_tqdm": True,
    }
    if settings.packing:
        options["packing"] = True  # only supervised configurations have it
    same = ("max_length", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "weight_decay",
            "lr_scheduler_type", "warmup_steps", "max_grad_norm", "gradient_checkpointing", "logging_steps",
            "save_steps", "seed", "trust_remote_code")  # fmt: skip
    return options | {name: getattr(settings, name) for name in same}


def _accumulation(settings: Settings, devices: int) -> int:
    """Micro-batches of an update on each device; raises `ValueError` where they do not come out even."""
    at_a_time = settings.per_device_train_batch_size * devices
    if settings.batch_size % at_a_time:
        raise ValueError(
            f"batch_size must be a multiple of per_device_train_batch_size × devices = {at_a_time}, "
            f"got {settings.batch_size}"
        )
    # KTO takes the two answers of a pair apart.
    return settings.batch_size * (2 if settings.method == "kto" else 1) // at_a_time


def show_estimate(settings: Settings, console: Console) -> None:
    """What `--dry-run` prints."""
    _accumulation(settings, settings.devices)
    config, where = models.load_config(settings)
    if getattr(config.get_text_config(), "num_experts_per_tok", None):
        raise ValueError(f"model {settings.model!r} has experts, which are not reckoned: train it without --dry-run")
    model = without_weights(config, settings.trust_remote_code)
    found = estimate(settings, model, _rows(settings), bytes_per_weight=2 if settings.lora_r else 4)
    if not found.trained:
        raise ValueError(f"lora_target_modules {settings.lora_target_modules!r} names no linear layer of the model")
    console.print(f"[bold]{settings.method}[/bold] of {settings.model} (architecture: {where})")
    trained = "all" if found.trained == found.parameters else f"{found.trained / 1e6:,.1f} M"
    size = f"{found.parameters / 1e9:.2f} B" if found.parameters >= 1e9 else f"{found.parameters / 1e6:.2f} M"
    console.print(f"  model         {size} parameters, {trained} trained")
    console.print(f"  data          {', '.join(settings.dataset)}: {_rows(settings):,} rows")
    console.print(
        f"  update        {settings.batch_size} {'pairs' if settings.learns_from_pairs else 'sequences'}, up to "
        f"{found.tokens_per_update:,} tokens; {found.updates:,} updates, learning rate "
        f"{settings.learning_rate_or_default:g}"
    )
    shares = f"{found.replicated / 2**30:.1f} GiB replicated (DDP)"
    if settings.devices > 1:
        shares += f", {found.sharded / 2**30:.1f} GiB sharded (FSDP2, ZeRO-3) over {settings.devices}"
    console.print(f"  memory        about {shares} per device")
    console.print(f"  compute       {found.flops_per_token / 1e9:.4g} GFLOP per token, attention scores left out")
    console.print(
        f"  time          about {found.a100_hours:.2g} h on {settings.devices} × A100 ({A100_FLOPS / 1e12:.0f} TFLOP/s "
        f"at {UTILISATION:.0%}), at most"
    )


def _rows(settings: Settings) -> int:
    total = 0
    for text in settings.dataset:
        source = data.Source.of(text)
        known = dict.fromkeys(KINDS, data.LAKE_ROWS) | {name: named.rows for name, named in data.NAMED.items()}
        if source.rows is None and source.name not in known:
            total += len(data.load((text,), settings.learns_from_pairs, settings.seed))
        else:
            total += source.rows or known[source.name]
    return total


def _warn_of_memory(settings: Settings, model: Any, rows: int, console: Console) -> None:
    if settings.load_in_4bit or _flag("ACCELERATE_USE_DEEPSPEED"):
        return  # the weights do not show their size there
    found = estimate(settings, model, rows, bytes_per_weight=2 if settings.lora_r else 4)
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    processes = PartialState().num_processes
    shares = processes if _sharded() else 1
    buckets = 4 * found.trained if processes > shares else 0  # DDP's
    scratch = found.scratch_bytes / shares if torch.cuda.is_available() else 0.0
    needed = found.state_bytes / shares + buckets + max(found.activation_bytes, scratch)
    if needed > free:
        console.print(
            f"[yellow]warning[/yellow] about {needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} are free: try "
            "a smaller per_device_train_batch_size, gradient_checkpointing, lora_r, or sharding"
        )


def _sharded() -> bool:
    """Whether accelerate was told to split the model over the devices."""
    return _flag("ACCELERATE_USE_FSDP") or _flag("ACCELERATE_USE_DEEPSPEED")


def _flag(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def _show_training(trainer: Any, before: float | None, console: Console) -> list[float]:
    """Print the losses; those on held-out data."""
    logged = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    if len(logged) > 1:
        (first, before_loss), (last, after_loss) = logged[0], logged[-1]
        console.print(f"training loss {before_loss:.4f} (update {first}) → {after_loss:.4f} (update {last})")
    elif "train_loss" in trainer.state.log_history[-1]:
        console.print(f"training loss {trainer.state.log_history[-1]['train_loss']:.4f}, the mean of all updates")
    if trainer.eval_dataset is not None:
        after = trainer.evaluate()["eval_loss"]
        console.print(f"held-out loss {'' if before is None else f'{before:.4f} → '}[bold]{after:.4f}[/bold]")
        return [loss for loss in (before, after) if loss is not None]
    return []


def parse(arguments: list[str] | None = None) -> Settings:
    """Settings from a recipe and the command line; raises `ValueError` for a bad one."""
    recipes = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    recipes.add_argument("--config", action="append", default=[])
    try:
        given, rest = recipes.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ValueError("config needs the name of a YAML file") from error
    groups = Groups()
    for path in given.config:
        groups = read_recipe(path, groups)
        groups.settings()  # a bad value is named here, before the parser sees it as a default
    groups = tyro.cli(
        Groups, prog="python -m lm.train", description=__doc__, args=rest, default=groups,
        config=(tyro.conf.OmitArgPrefixes,),
    )  # fmt: skip
    return groups.settings()


def quieten() -> None:
    """Keep the libraries' own bars and notes out of the way of ours."""
    warnings.simplefilter("ignore", FutureWarning)
    for library in (transformers, datasets):
        library.utils.logging.set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def main() -> None:
    """Parse, run, and turn bad input into one line and exit code 2."""
    quieten()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: schedulers send it before they kill
    try:
        settings = parse()
        models.offline()
        console = Console(quiet=int(os.environ.get("RANK", "0")) > 0, soft_wrap=True)
        run(settings, console)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: the same command with --resume goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
