"""The base models from which the methods are compared on the lake in words, one a seed."""

from pathlib import Path

from common.folders import made_once, write_whole


def base_folder(bases: Path, seed: int, updates: int, examples: int) -> Path:
    """The base model of a seed and its data, made if it is not there: optimal walks beside the model's own."""
    folder = bases / f"seed-{seed}"
    return made_once(folder, lambda: write_whole(folder, lambda part: _make_base(part, seed, updates, examples)))


def _make_base(folder: Path, seed: int, updates: int, examples: int) -> None:
    import pandas as pd

    from lm.lake.base import train_base
    from lm.lake.teacher import own_pairs
    from lm.lake.words import make_tokenizer

    model, tokenizer = train_base(seed, updates), make_tokenizer()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pairs = own_pairs(model, tokenizer, examples, "train", seed)
    pd.DataFrame(pairs).to_json(folder / "pairs.jsonl", orient="records", lines=True)
