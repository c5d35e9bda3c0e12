"""A training from start to end: check, load, measure, train, keep, measure again."""

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.markup import escape

from common.command import progress_bar
from common.models import reason
from common.weights import require_fitting
from ift import METHODS
from lm.lake import tiny
from lm.train import data, models
from lm.train.acting import idle_options
from lm.train.checks import check_layers, check_names, check_optimizer, check_schedule, reports
from lm.train.command_line import trainer_options
from lm.train.estimate import accumulation, estimate
from lm.train.lake_report import played, plays, show
from lm.train.methods import make_arguments, make_trainer
from lm.train.model_card import write_card, write_run_card
from lm.train.progress import ANSWERS, Answering, Progressing
from lm.train.run_folder import (
    anonymous,
    check,
    describe,
    folder_of,
    is_finished,
    keep_model,
    no_half_checkpoint,
    prepare,
)
from lm.train.settings import TrainSettings
from lm.train.tokens import Cut, encode, require_written

HELD_OUT_SEED = 0  # of drawing and shuffling held-out rows


def train(settings: TrainSettings, console: Console) -> None:
    """Train as the settings say, into their folder; a run that is finished stays as it is.

    Raises:
        ValueError: settings, data, a model or a folder that do not fit together.
        NonFiniteLossError: the loss of a batch is not a number.
    """
    PartialState(cpu=not torch.cuda.is_available())  # without a GPU it joins the other processes only if told so
    folder, main = folder_of(settings), PartialState().is_main_process
    if broadcast_object_list([is_finished(folder, settings) if main else None])[0]:
        console.print(
            f"The run in [bold]{escape(str(folder))}[/bold] is finished: nothing is left to do, and nothing was changed"
        )
        return
    for sentence in idle_options(settings):
        console.print(f"[yellow]note[/yellow] {escape(sentence)}")
    if settings.model == tiny.NAME:
        with PartialState().main_process_first(), progress_bar(console) as bar:
            task = bar.add_task("training the base model, once", total=1.0)
            tiny.tiny_lake(lambda share: bar.update(task, completed=share))
    dtype, half = _precision(settings, console)
    asked = trainer_options(settings)
    check_names(settings, asked)
    args = make_arguments(settings, _trl_options(settings, half), asked)
    if main:
        check(folder, settings)  # before the work; `prepare` writes, once data and model are known to be good
    tokenizer = models.load_tokenizer(settings)
    with PartialState().main_process_first():
        train_rows, test_rows, counted = _encoded(settings, tokenizer, console)
    if "label" in train_rows.column_names:  # single answers: an update has as many as batch_size says
        args = make_arguments(settings, _trl_options(settings, half, paired=False), asked)
    trainer = _make_trainer(settings, args, dtype, tokenizer, (train_rows, test_rows), console)
    limit = trainer.args.save_total_limit
    checkpoint = broadcast_object_list([prepare(folder, settings, limit) if main else None])[0]
    if main:
        models.write_merged(settings, dtype, folder / "base")
    trainer.args.eval_on_start = test_rows is not None and checkpoint is None
    before_play = played(trainer.model, tokenizer, settings)
    if checkpoint is not None:
        console.print(f"Going on from [bold]{escape(checkpoint)}[/bold]")
    steps = _Steps()
    trainer.add_callback(steps)
    try:
        with no_half_checkpoint(folder, limit) if main else nullcontext():
            trainer.train(resume_from_checkpoint=checkpoint)
    except Exception as error:
        if checkpoint is not None and not steps.begun:
            raise ValueError(
                f"checkpoint {checkpoint!r} cannot be gone on from ({reason(error)}): delete it, and the same "
                "command takes the one before"
            ) from error
        if isinstance(error, ValueError):  # bad input has been refused by now: this is a bug, and wants its traceback
            raise RuntimeError("training failed") from error
        raise
    held_out = _show_training(trainer, console)

    base = str(folder / "base") if models.starts_on_merged(settings) else models.base_of(settings.model)
    base = anonymous(settings.model if settings.model == tiny.NAME else base)

    def finish(part: Path) -> None:
        write_card(part, describe(settings), base, counted, trainer.state.log_history, held_out)
        write_run_card(folder, part)

    kept = keep_model(trainer, folder, finish)
    if before_play is not None:
        show(kept, settings, before_play, console)
    console.print(
        f"Written to [bold]{escape(str(folder))}[/bold]: model/, log.jsonl, settings.json, config.yaml, README.md"
    )


