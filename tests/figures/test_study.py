"""The study's table and figure, from made-up scores."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import study
from figures import study as figure

SETTINGS = {"model": "small.gguf sha256 0", "updates": 2, "rows": 4, "batch_size": 2, "learning_rate": 1e-4,
            "seeds": [0, 1], "questions": 50, "max_new_tokens": 8, "max_length": 64,
            "fit": {"train.jsonl": 1000, "pairs.jsonl": 9}}  # fmt: skip


@pytest.fixture
def runs():
    """Every run lowers each loss by 0.5, 10 of 50 questions are right; the base has 5 right."""
    base = np.random.default_rng(0).uniform(1, 3, 50)
    frames = [pd.DataFrame({"run": "base", "seed": 0, "loss": base, "right": np.arange(50) < 5})]
    for seed in (0, 1):
        for name in study.RUNS:
            right = np.arange(50) < 10
            cost = {"seconds_per_update": 2.0 + seed, "peak_gigabytes": 3.0}
            frames.append(pd.DataFrame({"run": name, "seed": seed, "loss": base - 0.4 - 0.2 * seed, "right": right}))
            frames[-1] = frames[-1].assign(**cost)
    return pd.concat(frames, ignore_index=True).astype({"right": float})


def test_the_table_pairs_questions_and_averages_seeds(runs):
    numbers = study.table(runs)
    assert list(numbers.index) == ["base", *study.RUNS]
    for name in study.RUNS:
        row = numbers.loc[name]
        assert row["minus base"] == pytest.approx(-0.5)
        assert row["from"] == pytest.approx(-0.5)  # every question gained as much: pairing leaves no spread
        assert row["to"] == pytest.approx(-0.5)
        assert row["exact match %"] == pytest.approx(20)
        assert row["at least"] < 20 < row["at most"]
        assert row["s per update"] == pytest.approx(2.5)
    assert numbers.loc["base", "minus base"] == 0


def test_the_figure_is_drawn_from_the_studys_folder(runs, tmp_path):
    with pytest.raises(ValueError, match="holds no finished study"):
        figure.study(tmp_path, False, 1)
    folder = tmp_path / "study-runs"
    folder.mkdir()
    runs.to_parquet(folder / "runs.parquet")
    (folder / "config.json").write_text(json.dumps({"study": SETTINGS}))
    written = figure.study(tmp_path, False, 1)
    assert [path.name for path in written] == ["study.png", "study.svg", "study.md"]
    caption = (tmp_path / "study.md").read_text()
    assert "2 updates of 2 examples drawn from 4, step size 0.0001" in caption
    assert "seeds 0, 1" in caption
    assert "64 tokens are taken (1,000 of train.jsonl, 9 of pairs.jsonl)" in caption
    assert caption.startswith("small.gguf after LoRA")
    assert "| IFT, lagged |" in caption
    assert caption.count("-0.500 (-0.500 to -0.500)") == len(study.RUNS)
