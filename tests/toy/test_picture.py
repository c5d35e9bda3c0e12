"""What a picture and a table show of a method that has gone far off."""

from matplotlib.figure import Figure

from toy.picture import draw_errors
from toy.report import _number


def test_a_method_far_beyond_the_start_is_a_number_and_the_others_keep_their_scale():
    means = {"start": 0.02, "sft": 0.01, "ipo": 3e16}
    around = {name: {"policy_mse": {"mean": m, "low": 0.9 * m, "high": 1.1 * m}} for name, m in means.items()}
    axes = Figure().subplots()
    draw_errors(axes, {"methods": around, "mixed": {}}, "policy_mse", "policy MSE")
    assert axes.get_xlim()[1] < 0.1
    assert "3e+19 →" in [text.get_text() for text in axes.texts]


def test_large_numbers_of_a_table_are_short():
    assert [_number(value) for value in (12.345, -99_999.0, 2.2523e19)] == ["12.35", "-99999.00", "2.3e+19"]