class _Steps(transformers.TrainerCallback):
    """Whether a step was begun: until then a run that goes on reads its checkpoint, each file with another reader."""

    begun = False

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun = True


def _make_trainer(
    settings: TrainSettings, args: Any, dtype: torch.dtype, tokenizer: Any, rows: tuple[Any, Any], console: Console
) -> Any:
    """The method's trainer with its model, and with a reference where it needs one of its own."""
    model = models.load_model(settings, dtype)
    require_fitting(tokenizer, model, settings.model)
    if models.continues(settings):
        line = f"The adapter {settings.model} is trained further, on its base {models.base_of(settings.model)}"
        console.print(line, markup=False)
    elif models.adapter_of(settings.model) is not None:
        line = f"The adapter {settings.model} is merged into its base {models.base_of(settings.model)}"
        console.print(line, markup=False)
    _warn_of_memory(settings, model, len(rows[0]), console)
    asked = trainer_options(settings)
    check_layers(settings, model)
    check_optimizer(settings, args, model, asked)
    check_schedule(settings, args, asked)
    method = METHODS[settings.method]
    needs_reference = method.needs_reference and not settings.lora_r and "refresh" not in settings.numbers
    callbacks: list[Any] = [Progressing(console)] if PartialState().is_main_process else []
    if settings.eval_answers and PartialState().is_main_process:
        answers = folder_of(settings) / ANSWERS
        callbacks.append(Answering(console, tokenizer, rows[1], settings.eval_answers, answers, settings.resume))
    if settings.early_stopping:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stopping))
    trainer = make_trainer(
        settings,
        args,
        model,
        models.load_model(settings, dtype) if needs_reference else None,
        *rows,
        processing_class=tokenizer,
        peft_config=models.adapters(settings),
        callbacks=callbacks,
    )
    models.note_base(trainer.model, settings, folder_of(settings) / "base")
    trainer.create_model_card = lambda *_, **__: None  # TRL's, at each checkpoint; ours is written at the end
    trainer.remove_callback(transformers.PrinterCallback)
    loader = trainer.get_train_dataloader()  # options that it refuses are refused before anything is written
    if not len(loader):
        raise ValueError(
            f"trainer: 'dataloader_drop_last' leaves no batch: there are {len(rows[0])} examples, and a batch has "
            f"per_device_train_batch_size = {args.per_device_train_batch_size} on each device"
        )
    return trainer


def _precision(settings: TrainSettings, console: Console) -> tuple[torch.dtype, bool]:
    """Type of the loaded weights, and whether to compute in bfloat16."""
    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if settings.dtype == "bfloat16" and not able:
        console.print("[yellow]note[/yellow] dtype bfloat16 is not supported on this device: training in float32")
    half = able and settings.dtype != "float32"
    # Frozen weights may be half; trained ones stay whole, or updates of 5e-7 would round to nothing.
    return (torch.bfloat16 if half and settings.lora_r else torch.float32), half


def _held_out(settings: TrainSettings) -> tuple[str, ...]:
    """The held-out data: those asked for, or the lake's own.

    Raises:
        ValueError: evaluations are asked for, and there is nothing to evaluate on.
    """
    sources = settings.eval_dataset or (("lake:200",) if plays(settings) else ())
    if settings.eval_steps and not sources:
        raise ValueError("eval_steps needs held-out data: name it with --eval-dataset")
    if settings.eval_answers and _sharded():
        raise ValueError("eval_answers must be 0 where the model is split over devices (FSDP, ZeRO-3)")
    return sources


