"""A training from start to end: check, load, measure, train, keep, measure again."""

import os
from typing import Any

import psutil
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console

from common.command import progress_bar
from ift import METHODS
from lm.lake import tiny
from lm.train import data, models
from lm.train.command_line import trainer_options
from lm.train.estimate import accumulation, estimate
from lm.train.lake_report import played, plays, show
from lm.train.methods import make_arguments, make_trainer
from lm.train.model_card import write_card
from lm.train.progress import Progressing
from lm.train.run_folder import anonymous, check, describe, folder_of, keep_model, prepare
from lm.train.settings import TrainSettings


def train(settings: TrainSettings, console: Console) -> None:
    """Train as the settings say, into their folder.

    Raises:
        ValueError: settings, data, a model or a folder that do not fit together.
        NonFiniteLossError: the loss of a batch is not a number.
    """
    PartialState(cpu=not torch.cuda.is_available())  # without a GPU it joins the other processes only if told so
    if settings.model == tiny.NAME:
        with PartialState().main_process_first(), progress_bar(console) as bar:
            task = bar.add_task("training the base model, once", total=1.0)
            tiny.tiny_lake(lambda share: bar.update(task, completed=share))
    folder, (dtype, half), main = folder_of(settings), _precision(settings, console), PartialState().is_main_process
    args = make_arguments(settings, _trl_options(settings, half) | trainer_options(settings))
    if main:
        check(folder, settings)  # before the work; `prepare` writes, once data and model are known to be good
    tokenizer = models.load_tokenizer(settings)
    with PartialState().main_process_first():
        train_rows, test_rows, counted = _encoded(settings, tokenizer, console)
    trainer = _make_trainer(settings, args, dtype, tokenizer, (train_rows, test_rows), console)
    checkpoint = broadcast_object_list([prepare(folder, settings) if main else None])[0]
    # Engines that shard the model want to meet it together with its optimiser, in `train`.
    measured = test_rows is not None and checkpoint is None and not _sharded()
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


def _make_trainer(
    settings: TrainSettings, args: Any, dtype: torch.dtype, tokenizer: Any, rows: tuple[Any, Any], console: Console
) -> Any:
    """The method's trainer with its model, and with a reference where it needs one of its own."""
    model = models.load_model(settings, dtype)
    _warn_of_memory(settings, model, len(rows[0]), console)
    method = METHODS[settings.method]
    needs_reference = method.needs_reference and not settings.lora_r and "refresh" not in settings.numbers
    trainer = make_trainer(
        settings,
        args,
        model,
        models.load_model(settings, dtype) if needs_reference else None,
        *rows,
        processing_class=tokenizer,
        peft_config=models.adapters(settings),
        callbacks=[Progressing(console)] if PartialState().is_main_process else [],
    )
    if settings.model.endswith(".gguf"):  # PEFT notes the folder alone, from which nothing can be loaded
        for adapter in getattr(trainer.model, "peft_config", {}).values():
            adapter.base_model_name_or_path = settings.model
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _precision(settings: TrainSettings, console: Console) -> tuple[torch.dtype, bool]:
    """Type of the loaded weights, and whether to compute in bfloat16."""
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if settings.dtype == "bfloat16" and not able:
        console.print("[yellow]note[/yellow] dtype bfloat16 is not supported on this device: training in float32")
    half = able and settings.dtype != "float32"
    # Frozen weights may be half; trained ones stay whole, or updates of 5e-7 would round to nothing.
    return (torch.bfloat16 if half and settings.lora_r else torch.float32), half


def _encoded(settings: TrainSettings, tokenizer: Any, console: Console) -> tuple[Any, Any, dict[str, Any]]:
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


def _trl_options(settings: TrainSettings, half: bool) -> dict[str, Any]:
    """Our settings in the words of TRL's configurations."""
    on_cpu, several = not torch.cuda.is_available(), PartialState().num_processes > 1
    options = {
        "output_dir": str(folder_of(settings)),
        "learning_rate": settings.learning_rate_or_default,
        "gradient_accumulation_steps": accumulation(settings, PartialState().num_processes),
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
    names_of_trl = (
        "max_length", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "weight_decay",
        "lr_scheduler_type", "warmup_steps", "max_grad_norm", "gradient_checkpointing", "logging_steps", "save_steps",
        "seed", "trust_remote_code",
    )  # fmt: skip
    return options | {name: getattr(settings, name) for name in names_of_trl}


def _warn_of_memory(settings: TrainSettings, model: Any, rows: int, console: Console) -> None:
    if settings.load_in_4bit or _flag("ACCELERATE_USE_DEEPSPEED"):
        return  # the weights do not show their size there
    estimated = estimate(settings, model, rows, bytes_per_weight=2 if settings.lora_r else 4)
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    processes = PartialState().num_processes
    shares = processes if _sharded() else 1
    buckets = 4 * estimated.trained if processes > shares else 0  # DDP's
    scratch = estimated.scratch_bytes / shares if torch.cuda.is_available() else 0.0
    needed = estimated.state_bytes / shares + buckets + max(estimated.activation_bytes, scratch)
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
    """Print the losses; returns those on held-out data, before and after."""
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
