"""The end of a training on the lake: base, trained model and optimum side by side, one unseen map before and after."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from common.models import load_trained
from lm.lake import tiny
from lm.lake.maps import random_maps
from lm.lake.scores import means, score_model
from lm.train.data import Source
from lm.train.settings import TrainSettings

TEST_MAPS = 200
_SHOWN = {  # column: its name in `means`, the optimum's value, scale, format
    "goal reached\n(greedy)": ("success", 1.0, 1, "{:.1%}"),
    "shortest\nwalk": ("shortest", 1.0, 1, "{:.1%}"),
    "goal reached\n(sampled)": ("success_sampled", 1.0, 1, "{:.1%}"),
    "best moves\n(by state)": ("state_agreement", 1.0, 1, "{:.1%}"),
    "policy MSE\n×10⁻³": ("state_policy_mse", 0.0, 1000, "{:.1f}"),
    "KL\nnats": ("state_policy_kl", 0.0, 1, "{:.2f}"),
    "value\ngap": ("state_value_gap", 0.0, 1, "{:.3f}"),
}


def plays(settings: TrainSettings) -> bool:
    """Whether the lake's small model learns to play the lake."""
    return settings.model == tiny.NAME and any(Source.of(text).name == "lake" for text in settings.dataset)


def played(model: Any, tokenizer: Any, settings: TrainSettings) -> pd.DataFrame | None:
    """The scores on held-out maps, a row each, where there is a lake and one process."""
    if not plays(settings) or PartialState().num_processes > 1:
        return None
    return score_model(model, tokenizer, _maps(settings))


def show(folder: Path, settings: TrainSettings, before: pd.DataFrame, console: Console) -> None:
    """Load what was written, score it as `before` was, and draw the first map on which it changed its mind."""
    after = played(*load_trained(str(folder)), settings)
    assert after is not None
    table = Table("", *_SHOWN, title=f"{TEST_MAPS} unseen maps", title_justify="left", box=None)
    optimum = {name: best for name, best, _, _ in _SHOWN.values()}
    for name, scores in (("base", means(before)), (settings.method, means(after)), ("optimum", optimum)):
        table.add_row(name, *(form.format(scale * scores[key]) for key, _, scale, form in _SHOWN.values()))
    console.print(table)
    shown = int((before["walk"] != after["walk"]).argmax())  # the first on which it changed its mind
    console.print()
    for row in _maps(settings)[shown]:
        console.print("  " + " ".join(row))
    console.print(f"before: {before['walk'][shown]}\nafter:  {after['walk'][shown]}\n", markup=False)


def _maps(settings: TrainSettings) -> np.ndarray:
    return random_maps(TEST_MAPS, "test", np.random.default_rng([settings.seed, 1]))
