"""Language models and tokenizers by name: a name of the Hub, a folder, an adapter's folder, or a .gguf file.

It knows no lake and no settings; whoever accepts further names, such as `tiny-lake`, turns them into folders first.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.folders import write_whole
from common.weights import (
    is_adapter,
    require_complete,
    require_end,
    require_fitting,
    require_own_files,
    require_safetensors,
    require_whole_base,
)


def load(kind: Any, name: str, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """What `kind.from_pretrained` makes of a name; `kind` is one of transformers' Auto classes.

    Raises:
        ValueError: a file or folder that is not there or lacks its parts, a name that cannot be loaded.
    """
    path, source = Path(name), name
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"model {name!r}: there is no such file")
        source, options["gguf_file"] = str(path.parent), path.name
    elif not path.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ValueError(f"model {name!r}: there is no such folder")
    try:
        if path.is_dir() and not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            run = "; it is a run's folder: name the model in it, model/" if (path / "model").is_dir() else ""
            raise ValueError(f"it lacks config.json{run}")
        return kind.from_pretrained(source, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # the Hub, the readers and the integrations each have their own
        raise ValueError(
            f"model {name!r} could not be loaded ({reason(error)}): name a local folder with config, tokenizer and "
            "safetensors, a .gguf file, or a model of the Hub"
        ) from error


def load_checked(kind: Any, name: str, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """What `load` gives of a model with its weights, which all have to be there, from safetensors or GGUF only.

    Raises:
        ValueError: as `load`; files that are no safetensors, weights that are missing or have another shape.
    """
    if not name.endswith(".gguf"):
        require_own_files(name)
        if is_adapter(name):
            require_safetensors(name)
        options["use_safetensors"] = True
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # both are told, in one line
    model, info = load(kind, name, trust_remote_code=trust_remote_code, **options)
    require_complete(model, info, name)
    return model


def load_weights(name: str, dtype: torch.dtype, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """The causal language model with its weights; raises as `load_checked`."""
    model = load_checked(AutoModelForCausalLM, name, trust_remote_code=trust_remote_code, dtype=dtype, **options)
    if name.endswith(".gguf"):
        # Its weights were widened on reading; what still says "quantised" would forbid training and saving.
        model.hf_quantizer, model.is_quantized = None, False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model


def load_trained(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a folder (an adapter's with its base), of a .gguf file, or of a name of the Hub.

    Raises:
        ValueError: a folder that is not there, or lacks config, weights or tokenizer; a name that cannot be loaded;
            weights that are not finite; a tokenizer that does not fit.
    """
    path = Path(name).expanduser()
    source = str(path) if path.exists() else name
    tokenizer = load(AutoTokenizer, source)
    require_end(tokenizer, name)
    if tokenizer.pad_token is None:  # many base models have none
        tokenizer.pad_token = tokenizer.eos_token
    if not is_adapter(source):
        model = load_weights(source, dtype)
        require_fitting(tokenizer, model, name)
        return _with_finite_weights(model, name), tokenizer
    from peft import PeftConfig  # only here: whole models need not wait for it

    try:
        base_name = str(PeftConfig.from_pretrained(source).base_model_name_or_path)
    except Exception as error:  # PEFT has one of its own for each way in which its files can be spoiled
        raise ValueError(f"model {name!r}: its adapter could not be loaded ({reason(error)})") from error
    require_safetensors(name)
    require_whole_base(name, base_name)
    try:
        base = load_weights(base_name, dtype)
    except ValueError as error:
        raise ValueError(f"model {name!r}: its adapter could not be loaded ({reason(error)})") from error
    require_fitting(tokenizer, base, name)
    return _with_finite_weights(with_adapter(base, source), name), tokenizer


def with_adapter(base: Any, name: str, *, trainable: bool = False) -> Any:
    """The base with an adapter on it, as PEFT's model.

    Raises:
        ValueError: an adapter that cannot be read, that lacks weights or has some that the base has no place for.
    """
    from peft import PeftModel

    require_safetensors(name)
    renamed = getattr(base, "_checkpoint_conversion_mapping", {})
    try:
        model = PeftModel.from_pretrained(base, name, is_trainable=trainable)
        # It tells only on a second reading what did not fit; the weights are the same.
        told = model.load_adapter(name, "default", is_trainable=trainable, key_mapping=renamed)
    except Exception as error:  # weights of another model, a spoiled file
        raise ValueError(f"model {name!r}: its adapter could not be loaded ({reason(error)})") from error
    for keys, which in ((told.missing_keys, "lacks"), (told.unexpected_keys, "has no place in the base for")):
        if keys:
            first, more = min(keys).replace(".default", ""), f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ValueError(
                f"model {name!r}: its adapter {which} {first}{more}: take adapter_config.json, weights and base of one "
                "training"
            )
    return model


def _with_finite_weights(model: Any, name: str) -> Any:
    for part, weights in model.named_parameters():
        if not bool(weights.isfinite().all()):
            raise ValueError(f"model {name!r}: its weights {part} are not all finite numbers: train it again")
    return model


def save_whole(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model folder, whole or not at all; `folder` must not be there."""

    def write(part: Path) -> None:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)

    write_whole(folder, write)


def reason(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def offline() -> bool:
    """Whether the Hub's name cannot be looked up; if so, the libraries look at their caches only, without retries."""
    if any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return bool(constants.HF_HUB_OFFLINE)  # the proxy looks names up
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:  # else it takes the constant over when it is imported
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)
