"""The model and the tokenizer that a run's settings name, and its adapters."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoTokenizer, MistralConfig

from common import models
from lm.lake import make_model, make_tokenizer, tiny
from lm.train.settings import TrainSettings

ZEPHYR = Path(__file__).parents[1] / "recipes" / "zephyr.jinja"
# What transformers' MistralConfig describes by default, for estimates without network.
_MISTRAL_7B = ("mistralai/Mistral-7B-v0.1", "HuggingFaceH4/mistral-7b-sft-beta")


def load_tokenizer(settings: TrainSettings) -> Any:
    """The model's tokenizer, with the chat template that the settings name."""
    name = tiny.located(settings.model)
    tokenizer = models.load(AutoTokenizer, name, trust_remote_code=settings.trust_remote_code)
    if settings.chat_template == "none":
        tokenizer.chat_template = None
    elif settings.chat_template == "zephyr" or (settings.chat_template == "auto" and tokenizer.chat_template is None):
        tokenizer.chat_template = ZEPHYR.read_text()
    elif settings.chat_template != "auto":
        if not Path(settings.chat_template).is_file():
            raise ValueError(f"chat_template {settings.chat_template!r} must be auto, zephyr, none or a .jinja file")
        tokenizer.chat_template = Path(settings.chat_template).read_text()
    return tokenizer


def load_model(settings: TrainSettings, dtype: torch.dtype) -> Any:
    """The causal language model with its weights; safetensors or GGUF only."""
    options: dict[str, Any] = {}
    if settings.load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )
    name = tiny.located(settings.model)
    return models.load_weights(name, dtype, trust_remote_code=settings.trust_remote_code, **options)


def load_config(settings: TrainSettings) -> tuple[Any, str]:
    """The architecture, and where it was read."""
    if settings.model == tiny.NAME:
        return make_model(make_tokenizer(), 0).config, "lm/lake"
    if settings.model in _MISTRAL_7B and models.offline():
        return MistralConfig(), "transformers' defaults for Mistral-7B, as the Hub does not answer"
    config = models.load(AutoConfig, settings.model, trust_remote_code=settings.trust_remote_code)
    return config, settings.model


def adapters(settings: TrainSettings) -> LoraConfig | None:
    """PEFT's configuration of the low-rank adapters, if there are any."""
    if not settings.lora_r:
        return None
    modules = settings.lora_target_modules
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=modules if modules == "all-linear" else modules.replace(" ", "").split(","),
        task_type="CAUSAL_LM",
    )
