"""Options that would do nothing: refused if they are TRL's, said if they are ours. Nothing is taken without a word."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from ift import METHODS, Method
from lm.train.command_line import trainer_options
from lm.train.options import IFTOptions, LoraOptions
from lm.train.settings import TrainSettings
from lm.train.trainable import TRL_LOSSES

_TOKENS = "the data are turned into tokens before TRL sees them"
_ANSWERS = "answers alone carry the loss; plain text, in a column `text`, carries it as a whole"
_EVALUATION = "see --eval-steps, --keep and --early-stopping"
_LOSS_ALONE = "an evaluation computes the loss, and nothing else"
_UPLOAD = "upload the model once it is there: hf upload NAME OUTPUT_DIR/model"
_LIBRARIES = "the command keeps the libraries' own lines away"
# Options of TRL's configurations that this command decides on, and by what.
_DECIDED = {
    "gradient_accumulation_steps": "it follows from --batch-size",
    "auto_find_batch_size": "the batch is what --batch-size says",
    "bf16": "see --dtype",
    "fp16": "see --dtype",
    "bf16_full_eval": "the model would be written in that precision: see --dtype",
    "fp16_full_eval": "the model would be written in that precision: see --dtype",
    "activation_checkpointing": "see --gradient-checkpointing",
    "use_cpu": "a GPU is taken where there is one",
    "ddp_backend": "it follows from the device",
    "disable_tqdm": "the command has a bar of its own",
    "model_init_kwargs": "the command loads the model: see --dtype, --attention and --load-in-4bit",
    "chat_template_path": "see --chat-template",
    "dataset_text_field": "see --columns text=NAME",
    "dataset_kwargs": _TOKENS,
    "dataset_num_proc": _TOKENS,
    "eos_token": _TOKENS,
    "truncation_mode": _TOKENS,
    "completion_only_loss": _ANSWERS,
    "assistant_only_loss": _ANSWERS,
    "do_train": "the command trains",
    "do_eval": _EVALUATION,
    "do_predict": _EVALUATION,
    "eval_strategy": _EVALUATION,
    "eval_on_start": _EVALUATION,
    "load_best_model_at_end": _EVALUATION,
    "metric_for_best_model": _EVALUATION,
    "greater_is_better": _EVALUATION,
    "batch_eval_metrics": _LOSS_ALONE,
    "include_for_metrics": _LOSS_ALONE,
    "prediction_loss_only": _LOSS_ALONE,
    "eval_do_concat_batches": _LOSS_ALONE,
    "eval_use_gather_object": _LOSS_ALONE,
    "eval_accumulation_steps": _LOSS_ALONE,
    "label_names": _TOKENS,
    "remove_unused_columns": _TOKENS,
    "length_column_name": _TOKENS,
    "save_strategy": "see --save-steps and --keep",
    "save_only_model": "a run can always be resumed",
    "resume_from_checkpoint": "see --resume",
    "restore_callback_states_from_checkpoint": "it follows from --early-stopping",
    "logging_nan_inf_filter": "a loss that is not a number stops the run",
    "use_cache": "a training reads every sequence once",
    "enable_jit_checkpoint": "the command has its own way to stop: see --save-steps and --resume",
    "local_rank": "the launcher says which process is which",
    "log_level": _LIBRARIES,
    "log_level_replica": _LIBRARIES,
    "log_on_each_node": _LIBRARIES,
    "push_to_hub": _UPLOAD,
    "hub_always_push": _UPLOAD,
    "hub_model_id": _UPLOAD,
    "hub_private_repo": _UPLOAD,
    "hub_revision": _UPLOAD,
    "hub_strategy": _UPLOAD,
}
# Options of TRL's configurations that act beside another one of theirs, or of ours, only.
_BESIDE = {
    "eval_packing": "packing",
    "packing_strategy": "packing",
    "activation_checkpointing_kwargs": "gradient_checkpointing",
    "gradient_checkpointing_kwargs": "gradient_checkpointing",
    "liger_kernel_config": "use_liger_kernel",
    "precompute_ref_batch_size": "precompute_ref_log_probs",
    "ref_model_mixup_alpha": "sync_ref_model",
    "ref_model_sync_steps": "sync_ref_model",
    "dataloader_in_order": "dataloader_num_workers",
    "dataloader_multiprocessing_context": "dataloader_num_workers",
    "dataloader_persistent_workers": "dataloader_num_workers",
    "eval_delay": "eval_steps",
    "run_name": "report_to",
}
# What one place to log to reads, and no other.
_OF_TRACKIO = ("project", "trackio_space_id", "trackio_static_space_id", "trackio_bucket_id")
_OF_SEVERAL_PROCESSES = (
    "average_tokens_across_devices", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters",
    "ddp_static_graph", "ddp_timeout", "parallelism_config", "save_on_each_node",
)  # fmt: skip
_OF_GPUS = ("activation_offloading", "dataloader_pin_memory", "torch_empty_cache_steps")
_OF_ORDERS = ("data_seed", "train_sampling_strategy")  # KTO's batches keep the order that its estimate of the KL needs
_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
_OF_OTHER_LOSSES = ("label_smoothing", "discopop_tau")  # of loss types that no method here has
_OF_DPO = ("loss_weights", "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "use_weighting", "padding_free")
_OF_REFERENCES = (
    "precompute_ref_log_probs", "precompute_ref_batch_size", "sync_ref_model", "ref_model_mixup_alpha",
    "ref_model_sync_steps",
)  # fmt: skip


def why_refused(name: str, method: Method) -> str | None:
    """Why an option of TRL's configuration would do nothing, or something else than it says; None if it acts."""
    if name in _DECIDED:
        return _DECIDED[name]
    pairs = method.learns_from == "pairs"
    idle = name in _OF_OTHER_LOSSES and pairs
    idle = idle or (name in _OF_DPO and pairs and method.name not in TRL_LOSSES)
    idle = idle or (name in _OF_REFERENCES and not method.needs_reference)
    idle = idle or (name in _OF_ORDERS and method.unpaired)
    idle = idle or (name == "label_smoothing_factor" and method.name != "sft")
    return f"it does nothing with {method.name}" if idle else None