def _encoded(settings: TrainSettings, tokenizer: Any, console: Console) -> tuple[Any, Any, dict[str, Any]]:
    """Training and held-out tokens, and what the model's card says of them."""
    counted: dict[str, Any] = {}
    cut = Cut(settings.max_length, settings.prompt_limit)
    sets: list[Any] = []
    uses = (
        ("train", settings.dataset, "train", settings.seed),
        ("held out", _held_out(settings), "test", HELD_OUT_SEED),  # the same rows whatever the training's seed
    )
    for name, sources, split, seed in uses:
        if not sources:
            sets.append(None)
            continue
        rows = data.load(
            sources,
            settings.learns_from_pairs,
            seed,
            split,
            labels=METHODS[settings.method].unpaired,
            columns=data.column_names(settings.columns),
            note=lambda line: console.print(f"[yellow]note[/yellow] {escape(line)}"),
            check=partial(require_written, tokenizer=tokenizer),
        )
        tokens, counts = encode(rows, tokenizer, cut)
        console.print(f"[bold]{name}[/bold] {escape(', '.join(sources))}: {counts}")
        counted[name] = {"sources": [anonymous(source) for source in sources], **vars(counts)}
        sets.append(tokens)
    if sets[1] is not None and sets[0].column_names != sets[1].column_names:
        raise ValueError("eval_dataset must be of the kind of dataset: both pairs, or both answers with labels")
    return sets[0], sets[1], counted


def _trl_options(settings: TrainSettings, half: bool, paired: bool = True) -> dict[str, Any]:
    """Our settings in the words of TRL's configurations; `paired` is whether rows of methods for pairs hold two."""
    on_cpu, several = not torch.cuda.is_available(), PartialState().num_processes > 1
    noisy = METHODS[settings.method].states == "noisy"
    options = {
        "output_dir": str(folder_of(settings)),
        "learning_rate": settings.learning_rate_or_default,
        "gradient_accumulation_steps": accumulation(settings, PartialState().num_processes, paired),
        "per_device_eval_batch_size": settings.per_device_train_batch_size,
        "data_seed": settings.seed,
        "bf16": half,
        "use_cpu": on_cpu,
        "ddp_backend": "gloo" if on_cpu and several else None,
        "ddp_find_unused_parameters": False,
        "report_to": reports(settings) or "none",
        "save_total_limit": 2,  # the newest may be cut short by a kill: the one before it counts then
        "disable_tqdm": True,
        "neftune_noise_alpha": (settings.numbers["noise"] if noisy else settings.neftune_noise_alpha) or None,
    }
    if settings.packing:
        options["packing"] = True  # only supervised configurations have it
    if settings.eval_steps and _held_out(settings):
        options |= {"eval_strategy": "steps", "eval_steps": settings.eval_steps}
    if settings.keep == "best" or settings.early_stopping:
        options |= {"metric_for_best_model": "eval_loss", "greater_is_better": False, "save_total_limit": 3}
        options |= {"load_best_model_at_end": settings.keep == "best", "restore_callback_states_from_checkpoint": True}
    names_of_trl = (
        "max_length", "num_train_epochs", "max_steps", "per_device_train_batch_size", "optim", "weight_decay",
        "lr_scheduler_type", "warmup_steps", "max_grad_norm", "gradient_checkpointing", "logging_steps", "save_steps",
        "seed", "trust_remote_code",
    )  # fmt: skip
    options |= {name: getattr(settings, name) for name in names_of_trl}
    return options | ({"save_steps": settings.eval_steps} if settings.keep == "best" else {})


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


def _show_training(trainer: Any, console: Console) -> list[float]:
    """Print the losses; returns those on held-out data, before (also of a run that was resumed) and after."""
    history = trainer.state.log_history
    logged = [(row["step"], row["loss"]) for row in history if "loss" in row]
    if len(logged) > 1:
        (first, before_loss), (last, after_loss) = logged[0], logged[-1]
        console.print(f"training loss {before_loss:.4f} (update {first}) → {after_loss:.4f} (update {last})")
    elif history and "train_loss" in history[-1]:
        console.print(f"training loss {history[-1]['train_loss']:.4f}, the mean of all updates")
    if trainer.eval_dataset is None:
        return []
    before = next((row["eval_loss"] for row in history if row.get("step") == 0 and "eval_loss" in row), None)
    after = trainer.evaluate()["eval_loss"]
    console.print(f"held-out loss {'' if before is None else f'{before:.4f} → '}[bold]{after:.4f}[/bold]")
    return [loss for loss in (before, after) if loss is not None]
