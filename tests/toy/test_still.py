"""Standing still beside the target on a lake: where it stands still, and that it does what it is said to do."""

import pytest
import torch

import ift
from toy import Lake, Settings, beside, sweep
from toy.objectives import objective
from toy.policy import cell_log_probs
from toy.stages import Problem, fine_tune, make_task, start_policies
from toy.trials import named_trials

QUICK = Settings(seeds=2, steps=12, width=16, start_steps=40)


def started(lake="ring", **numbers):
    problem = Problem.of(Lake.make(lake), QUICK.shared())
    start, _ = start_policies(problem, range(2))
    method = ift.METHODS["still"]
    return problem, start, make_task(problem, method, {**QUICK.numbers_of(method), **numbers}, start, range(2))


@pytest.mark.parametrize("slippery", [False, True])
def test_visits_are_those_of_every_way_beside_the_target_followed_one_by_one(slippery, monkeypatch):
    monkeypatch.setattr(beside, "STEPS", 3)  # ways multiply with each
    lake = Lake.make("SFF/FHF/FFG", slippery=slippery)
    problem = Problem.of(lake, QUICK.shared())
    start, _ = start_policies(problem, range(2))
    targets = problem.target_trajectories
    found = beside.states_beside(cell_log_probs(start), targets, problem.dynamics)
    probs, moves = cell_log_probs(start)[0].exp().tolist(), lake.transition_matrix()
    off = (~problem.on_target & ~lake.terminal).tolist()
    assert found.cells.tolist() == [cell for cell, is_off in enumerate(off) if is_off]
    totals = dict.fromkeys(found.cells.tolist(), 0.0)

    def walk(cell, chance, left):
        for action in range(4):
            for reached in range(len(off)):
                there = chance * probs[cell][action] * moves[cell, action, reached]
                if there and off[reached]:
                    totals[reached] += there
                    if left > 1:
                        walk(reached, there, left - 1)

    for cell, counts in zip(targets.cells[0].tolist(), targets.mask[0].tolist(), strict=True):
        if counts:
            walk(cell, 1.0, 3)
    expected = torch.tensor(list(totals.values()), dtype=torch.float64)
    torch.testing.assert_close(found.visits[0, 0], expected / expected.sum())


def test_a_lake_without_cells_beside_the_target_has_nothing_to_hold():
    _, start, task = started("SFG")
    assert not len(task.beside.cells)
    assert objective(start, task, None).isfinite().all()


def test_the_loss_is_fed_with_the_cells_beside_the_target():
    _, start, task = started()
    policy = start._replace(second_bias=start.second_bias + torch.tensor([0.3, 0.0, -0.2, 0.1]))
    found = objective(policy, task, None)
    cells, actions, off = task.targets.cells[0], task.targets.actions[0], task.beside.cells
    for run in range(2):
        now, before = cell_log_probs(policy)[run], cell_log_probs(start)[run]
        expected = ift.still_loss(
            now[cells, actions], task.targets.mask[0], now[cells], before[cells, actions], before[cells], now[off],
            before[off], task.beside.visits[run, 0], **task.numbers,
        )  # fmt: skip
        torch.testing.assert_close(found[run], expected)


def test_without_hold_and_ties_it_trains_as_sft_with_a_step_that_is_longer_by_the_targets_length():
    problem, start, task = started()
    settings = problem.settings
    shorter = float(task.targets.mask.sum())
    sums = fine_tune(problem, ift.METHODS["still"], {"hold": 0.0, "ties": 0.0, "sharpest": 8.0}, start, range(2))
    sft = fine_tune(problem, ift.METHODS["sft"], {}, start, range(2))
    assert settings.optimizer == "adam"  # which divides the length out
    torch.testing.assert_close(sums.policy.first_weight, sft.policy.first_weight, atol=1e-5, rtol=1e-4)
    assert objective(start, make_task(problem, ift.METHODS["sft"], {}, start, range(2)), None) * shorter == (
        pytest.approx(objective(start, started(hold=0.0, ties=0.0)[2], None), rel=1e-9)
    )


def test_the_policy_drifts_less_beside_the_target_the_more_it_is_held():
    trials = named_trials(["still:sharpest=1,hold=0", "still:sharpest=1"], Settings(seeds=4, width=16))
    drift = sweep(Lake.make("ring"), trials).groupby("trial")["drift_beside"].mean()
    assert drift["still:sharpest=1"] < drift["still:sharpest=1,hold=0"] / 3


def test_numbers_may_differ_between_runs_that_are_trained_side_by_side():
    names = ["still", "still:hold=0.2,sharpest=2", "still:ties=0.5"]
    lake = Lake.make("ring")
    together = sweep(lake, named_trials(names, QUICK)).set_index(["trial", "seed"])["policy_mse"]
    for name in names:
        alone = sweep(lake, named_trials([name], QUICK)).set_index(["trial", "seed"])["policy_mse"]
        assert alone.to_numpy() == pytest.approx(together.loc[[name]].to_numpy(), rel=1e-9)
