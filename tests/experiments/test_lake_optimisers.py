"""Trainings at one learning rate are measured on the way, and compared where they have gone equally far."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from common.models import load_trained
from experiments import lake_optimisers as module
from experiments.lake_optimisers import METRICS, PAPERS_METHODS, TRIALS, Scale, curves
from experiments.lake_optimisers_findings import BASES, accounts, differences, mean_interval, readings, standings
from toy import protocol

TINY = Scale(seeds=(1,), base_updates=2, examples=8, points=(2, 4), maps=4)
_SPEED = {"dpo": 4.0, "ift": 3.0, "orpo": 2.0, "sft": 1.0, "dpo:beta=0.1": 0.4}


def made_up(gain):
    """Curves of three seeds whose distance to the optimum falls by `gain(trial, travelled)`, at updates 0, 2 and 4."""
    rows = [
        {"optimiser": optimiser, "learning_rate": 1.0, "trial": trial, "seed": seed, "update": update,
         "gradient": speed, "travelled": speed * update, **dict.fromkeys(METRICS, 0.0),
         "policy_mse": 10 + 0.1 * seed - gain(trial, speed * update)}
        for optimiser in ("sgd", "adamw_torch") for trial, speed in _SPEED.items()
        for seed in (1, 2, 3) for update in (0, 2, 4)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_numbers_are_those_of_the_lakes_protocol():
    from ift import METHODS as ALL

    settings = protocol("paper")
    for method in PAPERS_METHODS:
        given = {name: value for name, value in TRIALS[method].items() if name not in ("method", "form")}
        assert given.items() <= settings.numbers_of(ALL[method]).items()
    assert TRIALS["ift"]["form"] == settings.form


def test_a_difference_that_is_only_length_is_gone_at_equal_distance():
    read = readings(made_up(lambda trial, travelled: 0.1 * travelled))
    equal = read[(read["basis"] == BASES[1]) & read["trial"].isin(PAPERS_METHODS)]
    assert equal["travelled"].to_numpy() == pytest.approx(4)  # as far as SFT, which goes least far of the four
    assert equal.groupby("seed")["policy_mse"].std().to_numpy() == pytest.approx(0, abs=1e-12)
    account = next(each for each in accounts(read) if (each.optimiser, each.metric) == ("sgd", "policy_mse"))
    assert account.by_length == pytest.approx(1)
    assert account.spread_left == pytest.approx(0, abs=1e-9)
    assert (account.kept, account.lost, account.turned) == (0, 6, 0)


def test_a_difference_that_is_not_length_stays():
    better = {"sft": 3.0, "orpo": 2.0, "ift": 1.0, "dpo": 0.0, "dpo:beta=0.1": 0.0}
    read = readings(made_up(lambda trial, travelled: better[trial] * min(travelled, 1)))
    account = next(each for each in accounts(read) if (each.optimiser, each.metric) == ("sgd", "policy_mse"))
    assert account.by_length == pytest.approx(-1)  # who goes farther is worse
    assert account.spread_left > 0.3
    assert account.kept + account.turned + account.lost == 6
    first = next(each for each in differences(read) if (each.first, each.second) == ("dpo", "sft")
                 and each.metric == "policy_mse")  # fmt: skip
    assert first.sign == -1
    ranks = {each.trial: each.rank for each in standings(read)
             if (each.optimiser, each.basis, each.metric) == ("sgd", BASES[0], "policy_mse")}  # fmt: skip
    assert ranks == {"sft": 1, "orpo": 2, "ift": 3, "dpo": 4, "dpo:beta=0.1": None}


def test_who_does_not_get_as_far_is_left_out():
    read = readings(made_up(lambda trial, travelled: 0.1 * travelled))
    short = [each for each in standings(read) if each.trial == "dpo:beta=0.1"]
    assert {each.basis for each in short} == {BASES[0]}
    assert not any(np.isnan(each.mean) for each in short)


def test_the_interval_is_students():
    assert mean_interval(pd.Series([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_a_training_is_measured_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIALS", {name: TRIALS[name] for name in ("sft", "ift")})
    rows = curves(tmp_path, TINY, {"sgd": (0.1,)}, 1)
    assert list(rows["update"]) == [0, 2, 4] * 2
    assert (rows[rows["update"] == 0]["travelled"] == 0).all()
    sft = rows[rows["trial"] == "sft"]
    assert sft["travelled"].is_monotonic_increasing
    base, _ = load_trained(str(tmp_path / "base-models" / "seed-1"))
    # With gradients clipped at 1, two steps of 0.1 could not go farther than 0.2.
    assert sft["travelled"].iloc[1] > 0.21
    measure = module._Measure(tmp_path / "base-models" / "seed-1", TINY)
    with torch.no_grad():
        losses = [
            float(base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss)
            for row in measure.tokens
        ]
    assert sft["held_out_loss"].iloc[0] == pytest.approx(np.mean(losses), rel=1e-5)
    pd.testing.assert_frame_equal(curves(tmp_path, TINY, {"sgd": (0.1,)}, 1), rows)
    with pytest.raises(ValueError, match="results of another rates"):
        curves(tmp_path, TINY, {"sgd": (0.2,)}, 1)


def test_where_there_is_no_checkpoint_nothing_was_measured(tmp_path):
    measure = module._Measure.__new__(module._Measure)
    assert all(np.isnan(value) for value in measure(tmp_path / "checkpoint-8").values())


def test_settings_are_the_same_for_all():
    assert module.SHARED["lr_scheduler_type"] == "constant"
    assert json.loads(json.dumps(module.SHARED)) == module.SHARED
    assert set(PAPERS_METHODS) < set(TRIALS)
