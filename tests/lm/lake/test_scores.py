"""All scores of a model together."""

import numpy as np
import pytest

from lm.lake import make_model, make_tokenizer
from lm.lake.scores import means, score_model


def test_scores_of_a_model_are_shares_and_follow_the_seed(letters, player):
    rows = score_model(*player, letters)
    assert len(rows) == len(letters)
    found = means(rows)
    assert sum(value for name, value in found.items() if name.startswith("outcome_")) == pytest.approx(1)
    assert found["success"] == found["outcome_goal"] >= found["shortest"]
    assert 0 < found["outside"] < 1
    np.testing.assert_equal(means(score_model(*player, letters)), found)


def test_means_are_over_maps_that_have_the_number(letters, player):
    rows = score_model(*player, letters)
    assert rows["extra_steps"].isna().sum() == (~rows["success"]).sum()
    assert means(rows.assign(extra_steps=[2.0, *[np.nan] * (len(rows) - 1)]))["extra_steps"] == 2


def test_what_cannot_be_scored_is_counted_and_said(letters):
    tokenizer = make_tokenizer()
    small = make_model(tokenizer, 0)
    small.config.max_position_embeddings = 20
    with pytest.warns(UserWarning, match=r"no scores by state: a map needs \d+ tokens, the model's context has 20"):
        found = means(score_model(small, tokenizer, letters))
    assert found["outcome_no_room"] == 1
    assert found["success"] == 0
    assert np.isnan(found["state_policy_mse"])


def test_slippery_ice_has_no_shortest_walks(letters, player):
    found = means(score_model(*player, letters, slippery=True))
    assert "shortest" not in found
    assert 0 <= found["state_success"] <= 1
