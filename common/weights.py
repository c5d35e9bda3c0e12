"""What is asked of a model's files before they are read, and of its weights and its tokenizer when they are."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

_INDEX = "model.safetensors.index.json"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def is_adapter(name: str) -> bool:
    """Whether a folder, or a name of the Hub, holds an adapter; a name that nobody can look up does not."""
    if Path(name).exists():
        return (Path(name) / "adapter_config.json").is_file()
    try:
        return find_adapter_config_file(name) is not None
    except (OSError, ValueError):  # loading it says so
        return False


def require_whole_base(name: str, base: str) -> None:
    """Raise `ValueError` for an adapter on an adapter."""
    if is_adapter(base):
        raise ValueError(
            f"model {name!r}: its base {base!r} is an adapter, too: merge that one first with lm.merge, and name the "
            "merged folder as base_model_name_or_path in adapter_config.json"
        )


def require_safetensors(adapter: str) -> None:
    """Raise `ValueError` for an adapter without safetensors: PEFT would read a file that can run code."""
    if not _file_of(str(Path(adapter).expanduser()), "adapter_model.safetensors"):
        raise ValueError(f"model {adapter!r}: it lacks adapter_model.safetensors, and no other weights are read")


def require_own_files(name: str) -> None:
    """Raise `ValueError` for a model whose config or index has other files read than safetensors of its folder."""
    config = _file_of(name, "config.json")
    named = _read_object(name, config).get("transformers_weights") if config else None
    if named is not None and not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise ValueError(f"model {name!r}: config.json names the weights {named!r}: only safetensors are read")
    for file in {_INDEX, str(named or _INDEX)}:
        index = _file_of(name, file) if file.endswith(".json") else None
        if index is not None:
            _check_index(name, index)


def files_of_model(folder: Path) -> list[Path]:
    """The files that decide what a model says: weights, configurations and templates, of an adapter its base's, too.

    A base counts where it is a folder.
    """
    kinds = ("*.safetensors", "*.json", "*.jinja")
    files = [file for kind in kinds for file in sorted(folder.glob(kind))]
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = Path(str(_read_object(str(folder), adapter).get("base_model_name_or_path")))
        if base.is_dir() and not (base / adapter.name).exists():
            return files + files_of_model(base)
    return files


def _check_index(name: str, index: Path) -> None:
    shards = _read_object(name, index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"model {name!r}: {index.name} has no weight_map: save the model again")
    for shard in dict.fromkeys(map(str, shards.values())):
        if Path(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise ValueError(f"model {name!r}: {index.name} names {shard!r}: only safetensors in its folder are read")
        if Path(name).is_dir() and not (Path(name) / shard).is_file():
            raise ValueError(f"model {name!r}: it lacks {shard}, which {index.name} names")


def _file_of(name: str, file: str) -> Path | None:
    """A file of a folder, or of a model of the Hub; None where there is none, or nobody can look it up."""
    if Path(name).exists():
        return Path(name) / file if (Path(name) / file).is_file() else None
    try:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # loading it says so
        return None
    return None if found is None else Path(found)


def _read_object(name: str, file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"model {name!r} could not be loaded ({file.name} cannot be read: {error})") from error
    if not isinstance(held, dict):
        raise ValueError(f"model {name!r} could not be loaded ({file.name} holds no object)")
    return held


def require_complete(model: Any, info: dict[str, Any], name: str) -> None:
    """Raise `ValueError` where weights and config.json are not of one model; `info` is what transformers tells."""
    for weight, found, expected in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"model {name!r}: its weights {weight} have the shape {list(found)}, config.json makes it "
            f"{list(expected)}: take config.json and weights of one model"
        )
    missing, more = sorted(info["missing_keys"]), sorted(_left_out(model, info["unexpected_keys"]))
    if missing:
        raise ValueError(
            f"model {name!r}: its files lack the weights {missing[0]}{_others(missing)}, which config.json asks for: "
            "take config.json and weights of one model, all of them"
        )
    if more:
        raise ValueError(
            f"model {name!r}: its files have the weights {more[0]}{_others(more)}, which config.json leaves out: take "
            "config.json and weights of one model"
        )


def _left_out(model: Any, unexpected: Iterable[str]) -> list[str]:
    """The weights of the model's numbered layers among names that it has no place for; other heads are none."""
    known = {_NUMBER.sub("*", key) for key in model.state_dict()}
    known |= {key.removeprefix(f"{model.base_model_prefix}.") for key in known}
    layers = {key.split("*")[0] for key in known if "*" in key}

    def is_weight(place: str) -> bool:  # old files have buffers that look alike, such as attn.bias, a mask
        beside = place.removesuffix("bias") + "weight" if place.endswith(".bias") else place
        return place in known or beside in known or (place.endswith(".weight") and place.split("*")[0] in layers)

    places = {key: _NUMBER.sub("*", key) for key in unexpected}
    return [key for key, place in places.items() if "*" in place and is_weight(place)]


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def require_fitting(tokenizer: Any, model: Any, name: str) -> None:
    """Raise `ValueError` for a tokenizer with tokens that the model has no embedding for.

    A token that was added for pictures and the like may be beyond: neither a chat nor the tokenizer itself sets it.
    """
    rows = embedding_rows(model)
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    aside = {
        token
        for token, added in getattr(tokenizer, "added_tokens_decoder", {}).items()
        if added.special and token not in ends and added.content not in str(tokenizer.chat_template or "")
    }
    tokens = (ends | set(tokenizer.get_vocab().values())) - aside - {None}
    if tokens and max(tokens) >= rows:
        raise ValueError(
            f"model {name!r}: its tokenizer has tokens up to {max(tokens)}, its embedding only {rows} rows: take the "
            "tokenizer that the model was trained with"
        )


def embedding_rows(model: Any) -> int:
    """The number of tokens that a model reads; also where its weights lie on several devices."""
    embedding = model.get_input_embeddings()
    embedding = getattr(embedding, "base_layer", embedding)  # under an adapter
    return int(getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0])


def require_end(tokenizer: Any, name: str) -> None:
    """Raise `ValueError` for a tokenizer without both eos and pad token."""
    if tokenizer.eos_token is None and tokenizer.pad_token is None:
        raise ValueError(
            f"model {name!r}: its tokenizer has neither an eos_token nor a pad_token: name its eos_token in "
            "tokenizer_config.json"
        )
