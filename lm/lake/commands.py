"""What `python -m lm.lake` does: writes examples, and scores models."""

import math
import sys
import warnings
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common import models
from common.folders import write_json, write_whole, writing
from common.generation import require_tokens
from lm.lake.maps import random_maps, wrong_first_moves
from lm.lake.options import Data, Score, require
from lm.lake.scores import means, score_model
from lm.lake.teacher import examples, own_pairs
from lm.lake.tiny import located


def run(options: Data | Score) -> None:
    """Do what the options ask for; what the scores warn of is printed as notes."""
    models.offline()
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    if isinstance(options, Data):
        write_data(options)
    else:
        show_scores(options)


def write_data(options: Data) -> None:
    """Make the rows and write them, whole or not at all."""
    with writing(options.out):
        rows = _rows(options)
        if options.out.suffix == ".parquet":
            write_whole(options.out, lambda part: rows.to_parquet(part, index=False))
        else:
            write_whole(options.out, lambda part: rows.to_json(part, orient="records", lines=True, force_ascii=False))
    print(f"Written to {options.out}: {len(rows)} rows")


def _rows(options: Data) -> pd.DataFrame:
    settings: dict[str, Any] = {"size": options.size, "english": options.english, "same_tie": options.same_tie}
    if options.own is None:
        made = examples(options.rows, options.split, options.seed, kind=options.kind, **settings)
    else:
        model, tokenizer = models.load_trained(located(options.own))
        require_tokens(model, options.own)
        made = own_pairs(model, tokenizer, options.rows, options.split, options.seed, **settings)
    return pd.DataFrame(made)


def score(options: Score) -> dict[str, float]:
    """The means of `lm.lake.scores.score_model` on random maps.

    Raises:
        ValueError: a folder without model or tokenizer, or no map with a wrong first move.
    """
    model, tokenizer = models.load_trained(located(options.model))
    require_tokens(model, options.model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    generator = np.random.default_rng([options.seed, 1])
    letters = random_maps(
        options.maps, options.split, generator, options.size, options.holes, new_ends=options.new_ends
    )
    first_moves = None
    if options.wrong_first:
        first_moves = wrong_first_moves(letters)
        letters, first_moves = letters[first_moves >= 0], first_moves[first_moves >= 0]
        require(options, "wrong_first", len(letters) > 0, f"off: none of {options.maps} maps has such a move")
    rows = score_model(
        model, tokenizer, letters, english=options.english, slippery=options.slippery, first_moves=first_moves
    )
    return {"maps": float(len(letters)), **means(rows)}


def show_scores(options: Score) -> None:
    """Print the scores, and write them if `out` says so, which is no file of the model's."""
    if options.out is not None and options.out.absolute().parent == Path(options.model).absolute():
        raise ValueError(f"out {str(options.out)!r} lies in the model's folder: give another place")
    with nullcontext() if options.out is None else writing(options.out):
        scores = score(options)
        if options.out is not None:
            known = {name: None if math.isnan(value) else value for name, value in scores.items()}
            asked = {name: value for name, value in asdict(options).items() if name != "out"}
            write_json(options.out, {"options": asked, "scores": known})
    for name, value in scores.items():
        print(f"{name:<28} {value:.4f}")
