"""Where IFT's residual helps in the paper's protocol, and why: what docs/method.md says of slippery ice."""

from dataclasses import replace

import pytest
import torch

from experiments.audit import at_equal_distance
from ift import METHODS
from toy import Lake, protocol
from toy.objectives import mixed_states
from toy.policy import cell_log_probs
from toy.stages import Problem, fine_tune, make_task, optimal_policies, start_policies
from toy.sweeps import sweep_with_curves
from toy.trials import named_trials

SETTINGS = replace(protocol("paper"), seeds=8, dtype="float32")
SLIPPERY = ("random:5:1", "random:6:1")  # development lakes


@pytest.mark.parametrize("lake", SLIPPERY)
def test_the_residual_brings_parameters_closer_also_at_equal_distance_travelled(lake):
    trials = named_trials(["ift", "ift:lam=0", "sft"], SETTINGS)
    runs, curves = sweep_with_curves(Lake.make(lake, slippery=True), trials)
    for rows in (runs, at_equal_distance(curves)):
        by_seed = rows.pivot(index="seed", columns="trial", values="parameter_mse")
        assert ((by_seed["ift:lam=0"] - by_seed["ift"]) > 0).mean() >= 0.75
    by_seed = runs.pivot(index="seed", columns="trial", values="policy_mse")
    assert abs(by_seed["ift"] / by_seed["ift:lam=0"] - 1).mean() < 0.03  # between policies it makes no difference


@pytest.mark.parametrize("lake", SLIPPERY)
def test_what_it_gains_is_in_the_cells_of_the_target_where_the_taught_move_is_right_too(lake):
    problem = Problem.of(Lake.make(lake, slippery=True), SETTINGS.shared())
    seeds = range(SETTINGS.seeds)
    start, _ = start_policies(problem, seeds)
    numbers = SETTINGS.numbers_of(METHODS["ift"])
    target = problem.target_trajectories
    predicted = mixed_states(start, make_task(problem, METHODS["ift"], {**numbers, "lam": 1.0}, start, seeds))
    predicted = predicted[:, 0, 1:] * problem.live  # [runs, steps after the first, cells]
    on_target = torch.as_tensor(problem.on_target)
    taught = target.actions[0, 1:]
    wanted = problem.optimum[:, taught].T.expand_as(predicted)  # π*(a_i* | s')
    held = cell_log_probs(start).exp()[:, :, taught].transpose(1, 2)
    for cells, right in ((on_target, True), (~on_target, False)):
        weight = predicted * cells
        assert ((weight * wanted).sum() > (weight * held).sum()) == right
    assert (predicted * on_target).sum() > predicted.sum() / 2

    optimum = optimal_policies(problem, start, seeds)
    trained = [fine_tune(problem, METHODS["ift"], {**numbers, "lam": lam}, start, seeds).policy for lam in (0.0, 0.2)]
    without, with_residual = ([(a - b).square() for a, b in zip(each, optimum, strict=True)] for each in trained)
    gain = [float((a - b).sum()) for a, b in zip(without, with_residual, strict=True)]
    of_target = float((without[0] - with_residual[0])[:, on_target].sum())
    assert of_target > 0.6 * sum(gain) > 0
