"""The model and the tokenizer that a run's settings name, and its adapters: new ones, or one that is there already."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from transformers import AutoConfig, AutoTokenizer, MistralConfig
from transformers.utils.peft_utils import find_adapter_config_file

from common import models, weights
from common.generation import make_savable
from lm.lake import make_model, make_tokenizer, tiny
from lm.train.settings import TrainSettings

ZEPHYR = Path(__file__).parents[1] / "recipes" / "zephyr.jinja"
# What transformers' MistralConfig describes by default, for estimates without network.
_MISTRAL_7B = ("mistralai/Mistral-7B-v0.1", "HuggingFaceH4/mistral-7b-sft-beta")
# Options of an adapter by PEFT's names for them; one that is trained further keeps its own.
_OF_ADAPTERS = {
    "lora_r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "lora_target_modules": "target_modules",
    "use_dora": "use_dora", "use_rslora": "use_rslora", "modules_to_save": "modules_to_save",
}  # fmt: skip


def load_tokenizer(settings: TrainSettings) -> Any:
    """The model's tokenizer, with the chat template that the settings name."""
    name = tiny.located(settings.model)
    try:
        tokenizer = models.load(AutoTokenizer, name, trust_remote_code=settings.trust_remote_code)
    except ValueError:
        if adapter_of(name) is None:
            raise
        tokenizer = models.load(AutoTokenizer, base_of(name), trust_remote_code=settings.trust_remote_code)
    weights.require_end(tokenizer, settings.model)
    if settings.chat_template == "none":
        tokenizer.chat_template = None
    elif settings.chat_template == "zephyr" or (settings.chat_template == "auto" and tokenizer.chat_template is None):
        tokenizer.chat_template = ZEPHYR.read_text(encoding="utf-8")
    elif settings.chat_template != "auto":
        if not Path(settings.chat_template).is_file():
            raise ValueError(
                f"chat_template {settings.chat_template[:200]!r} must be auto, zephyr, none or a .jinja file"
            )
        try:
            tokenizer.chat_template = Path(settings.chat_template).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"chat_template {settings.chat_template!r} is not UTF-8 text") from error
    return tokenizer


def adapter_of(name: str) -> PeftConfig | None:
    """PEFT's configuration of the adapter of that name, a folder or of the Hub; None if it names a whole model.

    Raises:
        ValueError: an adapter that cannot be read, or that is none of LoRA's.
    """
    if name == tiny.NAME or name.endswith(".gguf"):
        return None
    try:
        if find_adapter_config_file(name) is None:
            return None
    except (OSError, ValueError):  # a name that nobody can look up: loading it says so
        return None
    try:
        config = PeftConfig.from_pretrained(name)
    except Exception as error:  # a spoiled file: PEFT raises what its fields raise
        raise ValueError(f"model {name!r}: its adapter_config.json cannot be read ({models.reason(error)})") from error
    if not isinstance(config, LoraConfig) or not config.base_model_name_or_path:
        raise ValueError(f"model {name!r} is an adapter of another kind than LoRA, or names no base: merge it first")
    return config


def base_of(name: str) -> str:
    """The whole model under a name: the base of an adapter, or the name itself, the lake's as a folder."""
    config = adapter_of(name)
    if config is None:
        return tiny.located(name)
    base = tiny.located(str(config.base_model_name_or_path))
    weights.require_whole_base(name, base)
    return base


def continues(settings: TrainSettings) -> bool:
    """Whether an adapter is trained further."""
    return settings.lora_r > 0 and settings.adapter == "continue" and adapter_of(settings.model) is not None


def starts_on_merged(settings: TrainSettings) -> bool:
    """Whether a new adapter is trained on a model that has to be made first: another adapter's, merged."""
    return settings.lora_r > 0 and settings.adapter == "new" and adapter_of(settings.model) is not None


