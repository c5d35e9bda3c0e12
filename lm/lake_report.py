"""The end of a training on the lake: base, trained model and optimum side by side, one unseen map before and after."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from lm import lake
from lm.data import Source
from lm.models import load_trained
from lm.scores import play, score_model
from lm.settings import Settings

TEST_MAPS = 200
_SHOWN = {  # column: its name in `score_model`, the optimum's value, format
    "goal reached\n(greedy)": ("success", 1.0, "{:.1%}"),
    "shortest\nwalk": ("shortest", 1.0, "{:.1%}"),
    "goal reached\n(sampled)": ("success_sampled", 1.0, "{:.1%}"),
    "best moves\n(by state)": ("state_agreement", 1.0, "{:.1%}"),
    "policy MSE\n×10⁻³": ("state_policy_mse", 0.0, "{:.1f}"),
    "KL\nnats": ("state_policy_kl", 0.0, "{:.2f}"),
    "value\ngap": ("state_value_gap", 0.0, "{:.3f}"),
}


@dataclass(frozen=True)
class Played:
    """What a model scored on the unseen maps, and its greedy walks."""

    scores: dict[str, float]
    walks: list[list[int]]


def plays(settings: Settings) -> bool:
    """Whether the lake's small model learns to play the lake."""
    return settings.model == "tiny-lake" and any(Source.of(text).name == "lake" for text in settings.dataset)


def played(model: Any, tokenizer: Any, settings: Settings) -> Played | None:
    """The scores on held-out maps, where there is a lake and one process."""
    if not plays(settings) or PartialState().num_processes > 1:
        return None
    maps = _maps(settings)
    return Played(score_model(model, tokenizer, maps), play(model, tokenizer, maps)[1])


def show(folder: Path, settings: Settings, before: Played, console: Console) -> None:
    """Load what was written, score it as `before` was, and draw the first map on which it changed its mind."""
    after = played(*load_trained(str(folder)), settings)
    assert after is not None
    table = Table("", *_SHOWN, title=f"{TEST_MAPS} unseen maps", title_justify="left", box=None)
    optimum = {name: best for name, best, _ in _SHOWN.values()}
    for name, scores in (("base", before.scores), (settings.method, after.scores), ("optimum", optimum)):
        table.add_row(name, *(_text(scores[key], form) for key, _, form in _SHOWN.values()))
    console.print(table)
    shown = next((i for i, (old, new) in enumerate(zip(before.walks, after.walks, strict=True)) if old != new), 0)
    console.print()
    for row in _maps(settings)[shown]:
        console.print("  " + " ".join(row))
    console.print(f"before: {lake.in_words(before.walks[shown])}\nafter:  {lake.in_words(after.walks[shown])}\n")


def _text(value: float, form: str) -> str:
    return form.format(1000 * value if form == "{:.1f}" else value)


def _maps(settings: Settings) -> np.ndarray:
    return lake.random_maps(TEST_MAPS, "test", np.random.default_rng([settings.seed, 1]))
