"""Reading runs at equal distance travelled, against the definition."""

import numpy as np
import pandas as pd
import pytest

from experiments.audit import at_equal_distance
from experiments.step_length import predicted_factor
from toy import protocol


def curve(trial, seed, travelled, mse):
    return pd.DataFrame(
        {"trial": trial, "seed": seed, "travelled": travelled, "parameter_mse": mse, "policy_mse": np.multiply(mse, 2)}
    )


def test_every_curve_is_read_where_the_shortest_one_ends():
    curves = pd.concat(
        [
            curve("sft", 1, [0.0, 1.0, 2.0], [10.0, 9.0, 8.0]),
            curve("dpo", 1, [0.0, 4.0, 8.0], [10.0, 6.0, 2.0]),
            curve("sft", 2, [0.0, 3.0], [10.0, 7.0]),
            curve("dpo", 2, [0.0, 1.0], [10.0, 5.0]),
        ]
    )
    rows = at_equal_distance(curves).set_index(["trial", "seed"])
    assert rows["travelled"].to_dict() == {("sft", 1): 2.0, ("dpo", 1): 2.0, ("sft", 2): 1.0, ("dpo", 2): 1.0}
    assert rows["parameter_mse"].to_dict() == {("sft", 1): 8.0, ("dpo", 1): 8.0, ("sft", 2): 9.0, ("dpo", 2): 5.0}
    assert rows["policy_mse"].to_dict() == {("sft", 1): 16.0, ("dpo", 1): 16.0, ("sft", 2): 18.0, ("dpo", 2): 10.0}


def test_a_curve_that_turns_back_is_read_where_it_first_is_that_far():
    curves = pd.concat(
        [curve("sft", 1, [0.0, 2.0, 1.0, 3.0], [9.0, 5.0, 4.0, 1.0]), curve("ift", 1, [0.0, 1.0], [9.0, 8.0])]
    )
    rows = at_equal_distance(curves).set_index("trial")
    assert rows.loc["sft", "parameter_mse"] == 7.0


def test_a_stopped_run_has_no_distance_there():
    curves = pd.concat([curve("sft", 1, [0.0, np.nan], [9.0, np.nan]), curve("ift", 1, [0.0, 1.0], [9.0, 8.0])])
    rows = at_equal_distance(curves).set_index("trial")
    assert rows.loc["ift", "parameter_mse"] == 9.0  # nobody went farther than the start in common


def test_predicted_lengths_follow_from_the_forms():
    settings = protocol("paper")
    assert predicted_factor("sft", 5, settings) == 1
    assert predicted_factor("dpo", 5, settings) == 2.5
    assert predicted_factor("orpo", 5, settings) == pytest.approx(1.1)
    assert predicted_factor("ift", 2, settings) == pytest.approx((1 + 1.95) / 2)
