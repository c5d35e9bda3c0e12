from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import lambda_gamma as experiment
from experiments.lakes import has_second_way
from experiments.lambda_gamma import FORMS, LAKES, PREDICTIONS, PROTOCOL_NAMES, Plane, relative_to_sft, residual_effect
from figures import lambda_gamma as drawn

SHOWN = LAKES[2:4] + LAKES[10:12]


def made_up(distance_of):
    """Two seeds of everything; `distance_of(protocol, form, lake, lam, gamma)` is both distances, the start's is 2."""
    rows = [
        {"protocol": name, "form": form, "prediction": prediction, "lake": lake.key, "slippery": lake.slippery,
         "lam": lam, "gamma": gamma, "seed": seed, "start_parameter_mse": 2.0, "start_policy_mse": 2.0,
         "parameter_mse": distance_of(name, form, lake, lam, gamma) + sign,
         "policy_mse": distance_of(name, form, lake, lam, gamma)}
        for name, form, prediction, lake, lam, gamma in product(
            PROTOCOL_NAMES, FORMS, PREDICTIONS, SHOWN, (0.0, 0.2, 1.0), (0.0, 0.5, 0.95)
        )
        if prediction == "greedy" or gamma == 0.95
        for seed, sign in ((0, -0.1), (1, 0.1))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def helps_on_slippery_ice(name, form, lake, lam, gamma):
    """As METHOD has it of the protocol paper and the form sum; λ harms with Adam."""
    if name == "adam":
        return 1 + lam
    return 1 - 0.5 * lam * (lam < 1) * lake.slippery * (form == "sum") - 0.1 * gamma


def test_planes_are_relative_to_sft_on_the_same_lake():
    """Lakes at ten times the distance count no more than others."""
    runs = made_up(lambda name, form, lake, lam, gamma: (10 if lake == SHOWN[0] else 1) * (1 - 0.2 * gamma))
    table = relative_to_sft(runs, "parameter_mse")
    assert np.allclose(table.loc[("paper", "sum", False, 0.95)], 100 * (1 - 0.19))
    assert np.allclose(table.loc[("paper", "sum", False, 0.0)], 100)


def test_the_effect_of_the_residual_is_a_change_from_lambda_0():
    effect = residual_effect(made_up(helps_on_slippery_ice), "policy_mse").set_index(
        ["protocol", "form", "prediction", "slippery", "gamma", "lam"]
    )
    on_ice = effect.loc[("paper", "sum", "greedy", True, 0.95, 0.2)]
    assert on_ice["change"] == pytest.approx(-100 * 0.1 / 2)
    assert (on_ice["closer"], on_ice["lakes"]) == (2, 2)
    without = effect.loc[("paper", "sum", "greedy", False, 0.95, 0.2)]
    assert (without["change"], without["closer"]) == (0, 0)


def test_a_stopped_run_is_no_help():
    runs = made_up(helps_on_slippery_ice)
    runs.loc[(runs["lam"] == 0.2) & (runs["seed"] == 0) & (runs["lake"] == SHOWN[2].key), "parameter_mse"] = np.nan
    effect = residual_effect(runs, "parameter_mse").set_index(
        ["protocol", "form", "prediction", "slippery", "gamma", "lam"]
    )
    row = effect.loc[("paper", "sum", "greedy", True, 0.95, 0.2)]
    assert np.isnan(row["change"])
    assert (row["closer"], row["lakes"]) == (1, 2)


def test_the_caption_says_where_the_residual_helps(monkeypatch, tmp_path):
    plane = Plane(made_up(helps_on_slippery_ice), SHOWN, 2)
    monkeypatch.setattr(drawn, "run_lambda_gamma", lambda *_: plane)
    written = drawn.lambda_gamma(tmp_path, True, 1)
    assert [path.suffix for path in written] == [".png", ".svg", ".md"]
    assert np.asarray(Image.open(written[0]).convert("L")).std() > 5
    caption = written[2].read_text()
    assert "in: paper, sum, slippery (every prediction). It harms as surely in: adam, sum, not slippery" in caption
    assert "paper, sum: not slippery +0.00 (0 of 2), slippery -5.00 (2 of 2)" in caption
    assert "weights" not in caption
    assert caption.rstrip().endswith("Made by `python -m figures lambda-gamma --quick`.")


def test_the_lakes_have_a_second_way_and_no_audit_reports_on_them():
    from experiments.lakes import DEVELOPMENT_LAKES, HELD_OUT_LAKES

    assert all(has_second_way(lake.make()) for lake in LAKES)
    assert {lake.map for lake in LAKES}.isdisjoint(lake.map for lake in (*DEVELOPMENT_LAKES, *HELD_OUT_LAKES))


def test_every_point_is_trained_once_with_greedy_predictions():
    runs = experiment._runs_of("paper", SHOWN[0], (0.0, 0.2), (0.0, 0.95), 2)
    counts = runs.groupby(["form", "prediction"]).size()
    assert set(counts.xs("greedy", level="prediction")) == {2 * 2 * 2}
    assert set(counts.drop("greedy", level="prediction")) == {2 * 2}
    assert set(runs["gamma"][runs["prediction"] == "sampled"]) == {0.95}
