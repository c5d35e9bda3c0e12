"""The cousins on a lake: what each is fed with, and that it does there what it is said to do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ift
from toy import Lake, Settings, align, protocol
from toy.objectives import draw, mixed_states, objective, refreshed, scored_vectors
from toy.policy import cell_log_probs, state_log_probs
from toy.settings import Settings as All
from toy.stages import Problem, fine_tune, make_task, start_policies

QUICK = Settings(seeds=3, steps=12, width=16, start_steps=40)
TARGET_METHODS = ("asft", "eaft", "gem", "iwsft", "psft", "power")


def started(method, settings=QUICK, lake="ring", **numbers):
    problem = Problem.of(Lake.make(lake), settings.shared())
    start, _ = start_policies(problem, range(settings.seeds))
    value = ift.METHODS[method]
    given = {**settings.numbers_of(value), **numbers}
    return problem, start, make_task(problem, value, given, start, range(settings.seeds))


@pytest.mark.parametrize("name", TARGET_METHODS)
def test_a_loss_is_fed_with_the_policy_and_the_reference_of_the_targets_cells(name):
    """Another policy than the start, and plain indices in place of batched tensors."""
    _, start, task = started(name)
    policy = start._replace(second_bias=start.second_bias + torch.tensor([0.3, 0.0, -0.2, 0.1]))
    found, method = objective(policy, task, None), ift.METHODS[name]
    for run in range(3):
        tables = {key: cell_log_probs(p)[run] for key, p in (("policy", policy), ("reference_policy", start))}
        cells, actions = task.targets.cells[0], task.targets.actions[0]
        reads = {key: table[cells] for key, table in tables.items()}
        reads["reference"] = tables["reference_policy"][cells, actions]
        mask, numbers = task.targets.mask[0], {key: task.numbers[key] for key in method.loss_numbers}
        values = method.loss(
            tables["policy"][cells, actions], mask, **{key: reads[key] for key in method.reads}, **numbers
        )
        expected = values.mean() if method.per_token else values
        torch.testing.assert_close(found[run], expected)


def test_replaced_states_are_the_targets_or_the_predictions_with_the_given_probability():
    settings = replace(QUICK, prediction="expected", seeds=400)
    _, start, task = started("scheduled", settings, lam=0.3)
    states = mixed_states(start, task)
    whole = mixed_states(start, replace(task, numbers={"lam": 1.0}))
    plain = mixed_states(start, replace(task, numbers={"lam": 0.0}))
    predicted = (states == whole).all(-1)
    assert (predicted | (states == plain).all(-1)).all()
    later = predicted[..., 1:]
    assert later.double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(states[:, :, 0], plain[:, :, 0])  # the first step has no prediction


def test_noise_on_states_has_the_length_of_its_paper():
    _, start, task = started("neftune", replace(QUICK, seeds=200), noise=2.0)
    noise = scored_vectors(start, task) - mixed_states(start, replace(task, numbers={"lam": 0.0}))
    tokens, features = int(task.targets.mask.sum()), noise.shape[-1]
    bound = 2.0 / np.sqrt(tokens * features)
    assert noise.abs().max().item() <= bound
    assert noise.std().item() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert objective(start, task, None).std() > 0


def test_a_refreshed_reference_is_the_policy_at_multiples_of_the_number():
    _, start, task = started("psft")
    moved = start._replace(second_bias=start.second_bias + 0.5 * torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert refreshed(moved, task, 0) is task
    assert refreshed(moved, task, 7) is task
    torch.testing.assert_close(refreshed(moved, task, 8).reference, cell_log_probs(moved))
    per_run = replace(task, numbers={**task.numbers, "refresh": torch.tensor([2.0, 3.0, 4.0])})
    now = refreshed(moved, per_run, 4).reference
    torch.testing.assert_close(now[[0, 2]], cell_log_probs(moved)[[0, 2]])
    torch.testing.assert_close(now[1], task.reference[1])


def test_psft_with_a_reference_at_every_update_is_sft():
    """r = p / p_old is 1 at each update, so its gradient is SFT's: the same training."""
    problem, start, _ = started("sft")
    sft = fine_tune(problem, ift.METHODS["sft"], {}, start, range(3)).policy
    psft = fine_tune(problem, ift.METHODS["psft"], {"clip": 0.28, "refresh": 1.0}, start, range(3)).policy
    later = fine_tune(problem, ift.METHODS["psft"], {"clip": 0.01, "refresh": 12.0}, start, range(3)).policy
    torch.testing.assert_close(psft.first_weight, sft.first_weight)
    assert not torch.allclose(later.first_weight, sft.first_weight, atol=1e-4)


def test_spin_plays_against_the_policy_of_a_while_ago():
    """Without a refresh it is DPO whose negatives come from the start policy."""
    dpo = align(Lake.make("ring"), "dpo", replace(QUICK, negatives="start")).runs
    spin = align(Lake.make("ring"), ["spin:refresh=1000", "spin:refresh=3"], QUICK).runs
    one, other = (spin[spin["method"] == name]["parameter_mse"].to_numpy() for name in spin["method"].unique())
    assert one == pytest.approx(dpo["parameter_mse"].to_numpy(), rel=1e-9)
    assert (one != other).all()


def test_the_ceilings_learn_from_the_optimum_in_the_cells_they_are_said_to():
    problem, start, task = started("expert")
    table, cells = cell_log_probs(start), task.targets.cells[0]
    expected = -(problem.optimum[cells] * table[:, cells]).sum(-1).mean(-1)
    torch.testing.assert_close(objective(start, task, None), expected)
    problem, start, task = started("dagger")
    drawn = draw(start, task)
    found = objective(start, task, drawn)
    episodes = drawn.trajectories
    for run in range(3):
        own = episodes.cells[run], episodes.mask[run].double()
        terms = -(problem.optimum[own[0]] * table[run, own[0]]).sum(-1)
        torch.testing.assert_close(found[run], ((terms * own[1]).sum(-1) / own[1].sum(-1)).mean())


def test_the_ceilings_are_closer_than_what_sees_targets_alone():
    settings = replace(protocol("adam"), seeds=8, dtype="float32")
    runs = align(Lake.make("4x4"), ["sft", "expert", "dagger"], settings).runs
    distance = runs.groupby("method")["policy_mse"].mean()
    assert distance["dagger"] < distance["expert"] < distance["sft"]


def test_numbers_of_the_cousins_are_settings():
    settings = All(numbers=("gem.temperature=0.5",))
    assert settings.numbers_of(ift.METHODS["gem"]) == {"temperature": 0.5}
    with pytest.raises(ValueError, match=r"psft\.refresh must be a whole number of at least 1, got 2\.5"):
        All(numbers=("psft.refresh=2.5",))


def test_states_of_targets_are_one_hot():
    _, start, task = started("gem")
    states = scored_vectors(start, task)
    torch.testing.assert_close(state_log_probs(start, states)[:, 0], cell_log_probs(start)[:, task.targets.cells[0]])