def refuse_idle(asked: Iterable[str], args: Any, adapter: bool = False) -> None:
    """Raise `ValueError` for an option of TRL's that does nothing in the configuration `args`, which has it.

    `adapter` is whether low-rank adapters are trained.
    """
    for name in asked:
        why, beside = None, _BESIDE.get(name)
        if beside is not None and getattr(args, beside) in (None, False, 0, [], ["none"]):
            why = f"it does nothing without {beside}"
        elif name in _OF_TRACKIO and "trackio" not in args.report_to:
            why = "it acts with report_to trackio only"
        elif name in _OF_SEVERAL_PROCESSES and args.world_size == 1:
            why = "it acts among several processes only"
        elif name in _OF_GPUS and args.use_cpu:
            why = "it acts on a GPU only"
        elif name == "sync_ref_model" and adapter:
            why = "with lora_r the reference is the model without its adapter, which stays as it is"
        elif name == "f_divergence_type" and args.f_divergence_type not in _DIVERGENCES:
            why = f"it must be one of {', '.join(_DIVERGENCES)}, got {str(args.f_divergence_type)[:40]!r}"
        elif name == "f_alpha_divergence_coef" and args.f_divergence_type != "alpha_divergence":
            why = "it does nothing without f_divergence_type=alpha_divergence"
        if why is not None:
            raise ValueError(f"trainer: {name!r} cannot be set: {why}")


def idle_options(settings: TrainSettings) -> list[str]:
    """A sentence on each option that was given and does nothing with the others that were."""
    method, default = METHODS[settings.method], TrainSettings()
    given = {name for name, value in vars(settings).items() if value != getattr(default, name)}
    idle = dict.fromkeys(_of_other_methods(method), f"with {method.name}")
    if method.mixes_states:
        idle |= _idle_in_mixing(settings)
    if method.states == "noisy":
        idle["neftune_noise_alpha"] = f"with {method.name}, whose own number is --noise"
    if settings.learns_from_pairs and trainer_options(settings).get("disable_dropout", True):
        idle["lora_dropout"] = f"with {method.name}, where TRL switches dropout off: --trainer disable_dropout=false"
    if not settings.lora_r:
        idle |= {option.name: "without lora_r" for option in fields(LoraOptions) if option.name != "lora_r"}
    if not settings.dry_run:
        idle["devices"] = "without dry_run: a run takes what it is launched on"
    if settings.max_steps > 0:
        idle["num_train_epochs"] = "beside max_steps"
    if settings.lr_scheduler_type == "constant" and settings.min_lam is None:
        idle["warmup_steps"] = "with the schedule constant: constant_with_warmup has one"
    if settings.keep == "best":
        idle["save_steps"] = "with keep best, which saves at each evaluation"
    if settings.seeds:
        idle["seed"] = "beside seeds"
    return [f"{name} does not act {why}" for name, why in idle.items() if name in given]


def _of_other_methods(method: Method) -> set[str]:
    """Our options that act with other methods only."""
    own = {number.name for number in method.numbers}
    propagation = {"form", "source", "norm", "side"}
    if method.mixes_states:
        own |= {option.name for option in fields(IFTOptions)} - propagation - {"gamma"}
    if method.propagates:
        own |= propagation
    numbers = {number.name for other in METHODS.values() for number in other.numbers}
    return (numbers | {option.name for option in fields(IFTOptions)}) - own


def _idle_in_mixing(settings: TrainSettings) -> dict[str, Any]:
    idle: dict[str, Any] = {}
    if settings.form == "sum" and METHODS[settings.method].propagates:
        idle |= dict.fromkeys(("source", "norm", "side"), "with form sum")
    if settings.prediction != "lagged":
        idle["first_predictions"] = f"with prediction {settings.prediction}"
    if settings.prediction != "expected":
        idle["prediction_top_k"] = f"with prediction {settings.prediction}"
    if settings.numbers["lam"] == 0:
        idle |= dict.fromkeys(
            ("min_lam", "lam_jitter", "prediction", "first_predictions", "prediction_top_k"), "with lam 0"
        )
    return idle
