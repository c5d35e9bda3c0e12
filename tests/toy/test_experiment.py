import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ift import METHODS
from toy import Lake, Settings, align, experiment, stages
from toy.metrics import METRICS
from toy.policy import cell_log_probs
from toy.stages import OPTIMUM_GAP, Problem, optimal_policies, start_policies

QUICK = Settings(seeds=3, steps=15, width=16, start_steps=60)


@pytest.fixture(scope="module")
def everything():
    return align(Lake.make("ring"), ["all"], QUICK)


def test_a_row_per_method_and_seed_with_every_metric(everything):
    runs = everything.runs
    assert list(runs["method"].unique()) == list(METHODS)
    assert all(list(group["seed"]) == [0, 1, 2] for _, group in runs.groupby("method"))
    assert np.isfinite(runs[list(METRICS)].to_numpy()).all()
    assert (runs["stopped_at_step"] == -1).all()
    assert set(runs[runs["sampled_steps"] > 0]["method"]) == {
        *("dpo", "ipo", "orpo", "kto", "simpo", "spin"),  # their negatives
        *("ppo", "dagger"),  # their own episodes
    }


def test_all_methods_share_the_start():
    """With a step size that moves nothing, every method ends where the start was."""
    still = align(Lake.make("ring"), ["sft", "dpo", "ppo"], replace(QUICK, lr=1e-300, optimizer="sgd", steps=1))
    for _, runs in still.runs.groupby("method"):
        np.testing.assert_array_equal(runs[list(METRICS)].to_numpy(), still.start[list(METRICS)].to_numpy())


def test_a_runs_numbers_do_not_depend_on_the_runs_beside_it(everything, monkeypatch):
    """Another block size, other seeds and other methods beside it: the same numbers."""
    monkeypatch.setattr(experiment, "BLOCK_WEIGHTS", 2 * 15 * QUICK.width)  # blocks of two runs
    other = align(Lake.make("ring"), ["ppo", "dpo", "ift"], replace(QUICK, seed=1, seeds=4)).runs
    kept = everything.runs.merge(other, on=["method", "seed"], suffixes=("", "_other"))
    assert len(kept) == 6
    for metric in [*METRICS, "sampled_steps"]:
        np.testing.assert_allclose(kept[metric], kept[f"{metric}_other"], rtol=1e-6, atol=1e-6)


def test_the_same_settings_give_the_same_table(everything):
    pd.testing.assert_frame_equal(align(Lake.make("ring"), ["all"], QUICK).runs, everything.runs)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_moves_toward_the_target(method):
    """From a noisy start, training raises the probability of success."""
    result = align(Lake.make("ring"), [method], replace(QUICK, steps=60, lr=0.01))
    assert result.runs["success"].mean() > result.start["success"].mean()


def test_the_optimal_parameterised_policy_matches_the_optimum():
    problem = Problem.of(Lake.make("4x4"), QUICK)
    start, _ = start_policies(problem, range(3))
    optimum = optimal_policies(problem, start, range(3))
    gap = (cell_log_probs(optimum).exp() - problem.optimum)[:, problem.live].abs().amax((1, 2))
    assert (gap <= OPTIMUM_GAP).all()
    alone = optimal_policies(problem, start_policies(problem, [2])[0], [2])
    torch.testing.assert_close(alone.first_weight[0], optimum.first_weight[2])


def test_a_network_that_cannot_match_is_named(monkeypatch):
    monkeypatch.setattr(stages, "OPTIMUM_STEPS", 3)
    problem = Problem.of(Lake.make("4x4"), QUICK)
    start, _ = start_policies(problem, range(2))
    with pytest.warns(UserWarning, match=r"seeds \[0, 1\] .* larger width"):
        optimum = optimal_policies(problem, start, range(2))
    assert not torch.equal(optimum.first_weight, start.first_weight)


