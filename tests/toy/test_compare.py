"""Two result folders side by side."""

import pytest

from toy import compare as module
from toy import frozenlake


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for name, lam in (("without", "0"), ("with", "0.5")):
        arguments = ["--method", "sft", "ift", "--lam", lam, "--seeds", "4", "--steps", "12", "--start-steps", "20"]
        frozenlake.run(
            frozenlake.parse_command([*arguments, "--prediction", "expected", "--out", str(root / name)]),
            frozenlake.Console(quiet=True),
        )
    return root / "without", root / "with"


def test_differences_are_paired_by_seed(folders):
    import pandas as pd

    rows = module.compare(*folders).set_index(["method", "metric"])
    assert set(rows["seeds"]) == {4}
    assert (rows.loc["sft", ["mean", "low", "high"]] == 0).all(axis=None)  # λ is nothing to SFT
    first, second = (pd.read_parquet(folder / "runs.parquet").query("method == 'ift'") for folder in folders)
    expected = (first["policy_mse"] - second["policy_mse"]).mean()
    assert expected != 0
    assert rows.loc[("ift", "policy_mse"), "mean"] == pytest.approx(expected, rel=1e-12)
    assert module.changed_settings(*folders) == {"settings.lam": (0.0, 0.5), "numbers.ift.lam": (0.0, 0.5)}


def test_the_command_says_what_changed(folders, capsys):
    module.run(module.Options(*folders))
    printed = capsys.readouterr().out
    assert "settings.lam: 0.0 in the first, 0.5 in the second" in printed
    assert "ift" in printed


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match=r"holds no runs\.parquet"):
        module.compare(folders[0], tmp_path)
    with pytest.raises(ValueError, match="metric 'reward' is no column"):
        module.compare(*folders, metrics=("reward",))
