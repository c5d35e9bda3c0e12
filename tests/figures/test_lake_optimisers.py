"""The answer is in the numbers, and the picture is drawn from them."""

import json

import pandas as pd
import pytest

from experiments.lake_optimisers import METRICS, TRIALS
from figures import lake_optimisers as figure

_SPEED = {"dpo": 4.0, "ift": 3.0, "orpo": 2.0, "sft": 1.0, "dpo:beta=0.1": 0.4}


def made_up(gain):
    """Curves of three seeds; every metric falls by `gain(trial, travelled)`. Adam takes all equally far."""
    rows = []
    for optimiser in figure.OPTIMISERS:
        for trial in TRIALS:
            for seed in (1, 2, 3):
                for update in (0, 2, 4):
                    travelled = update * (_SPEED[trial] if optimiser == "sgd" else 1 + 0.01 * _SPEED[trial])
                    value = 10 + 0.1 * seed - gain(trial, travelled) * (1 + 0.01 * seed)
                    rows.append({"optimiser": optimiser, "learning_rate": 1.0, "trial": trial, "seed": seed,
                                 "update": update, "gradient": _SPEED[trial], "travelled": travelled,
                                 **dict.fromkeys(METRICS, value)})  # fmt: skip
    return pd.DataFrame(rows)


def test_the_verdict_follows_from_the_numbers():
    own = {"sft": 1.0, "orpo": 4.0, "ift": 2.0, "dpo": 3.0, "dpo:beta=0.1": 0.0}
    length_only = figure.findings(made_up(lambda trial, travelled: 0.1 * travelled + 0.005 * own[trial]))
    assert set(figure.verdict(length_only).values()) == {"yes"}
    own_way = figure.findings(made_up(lambda trial, travelled: own[trial] * min(travelled, 1)))
    assert set(figure.verdict(own_way).values()) == {"no"}
    assert "policy MSE, yes" in figure.answer(length_only)
    assert "policy MSE, no" in figure.answer(own_way)


@pytest.fixture
def written(tmp_path, monkeypatch):
    rows = made_up(lambda trial, travelled: 0.1 * travelled + 0.005 * _SPEED[trial])
    monkeypatch.setattr(figure, "run_trainings", lambda folder, quick, jobs: rows)
    return figure.lake_optimisers(tmp_path, True, 1)


def test_it_is_drawn_from_the_trainings(written, tmp_path):
    assert {path.name for path in written} == {
        "lake-optimisers.json", "lake-optimisers.png", "lake-optimisers.svg", "lake-optimisers.md",
    }  # fmt: skip
    caption = (tmp_path / "lake-optimisers.md").read_text()
    assert caption.strip().endswith("Made by `python -m figures lake-optimisers --quick`.")
    assert "has no counterpart here" in caption


def test_the_file_has_the_answer_and_every_number(written, tmp_path):
    def refuse(text):
        raise ValueError(f"{text} is not JSON")

    data = json.loads((tmp_path / "lake-optimisers.json").read_text(), parse_constant=refuse)
    assert data["answer"] in (tmp_path / "lake-optimisers.md").read_text()
    assert data["command"] == "python -m figures lake-optimisers --quick"
    assert len(data["differences"]) == 2 * 2 * len(METRICS) * 6
    assert {each["metric"] for each in data["accounts"]} == set(METRICS)
