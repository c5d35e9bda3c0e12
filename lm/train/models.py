"""Models and tokenizers by name: from the Hub, a local folder, a GGUF file, or the small one of the lake."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import datasets
import torch
from huggingface_hub import constants
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, MistralConfig

from lm import lake
from lm.train.settings import Settings

ZEPHYR = Path(__file__).parents[1] / "recipes" / "zephyr.jinja"
# What transformers' MistralConfig describes by default, for estimates without network.
_MISTRAL_7B = ("mistralai/Mistral-7B-v0.1", "HuggingFaceH4/mistral-7b-sft-beta")


def tiny_lake(report: Callable[[float], None] = lambda share: None) -> Path:
    """Folder of the lake's small base model; trained the first time (about a minute on 2 cores), then kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intuitive-fine-tuning"
    folder = cache / "tiny-lake-2"  # the number changes with whatever changes the model
    if not (folder / "config.json").is_file():
        model = lake.train_base(seed=0, report=report)
        part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
        model.save_pretrained(part)
        lake.make_tokenizer().save_pretrained(part)
        if folder.exists():  # another process was faster
            return folder
        part.rename(folder)
    return folder


def load_tokenizer(settings: Settings) -> Any:
    """The model's tokenizer, with the chat template that the settings name."""
    tokenizer = _load(AutoTokenizer, settings)
    if settings.chat_template == "none":
        tokenizer.chat_template = None
    elif settings.chat_template == "zephyr" or (settings.chat_template == "auto" and tokenizer.chat_template is None):
        tokenizer.chat_template = ZEPHYR.read_text()
    elif settings.chat_template != "auto":
        if not Path(settings.chat_template).is_file():
            raise ValueError(f"chat_template {settings.chat_template!r} must be auto, zephyr, none or a .jinja file")
        tokenizer.chat_template = Path(settings.chat_template).read_text()
    return tokenizer


def load_model(settings: Settings, dtype: torch.dtype) -> Any:
    """The causal language model with its weights; safetensors or GGUF only."""
    options: dict[str, Any] = {"dtype": dtype}
    if not settings.model.endswith(".gguf"):
        options["use_safetensors"] = True
    if settings.load_in_4bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )
    model = _load(AutoModelForCausalLM, settings, **options)
    if settings.model.endswith(".gguf"):
        # Its weights were widened on reading; what still says "quantised" would forbid training and saving.
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model


def load_trained(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, an adapter's with its base; of a .gguf file, a name of the Hub, or tiny-lake.

    Raises:
        ValueError: a folder that is not there, or lacks config, weights or tokenizer; a name that cannot be loaded.
    """
    path = Path(name).expanduser()
    settings = Settings(model=str(path) if path.exists() else name)
    tokenizer = _load(AutoTokenizer, settings)
    if tokenizer.pad_token is None:  # many base models have none
        tokenizer.pad_token = tokenizer.eos_token
    if not (path / "adapter_config.json").is_file():
        return load_model(settings, dtype), tokenizer
    try:
        base = str(PeftConfig.from_pretrained(path).base_model_name_or_path)
        model = PeftModel.from_pretrained(load_model(Settings(model=base), dtype), path)
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"model {name!r}: its adapter could not be loaded ({reason(error)})") from error
    return model, tokenizer


def save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model folder, whole or not at all; `folder` must not be there."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)


def load_config(settings: Settings) -> tuple[Any, str]:
    """The architecture, and where it was read."""
    if settings.model == "tiny-lake":
        return lake.make_model(lake.make_tokenizer(), 0).config, "lm/lake"
    if settings.model in _MISTRAL_7B and offline():
        return MistralConfig(), "transformers' defaults for Mistral-7B, as the Hub does not answer"
    return _load(AutoConfig, settings), settings.model


def _load(kind: Any, settings: Settings, **options: Any) -> Any:
    path, name = Path(settings.model), settings.model
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"model {name!r}: there is no such file")
        name, options["gguf_file"] = str(path.parent), path.name
    elif name == "tiny-lake":
        name = str(tiny_lake())
    elif not path.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ValueError(f"model {name!r}: there is no such folder")
    try:
        if path.is_dir() and not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ValueError("it lacks config.json")
        return kind.from_pretrained(name, trust_remote_code=settings.trust_remote_code, **options)
    except Exception as error:  # the Hub, the readers and the integrations each have their own
        raise ValueError(
            f"model {settings.model!r} could not be loaded ({reason(error)}): name a local folder with config, "
            "tokenizer and safetensors, a .gguf file, a model of the Hub, or tiny-lake"
        ) from error


def reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def offline() -> bool:
    """Whether the Hub's name can't be looked up; if so, the libraries look at their caches only, without retries."""
    if any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return bool(constants.HF_HUB_OFFLINE)  # the proxy looks names up
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)


def adapters(settings: Settings) -> LoraConfig | None:
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
