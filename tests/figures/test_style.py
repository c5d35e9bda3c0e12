from matplotlib.figure import Figure

from figures.style import save


def test_a_layout_that_differs_in_its_last_digits_gives_the_same_bytes(tmp_path):
    """The layout's solver orders its variables by address, so that sizes vary by an ulp between drawings."""

    def draw(name, ulps):
        figure = Figure(figsize=(4, 4), layout="constrained")
        for part in figure.subfigures(2, 1, height_ratios=(1, 1.1 * (1 + ulps * 2.2e-16))):
            for axes in part.subplots(1, 2, width_ratios=(1, 1.7 * (1 + ulps * 2.2e-16))):
                axes.plot([0, 1, 4])
                axes.set_title("a title")
        return [path.read_bytes() for path in save(figure, tmp_path / name, "figure")]

    assert draw("first", 0) == draw("second", 40)