def test_starts():
    problem = Problem.of(Lake.make("ring"), replace(QUICK, start_steps=400))
    noisy = cell_log_probs(start_policies(problem, [0])[0]).exp()[0, problem.live]
    aim = 0.6 * problem.optimum[problem.live] + 0.1
    torch.testing.assert_close(noisy, aim, atol=0.06, rtol=0)

    both = replace(QUICK, start="both", start_steps=400)
    at_start = cell_log_probs(start_policies(Problem.of(Lake.make("ring"), both), [0])[0]).exp()[0, 0]
    torch.testing.assert_close(at_start, torch.tensor([0, 0.5, 0.5, 0]).double(), atol=0.06, rtol=0)

    random = cell_log_probs(start_policies(Problem.of(Lake.make("ring"), replace(QUICK, start="random")), [0])[0]).exp()
    assert (random - 0.25).abs().max() < 0.2


@pytest.mark.parametrize(
    "settings",
    [
        Settings(seeds=2, steps=5, form="sum", prediction="sampled", optimizer="rmsprop"),
        Settings(seeds=2, steps=5, source="mask", norm="log", side="right", prediction="expected", optimizer="sgd"),
        Settings(seeds=2, steps=5, negatives="suboptimal", dtype="float32"),
        Settings(seeds=2, steps=5, start="both", negatives="start", label_smoothing=0.1, beta=0.3, horizon=5),
        Settings(seeds=2, steps=5, start="random", suboptimal="right " * 4 + "down down left"),
    ],
)
def test_every_option_runs(settings):
    result = align(Lake.make("ring", slippery=settings.optimizer == "sgd"), ["ift", "dpo", "orpo", "kto"], settings)
    assert np.isfinite(result.runs[list(METRICS)].to_numpy()).all()


def test_several_starts_have_a_target_each():
    result = align(Lake.make("SFFS/FHFF/FFFG"), ["ift", "dpo", "ppo"], QUICK)
    assert [trajectory[0][0] for trajectory in result.targets] == [0, 3]
    assert np.isfinite(result.runs[list(METRICS)].to_numpy()).all()


def test_a_step_size_that_explodes_marks_its_runs_only():
    result = align(Lake.make("ring"), ["ipo", "sft"], replace(QUICK, lr=1e200, optimizer="sgd", steps=30))
    ipo = result.runs[result.runs["method"] == "ipo"]
    assert (ipo["stopped_at_step"] >= 0).all()
    assert ipo["policy_mse"].isna().all()


def test_a_start_that_explodes_is_marked_there():
    result = align(Lake.make("ring"), ["sft"], replace(QUICK, start_lr=1e300))
    assert (result.start["stopped_at_step"] >= 0).all()
    assert result.runs["policy_mse"].isna().all()


def test_what_cannot_be_done_is_refused():
    with pytest.raises(ValueError, match="suboptimal must be given"):
        align(Lake.make("SFFG"), ["sft"], replace(QUICK, start="both"))
    with pytest.raises(ValueError, match="suboptimal must be given"):
        align(Lake.make("SFFG"), ["dpo"], replace(QUICK, negatives="suboptimal"))
    with pytest.raises(ValueError, match="map has 1600 cells"):
        align(Lake.make("random:40:0"), ["sft"], QUICK)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lam", 1.5), ("gamma", -0.1), ("beta", 0.0), ("seeds", 0), ("steps", 0), ("width", 0), ("lr", 0.0),
        ("lr", float("nan")), ("optimizer", "adamw"), ("start", "warm"), ("form", "both"), ("discount", 1.0),
        ("device", "cuda:7"), ("device", "gpu"), ("seed", -1), ("horizon", 0), ("label_smoothing", 0.6), ("clip", 0.0),
        ("seeds", 2.5), ("lam", "x"), ("seed", 2**62), ("dtype", "float16"), ("start_optimal_share", 2.0),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


def test_nothing_warns_in_a_plain_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align(Lake.make("ring"), ["ift"], QUICK)
