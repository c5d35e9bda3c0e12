"""A method is one value: CPO, which is in neither front end, goes through all of the lake by its value alone.

The test of language models is `tests/lm/train/test_any_method.py`.
"""

import subprocess
import sys

import pandas as pd
import pytest
import torch

import ift
from figures.paradigms import needs
from toy import Lake, Settings, Trial, align, scored_states, sweep
from toy.frozenlake import main
from toy.picture import colour_of


# What a contributor writes, the test of it aside: a loss, and its value.
def cpo_loss(chosen, rejected, beta):
    """−log σ(β(ℓ_c − ℓ_r)) − ℓ_c (CPO, 2401.08417); summed log-probabilities `[...]`, β > 0."""
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)) - chosen


CPO = ift.Method(
    "cpo",
    "Contrastive preference optimisation (arXiv 2401.08417)",
    "target over negative without a reference, plus the target's negative log-probability",
    "pairs",
    cpo_loss,
    (ift.Number("beta", "β of the methods that learn from pairs", lake=0.5, text=0.1, above_low=True),),
    colour="#882255",
    alone=lambda chosen: -chosen,
)
QUICK = Settings(seeds=3, steps=8, width=16, start_steps=40)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(ift.METHODS, "cpo", CPO)


def test_the_command_trains_and_draws_it(monkeypatch, capsys, tmp_path):
    arguments = ["--method", "sft", "cpo", "cpo:beta=2", "--seeds", "3", "--steps", "8", "--width", "16"]
    monkeypatch.setattr(sys, "argv", ["frozenlake", *arguments, "--out", str(tmp_path / "out")])
    main()
    printed = capsys.readouterr().out
    assert " cpo " in printed
    assert " cpo β=2 " in printed
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    mse = runs.groupby("method")["parameter_mse"].mean()
    assert len({mse["sft"], mse["cpo"], mse["cpo:beta=2"]}) == 3


def test_python_sweeps_it_and_says_what_it_scores_and_needs():
    lake = Lake.make("ring")
    alone = align(lake, "cpo", QUICK).runs
    swept = sweep(lake, {"a": Trial("cpo", QUICK), "b": Trial("cpo", Settings(**{**QUICK.as_dict(), "beta": 3.0}))})
    pd.testing.assert_series_equal(
        swept[swept["trial"] == "a"]["parameter_mse"].reset_index(drop=True), alone["parameter_mse"], rtol=1e-9
    )
    assert (swept[swept["trial"] == "b"]["parameter_mse"].to_numpy() != alone["parameter_mse"].to_numpy()).all()
    assert scored_states(lake, "cpo", QUICK).lowered.sum() > 0
    assert colour_of("cpo") == colour_of("cpo:beta=2") == "#882255"
    assert needs("cpo") == ["pairs: yes", "reference policy: no", "sampling: negatives"]


def test_a_number_that_it_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match="cpo has no number 'lam'"):
        align(Lake.make("ring"), "cpo:lam=0.1", QUICK)
    with pytest.raises(ValueError, match="cpo.beta must be a finite number above 0, got -1".replace(".", r"\.")):
        Settings(numbers=("cpo.beta=-1",))


def test_help_texts_and_tables_name_it():
    """In a process of its own, as helps are made when their modules are imported."""
    program = """
import sys
import ift
beta = ift.Number("beta", "β of the methods that learn from pairs", lake=0.5, text=0.1, above_low=True)
ift.METHODS["cpo"] = ift.Method("cpo", "CPO", "CPO's loss", "pairs", lambda chosen, rejected, beta: chosen, (beta,))
sys.argv = ["x", "--help"]
from toy.frozenlake import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    printed = " ".join(done.stdout.replace("│", " ").split())
    assert ", cpo, or all" in printed
    assert "0.5 for cpo" in printed