def load_model(settings: TrainSettings, dtype: torch.dtype) -> Any:
    """The causal language model with its weights; safetensors or GGUF only. An adapter comes on its base.

    With `continues` it is a `PeftModel` whose adapter is trained; else an adapter is merged into its base.

    Raises:
        ValueError: a model, an adapter or an attention that cannot be loaded, or options that are not the adapter's.
    """
    config = adapter_of(settings.model)
    if config is None:
        return _load_weights(tiny.located(settings.model), settings, dtype)
    if continues(settings):
        _require_same(settings, config)
    elif settings.load_in_4bit:
        raise ValueError("load_in_4bit: a model in 4 bits cannot take an adapter in: merge it first with lm.merge")
    weights.require_safetensors(settings.model)  # before the base is loaded
    base = _load_weights(base_of(settings.model), settings, dtype)
    model = models.with_adapter(base, settings.model, trainable=continues(settings))
    if continues(settings):
        return model
    return model.merge_and_unload().requires_grad_(True)  # PEFT has frozen what it merged into


def _require_same(settings: TrainSettings, config: LoraConfig) -> None:
    """Raise `ValueError` for an option that was given and is not what the adapter has."""
    default = TrainSettings()
    for name, theirs in _OF_ADAPTERS.items():
        given, held = getattr(settings, name), getattr(config, theirs)
        if given == getattr(default, name) and name != "lora_r":
            continue
        if isinstance(given, str) and given != "all-linear":
            given, held = set(_names(given)), set([held] if isinstance(held, str) else held or [])
        if given != held:
            raise ValueError(
                f"{name} must be the adapter's, {held}, to train it further, got {given}: --adapter new merges it and "
                "trains a new one"
            )


def _load_weights(name: str, settings: TrainSettings, dtype: torch.dtype) -> Any:
    options: dict[str, Any] = {}
    if settings.load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )
    if settings.attention != "auto":
        options["attn_implementation"] = settings.attention
    try:
        loaded = models.load_weights(name, dtype, trust_remote_code=settings.trust_remote_code, **options)
    except ValueError as error:
        reason = models.reason(error.__cause__) if isinstance(error.__cause__, Exception) else str(error)
        if settings.attention != "auto" and any(word in reason.lower() for word in ("attn", "attention")):
            raise ValueError(f"attention {settings.attention[:200]!r} cannot be had here: {reason}") from error
        raise
    return make_savable(loaded)


def load_config(settings: TrainSettings) -> tuple[Any, str]:
    """The architecture, and where it was read."""
    if settings.model == tiny.NAME:
        return make_model(make_tokenizer(), 0).config, "lm/lake"
    offline = models.offline()
    name = base_of(settings.model)
    if name in _MISTRAL_7B and offline:
        return MistralConfig(), "transformers' defaults for Mistral-7B, as the Hub does not answer"
    config = models.load(AutoConfig, name, trust_remote_code=settings.trust_remote_code)
    return config, name


def adapters(settings: TrainSettings) -> LoraConfig | None:
    """PEFT's configuration of new low-rank adapters, if there are any."""
    if not settings.lora_r or continues(settings):
        return None
    modules = settings.lora_target_modules
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=modules if modules == "all-linear" else _names(modules),
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
        modules_to_save=_names(settings.modules_to_save) or None,
        task_type="CAUSAL_LM",
    )


def _names(text: str) -> list[str]:
    return [name for name in text.replace(" ", "").split(",") if name]


def note_base(model: Any, settings: TrainSettings, merged: Path) -> None:
    """Have a new adapter name what it stands on, where PEFT has noted another: a .gguf file, or the merged model.

    And have the names of its layers in order: PEFT keeps them in sets, whose order differs from process to process.
    """
    for config in getattr(model, "peft_config", {}).values():
        if isinstance(config.target_modules, set):
            config.target_modules = sorted(config.target_modules)
    name = settings.model if settings.model.endswith(".gguf") else None
    if starts_on_merged(settings):
        name = str(merged)
    if name is not None:
        for config in getattr(model, "peft_config", {}).values():
            config.base_model_name_or_path = name


def write_merged(settings: TrainSettings, dtype: torch.dtype, folder: Path) -> None:
    """Write the base of a new adapter, another adapter's merged model, once; whole or not at all."""
    if starts_on_merged(settings) and not folder.exists():
        models.save_whole(load_model(settings, dtype), load_tokenizer(settings), folder)
