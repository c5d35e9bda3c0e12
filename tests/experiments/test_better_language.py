"""What the comparison of standing still with SFT on the lake in words says of its scores."""

import numpy as np
import pandas as pd
import pytest

from experiments.better_language_trials import GROUPS, SCALE, means, verdicts
from experiments.lake_language import QUICK


def made_up(gain):
    """Scores of two trials on 3 seeds and 20 maps, in which `still` is better by `gain` everywhere, give or take."""
    generator, rows = np.random.default_rng(0), []
    for name, shift in (("sft", 0.0), ("still", gain)):
        for seed in (101, 102, 103):
            for number in range(20):
                noise = generator.normal(0, 0.01)
                rows.append({
                    "protocol": "p", "trial": name, "settings": name, "set": "test maps", "seed": seed, "map": number,
                    "state_policy_mse": 0.2 - shift + noise, "state_value_gap": 0.5 - shift + noise,
                    "state_success": 0.5 + shift + noise, "success": 0.5,
                })  # fmt: skip
    wrong = pd.DataFrame(rows).assign(set="wrong first move", success=0.25)
    return pd.concat([pd.DataFrame(rows), wrong], ignore_index=True)


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_a_difference_has_the_sign_of_the_gain_and_its_interval_covers_it(gain):
    table = verdicts(made_up(gain)).set_index("metric")
    for metric in ("state_policy_mse", "state_value_gap", "state_success"):
        row = table.loc[metric]
        assert row["effect"] == pytest.approx(gain, abs=0.01)
        assert row["low"] < gain < row["high"]
        assert row["low"] * row["high"] > 0
        assert row["seeds"] == 3
    assert table.loc["success", ["effect", "low", "high"]].eq(0).all()


def test_means_are_those_of_test_maps():
    table = means(made_up(0.1)).set_index("trial")
    assert table.loc["sft", "success"] == 0.5
    assert table.loc["sft", "wrong_first"] == 0.25
    assert table.loc["still", "state_policy_mse"] == pytest.approx(0.1, abs=0.01)


def test_both_choose_among_as_many_settings_on_other_base_models_than_those_that_count():
    assert {len(trials) for trials in GROUPS.values()} == {8}
    assert len({trial.name for trials in GROUPS.values() for trial in trials}) == 16
    assert len(SCALE.held_out_seeds) == 5
    assert not set(SCALE.held_out_seeds) & set(SCALE.development_seeds)
    assert SCALE.base_updates == QUICK.base_updates
