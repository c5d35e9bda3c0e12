"""What a model's folder says of generation (generation_config.json), and which part of it counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

from common.weights import embedding_rows

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_FIRST = ("do_sample", "num_beams", "use_cache", "return_dict_in_generate")  # others are valid with these only


def require_tokens(model: Any, name: str) -> None:
    """Raise `ValueError` where the folder names tokens that the model does not have."""
    rows = embedding_rows(model)
    for field in _TOKENS:
        named = getattr(model.generation_config, field, None)
        if named is None or (field == "pad_token_id" and named == -1):  # as some old models say that they have none
            continue
        tokens = named if isinstance(named, list) and named else [named]
        if not all(type(token) is int and 0 <= token < rows for token in tokens):
            raise ValueError(
                f"model {name!r}: generation_config.json (or config.json) has {field} {str(named)[:100]!r}: it must be "
                f"a token from 0 to {rows - 1}, or a list of them"
            )


@contextmanager
def tokens_only(model: Any) -> Iterator[None]:
    """What the folder says of sampling, beams, penalties and lengths is left aside for a while, its tokens are not."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = getattr(inner, "generation_config", None)
    if before is not None:
        inner.generation_config = _only_tokens(before)
    try:
        yield
    finally:
        if before is not None:
            inner.generation_config = before


def _only_tokens(config: GenerationConfig) -> GenerationConfig:
    return GenerationConfig(**{field: getattr(config, field, None) for field in _TOKENS})


def make_savable(model: Any) -> Any:
    """Drop what transformers refuses to save of the model's generation, such as a temperature without sampling."""
    held = getattr(model, "generation_config", None)
    if held is None or _is_savable(held):
        return model
    kept = _only_tokens(held)
    kept.pad_token_id = None if kept.pad_token_id == -1 else kept.pad_token_id
    kept._from_model_config = held._from_model_config
    fields = {name: value for name, value in held.to_diff_dict().items() if name not in _TOKENS}
    for name in sorted(fields, key=lambda name: name not in _FIRST):
        before = getattr(kept, name, None)
        setattr(kept, name, fields[name])
        if not _is_savable(kept):
            setattr(kept, name, before)
    model.generation_config = kept
    return model


def _is_savable(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except Exception:  # values of other types, too
        return False
    return True
