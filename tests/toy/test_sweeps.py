from dataclasses import replace

import numpy as np
import pytest

from toy import Lake, Settings, Trial, align, experiment, sweep
from toy.metrics import METRICS

BASE = Settings(seeds=3, steps=12, width=16, start_steps=40, prediction="expected")
LAKE = Lake.make("ring")


def trials():
    """Numbers mixed within a block, and choices that need blocks of their own."""
    numbers = {
        "ift": [{"lam": lam, "gamma": gamma} for lam in (0.0, 0.3) for gamma in (0.0, 0.7, 0.95)],
        "dpo": [{}, {"beta": 0.1}, {"beta": 0.5, "label_smoothing": 0.2}, {"negatives": "start"}],
        "orpo": [{}, {"beta": 0.3}],
        "ppo": [{}, {"clip": 0.05}],
        "simpo": [{"margin": 0.1}, {"margin": 1.0, "beta": 1.0}],
        "kto": [{}, {"beta": 0.2}],
        "sft": [{}, {"lr": 1e-2}, {"start": "random"}, {"seed": 5, "seeds": 2}],
    }
    named = {f"{method} {change}": (method, change) for method, changes in numbers.items() for change in changes}
    named |= {
        "noise": ("ift", {"residual": "noise"}),
        "sum": ("ift", {"form": "sum", "gamma": 0.5}),
        "greedy": ("ift", {"prediction": "greedy"}),
    }
    return {name: Trial(method, replace(BASE, **change)) for name, (method, change) in named.items()}


def test_every_trial_is_what_align_gives_alone(monkeypatch):
    monkeypatch.setattr(experiment, "BLOCK_WEIGHTS", 7 * 15 * BASE.width)  # blocks of seven runs
    runs = sweep(LAKE, trials())
    assert list(runs["trial"].unique()) == list(trials())
    for name, trial in trials().items():
        alone = align(LAKE, trial.method, trial.settings)
        mine = runs[runs["trial"] == name].reset_index(drop=True)
        for column in (*METRICS, "seed", "sampled_steps", "stopped_at_step"):
            np.testing.assert_allclose(mine[column], alone.runs[column], rtol=1e-9, atol=1e-12, err_msg=name)
        for metric in METRICS:
            np.testing.assert_allclose(mine[f"start_{metric}"], alone.start[metric], rtol=1e-9, atol=1e-12)


def test_an_unknown_method_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="method 'iftt' is unknown: did you mean 'ift'"):
        sweep(LAKE, {"a": Trial("iftt", BASE)})


def test_with_adam_the_smallest_residual_does_most_of_what_a_large_one_does():
    """The jump between λ = 0 and λ = 0.01, which plain gradient descent does not make."""
    lake = Lake.make("random:6:1", slippery=True)  # one of the development lakes
    base = Settings(seeds=8, dtype="float32")
    numbers = {
        f"{optimizer} {lam}": Trial("ift", replace(base, optimizer=optimizer, lr=lr, lam=lam))
        for optimizer, lr in (("adam", 3e-3), ("sgd", 0.3))
        for lam in (0.0, 0.01, 0.2)
    }
    mse = sweep(lake, numbers).groupby("trial")["policy_mse"].mean()
    jump = {o: (mse[f"{o} 0.01"] - mse[f"{o} 0.0"]) / (mse[f"{o} 0.2"] - mse[f"{o} 0.0"]) for o in ("adam", "sgd")}
    assert jump["adam"] > 0.8
    assert abs(jump["sgd"]) < 0.1


def test_a_lake_without_a_second_way_refuses_it_as_a_negative():
    no_detour = Lake.make(["SFG"])
    with pytest.raises(ValueError, match="suboptimal must be given"):
        sweep(no_detour, {"a": Trial("dpo", BASE), "b": Trial("dpo", replace(BASE, negatives="suboptimal"))})
