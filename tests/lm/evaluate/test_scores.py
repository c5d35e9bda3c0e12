"""Intervals and tests of a comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lm.evaluate.scores import difference_interval, mcnemar


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_mcnemar_is_a_fair_coin_over_the_questions_that_differ(pairs):
    a, b = np.array(pairs, float).T
    first, second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    coin = stats.binom(first + second, 0.5)
    expected = min(1.0, 2 * coin.cdf(min(first, second))) if first + second else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


def test_the_interval_of_a_paired_difference_holds_the_truth_nineteen_times_of_twenty():
    generator = np.random.default_rng(1)
    intervals = [difference_interval(generator.normal(0.3, 1, 80), resamples=400) for _ in range(300)]
    assert 0.9 < np.mean([low < 0.3 < high for low, high in intervals]) < 0.98
