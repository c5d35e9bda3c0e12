"""Options that would do nothing: refused if they are TRL's, said if they are ours. Nothing is taken without a word."""

from dataclasses import fields
from typing import Any

from ift import METHODS, Method
from lm.train.options import IFTOptions, LoraOptions
from lm.train.settings import TrainSettings
from lm.train.trainable import TRL_LOSSES

_TOKENS = "the data are turned into tokens before TRL sees them"
_ANSWERS = "answers alone carry the loss; plain text, in a column `text`, carries it as a whole"
_EVALUATION = "see --eval-steps, --keep and --early-stopping"
# Options of TRL's configurations that this command decides on, and by what.
_DECIDED = {
    "gradient_accumulation_steps": "it follows from --batch-size",
    "auto_find_batch_size": "the batch is what --batch-size says",
    "bf16": "see --dtype",
    "fp16": "see --dtype",
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
    "batch_eval_metrics": _EVALUATION,
    "include_for_metrics": _EVALUATION,
    "save_strategy": "see --save-steps and --keep",
    "save_only_model": "a run can always be gone on with",
    "resume_from_checkpoint": "see --resume",
}
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
    idle = idle or (name == "label_smoothing_factor" and method.name != "sft")
    return f"it does nothing with {method.name}" if idle else None


def idle_options(settings: TrainSettings) -> list[str]:
    """A sentence on each option that was given and does nothing with the others that were."""
    method, default = METHODS[settings.method], TrainSettings()
    given = {name for name, value in vars(settings).items() if value != getattr(default, name)}
    idle = dict.fromkeys(_of_other_methods(method), f"with {method.name}")
    if method.name == "ift":
        idle |= _idle_in_ift(settings)
    if method.states == "noisy":
        idle["neftune_noise_alpha"] = f"with {method.name}, whose own number is --noise"
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
    if method.propagates:
        own |= propagation
    if method.name == "ift":
        own |= {option.name for option in fields(IFTOptions)}
    numbers = {number.name for other in METHODS.values() for number in other.numbers}
    return (numbers | {option.name for option in fields(IFTOptions)}) - own


def _idle_in_ift(settings: TrainSettings) -> dict[str, Any]:
    idle: dict[str, Any] = {}
    if settings.form == "sum":
        idle |= dict.fromkeys(("source", "norm", "side"), "with form sum")
    if settings.prediction != "lagged":
        idle["first_predictions"] = f"with prediction {settings.prediction}"
    if settings.prediction != "expected":
        idle["prediction_top_k"] = f"with prediction {settings.prediction}"
    if settings.lam == 0:
        idle |= dict.fromkeys(
            ("min_lam", "lam_jitter", "prediction", "first_predictions", "prediction_top_k"), "with lam 0"
        )
    return idle
