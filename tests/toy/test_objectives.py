"""Each method's batched loss against the same loss written out for one run, one trajectory, one step at a time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import ift
from toy import Lake, Settings
from toy.kernels.streams import streams_of
from toy.objectives import (
    Negatives,
    Task,
    differs_from,
    draw,
    draw_negatives,
    draw_rollouts,
    mixed_share,
    mixed_states,
    objective,
    predicted_states,
    trajectory_log_probs,
)
from toy.policy import cell_log_probs, init_policy
from toy.stages import Problem, fine_tune, start_policies
from toy.trajectories import stack

CPU = torch.device("cpu")
RUNS = 3


def task_and_policy(settings=None, lake=None, method="ift"):
    """A task whose reference is the start policy, and another policy to score."""
    settings = settings or Settings(seeds=RUNS)
    lake = lake or Lake.make("4x4", slippery=True)
    problem = Problem.of(lake, settings.shared())
    start, _ = start_policies(problem, range(RUNS))
    task = Task(
        method=ift.METHODS[method],
        numbers=settings.numbers_of(ift.METHODS[method]),
        settings=settings.shared(),
        dynamics=problem.dynamics,
        targets=stack(problem.targets),
        suboptimal=problem.suboptimal_trajectories,
        reference=cell_log_probs(start),
        optimum=problem.optimum,
        generators=(generators := [np.random.default_rng([seed, 1]) for seed in range(RUNS)]),
        streams=streams_of(generators),
        horizon=12,
    )
    return task, init_policy(len(lake.next_cell), 16, range(50, 50 + RUNS), torch.float64, CPU)


def loss_of(method, policy, task, drawn):
    """The method's loss on what another method's task may learn from, with the method's own default numbers."""
    numbers = Settings().numbers_of(ift.METHODS[method])
    return objective(policy, replace(task, method=ift.METHODS[method], numbers=numbers), drawn)


def steps_of(trajectories, run, i):
    """(cell, action) of one trajectory."""
    parts = (trajectories.cells, trajectories.actions, trajectories.mask)
    cells, actions, mask = (part if part.ndim == 2 else part[run] for part in parts)
    return [(int(c), int(a)) for c, a, m in zip(cells[i], actions[i], mask[i], strict=True) if m]


def log_prob_of(table, steps):
    return sum(table[cell, action].item() for cell, action in steps)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pair_loss(method, table, reference, target, negative):
    numbers = Settings().numbers_of(ift.METHODS[method])
    chosen, rejected = log_prob_of(table, target), log_prob_of(table, negative)
    margin = chosen - log_prob_of(reference, target) - rejected + log_prob_of(reference, negative)
    mean_chosen, mean_rejected = chosen / len(target), rejected / len(negative)
    if method == "dpo":
        return -math.log(sigmoid(numbers["beta"] * margin))
    if method == "ipo":
        return (margin - 1 / (2 * numbers["beta"])) ** 2
    if method == "simpo":
        return -math.log(sigmoid(numbers["beta"] * (mean_chosen - mean_rejected) - numbers["margin"]))
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (mean_chosen, mean_rejected)]
    return -mean_chosen - numbers["beta"] * math.log(sigmoid(math.log(odds[0] / odds[1])))


@pytest.mark.parametrize("method", ["dpo", "ipo", "orpo", "simpo"])
def test_pair_methods_equal_their_definition(method):
    task, policy = task_and_policy()
    drawn = draw_negatives(policy, task)
    losses = loss_of(method, policy, task, drawn)
    for run in range(RUNS):
        table, reference = cell_log_probs(policy)[run], task.reference[run]
        target = steps_of(task.targets, run, 0)
        negatives = [steps_of(drawn.trajectories, run, i) for i in range(4)]
        expected = [pair_loss(method, table, reference, target, n) for n in negatives if n != target]
        assert losses[run].item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)


def test_kto_equals_its_definition():
    task, policy = task_and_policy()
    drawn = draw_negatives(policy, task)
    losses = loss_of("kto", policy, task, drawn)
    for run in range(RUNS):
        table, reference = cell_log_probs(policy)[run], task.reference[run]
        target = steps_of(task.targets, run, 0)
        gains = [
            log_prob_of(table, trajectory) - log_prob_of(reference, trajectory)
            for trajectory in [target, *(steps_of(drawn.trajectories, run, i) for i in range(4))]
        ]
        z = max(sum(gains[1:]) / 4, 0)
        undesirable = [1 - sigmoid(z - gain) for gain in gains[1:]]
        assert losses[run].item() == pytest.approx(1 - sigmoid(gains[0] - z) + sum(undesirable) / 4)


def test_sft_and_dft_equal_their_definition():
    task, policy = task_and_policy()
    for run in range(RUNS):
        table = cell_log_probs(policy)[run]
        log_probs = [table[cell, action].item() for cell, action in steps_of(task.targets, run, 0)]
        sft, dft = loss_of("sft", policy, task, None)[run], loss_of("dft", policy, task, None)[run]
        assert sft.item() == pytest.approx(-np.mean(log_probs))
        assert dft.item() == pytest.approx(-np.mean([math.exp(x) * x for x in log_probs]))


@pytest.mark.parametrize("prediction", ["greedy", "expected"])
@pytest.mark.parametrize("form", ["product", "sum"])
def test_ift_equals_its_definition(prediction, form):
    settings = Settings(seeds=RUNS, prediction=prediction, form=form, lam=0.3, gamma=0.8)
    task, policy = task_and_policy(settings)
    losses = objective(policy, task, None)
    transition = task.dynamics.transition
    for run in range(RUNS):
        weights = [p[run] for p in policy]
        table = cell_log_probs(policy)[run].exp()
        steps, nll = steps_of(task.targets, run, 0), []
        for i, (cell, action) in enumerate(steps):
            state = torch.eye(16).double()[cell]
            if i:
                before = steps[i - 1][0]
                chances = table[before] if prediction == "expected" else torch.eye(4).double()[table[before].argmax()]
                state = 0.7 * state + 0.3 * chances @ transition[before]
            hidden = torch.relu(state @ weights[0] + weights[1][0])
            nll.append(-torch.log_softmax(hidden @ weights[2] + weights[3][0], -1)[action].item())
        values = [sum(0.8 ** (j - i) * x for j, x in enumerate(nll) if j >= i) for i in range(len(nll))]
        weighted = np.mean(values) if form == "sum" else np.dot(values, nll) / sum(values)
        assert losses[run].item() == pytest.approx(weighted)


@pytest.mark.parametrize("form", ["product", "sum"])
def test_ift_without_mixing_and_propagation_is_sft(form):
    task, policy = task_and_policy(Settings(seeds=RUNS, lam=0, gamma=0, form=form))
    torch.testing.assert_close(objective(policy, task, None), loss_of("sft", policy, task, None))


def test_the_greedy_residual_does_nothing_where_the_policy_already_prefers_the_target():
    """On a lake that is not slippery: then the predicted cell is the target cell."""
    lake = Lake.make("ring")
    task, _ = task_and_policy(lake=lake)
    start, _ = start_policies(Problem.of(lake, task.settings), range(RUNS))
    table = cell_log_probs(start)[:, task.targets.cells[0]].argmax(-1)
    assert (table == task.targets.actions[0]).all()
    predicted = predicted_states(start, task)
    later = task.targets.cells[0, 1:]
    assert (predicted[:, 0, 1:].argmax(-1) == later).all()
    expected = predicted_states(start, replace(task, settings=replace(task.settings, prediction="expected")))
    assert (expected[:, 0, 1:].gather(-1, later.expand(RUNS, -1).unsqueeze(-1)) < 1).all()


def test_on_slippery_ice_there_is_always_something_to_mix():
    """Even where the policy prefers the target's moves, as the ice may carry it elsewhere."""
    start_settings = Settings(seeds=RUNS, start_optimal_share=1.0)
    shares = {}
    for slippery in (False, True):
        lake = Lake.make("ring", slippery=slippery)
        task, _ = task_and_policy(start_settings, lake)
        start, _ = start_policies(Problem.of(lake, start_settings.shared()), range(RUNS))
        shares[slippery] = mixed_share(start, task)
    assert (shares[False] == 0).all()
    assert (shares[True] > 0.3).all()


def test_the_mixed_share_of_a_sampled_prediction_is_its_expectation():
    task, policy = task_and_policy(Settings(seeds=RUNS, prediction="sampled"))
    cells = task.targets.cells.expand(RUNS, *task.targets.cells.shape).unsqueeze(-1)
    drawn = sum(predicted_states(policy, task).gather(-1, cells)[..., 0] for _ in range(2000)) / 2000
    later = task.targets.mask[:, 1:].double()
    by_hand = ((1 - drawn[..., 1:]) * later).sum((1, 2)) / later.sum()
    torch.testing.assert_close(mixed_share(policy, task), by_hand, atol=0.03, rtol=0)


def test_with_adam_any_residual_moves_the_predicted_cells_by_a_whole_step():
    """The gradient in the row of a cell that is only mixed in shrinks with λ; the first step of Adam does not."""
    settings = Settings(seeds=RUNS, prediction="expected", lr=1e-3, steps=1)
    lake = Lake.make("ring")
    start, _ = start_policies(Problem.of(lake, settings.shared()), range(RUNS))
    beside = 1  # the cell right of the start: off the target trajectory, where a move to the right would lead

    def moved(lam, optimizer):
        problem = Problem.of(lake, replace(settings, optimizer=optimizer).shared())
        tuned = fine_tune(problem, ift.METHODS["ift"], {"lam": lam, "gamma": 0.95}, start, range(RUNS))
        return (tuned.policy.first_weight - start.first_weight)[:, beside].abs().amax(-1)

    for lam in (0.01, 0.5):
        np.testing.assert_allclose(moved(lam, "adam"), 1e-3, rtol=1e-3)
    assert (moved(0.0, "adam") == 0).all()
    assert (moved(0.01, "sgd") < 0.05 * moved(0.5, "sgd")).all()


def test_noise_is_as_long_as_the_residual_and_points_elsewhere():
    task, policy = task_and_policy(Settings(seeds=RUNS, prediction="expected", lam=1.0))
    states = torch.nn.functional.one_hot(task.targets.cells, policy.first_weight.shape[1])
    residual = (mixed_states(policy, task) - states)[..., 1:, :]
    noise_task = replace(task, settings=replace(task.settings, residual="noise"))
    noise = (mixed_states(policy, noise_task) - states)[..., 1:, :]
    torch.testing.assert_close(noise.norm(dim=-1), residual.norm(dim=-1))
    assert (mixed_states(policy, noise_task)[..., 0, :] == states[..., 0, :]).all()
    cosine = torch.nn.functional.cosine_similarity(noise, residual, dim=-1)
    assert cosine.abs().mean() < 0.5


def test_sampled_predictions_average_to_the_expected_ones():
    task, policy = task_and_policy(Settings(seeds=RUNS, prediction="sampled"))
    mean = sum(predicted_states(policy, task) for _ in range(3000)) / 3000
    expected = predicted_states(policy, replace(task, settings=replace(task.settings, prediction="expected")))
    torch.testing.assert_close(mean, expected, atol=0.04, rtol=0)


def test_ppo_equals_its_definition():
    task, policy = task_and_policy(Settings(seeds=RUNS, rollouts=5, discount=0.9))
    drawn = draw_rollouts(policy, task)
    other = init_policy(16, 16, range(90, 90 + RUNS), torch.float64, CPU)
    losses = loss_of("ppo", other, task, drawn)
    for run in range(RUNS):
        old, new = cell_log_probs(policy)[run], cell_log_probs(other)[run]
        returns, ratios = [], []
        for i in range(5):
            steps = steps_of(drawn.trajectories, run, i)
            rewards = drawn.trajectories.rewards[run, i].tolist()
            returns.append([sum(0.9 ** (j - t) * rewards[j] for j in range(t, len(steps))) for t in range(len(steps))])
            ratios.append([math.exp((new - old)[cell, action].item()) for cell, action in steps])
        flat = np.concatenate(returns)
        expected = []
        for trajectory_returns, trajectory_ratios in zip(returns, ratios, strict=True):
            advantages = (np.array(trajectory_returns) - flat.mean()) / (flat.std() + 1e-8)
            clipped = np.clip(trajectory_ratios, 0.8, 1.2)
            expected.append(-np.minimum(trajectory_ratios * advantages, clipped * advantages).mean())
        assert losses[run].item() == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("method", ift.METHODS)
def test_runs_are_independent(method):
    """The gradient of one run's loss with respect to another run's parameters is 0."""
    task, policy = task_and_policy(method=method)
    policy = type(policy)(*(p.requires_grad_() for p in policy))
    loss = objective(policy, task, draw(policy, task))
    assert loss.shape == (RUNS,)
    for gradient in torch.autograd.grad(loss[1], policy):
        assert gradient[[0, 2]].abs().max() == 0
        assert gradient.isfinite().all()


def test_a_negative_equal_to_the_target_is_no_negative():
    task, policy = task_and_policy(lake=Lake.make("ring"))
    copies = [part.expand(RUNS, 1, -1) for part in (task.targets.cells, task.targets.actions, task.targets.mask)]
    same = type(task.targets)(*copies)
    drawn = Negatives(same, differs_from(same, task.targets))
    assert not drawn.differs.any()
    for method in ("dpo", "ipo", "simpo"):
        assert (loss_of(method, policy, task, drawn) == 0).all()
    torch.testing.assert_close(loss_of("orpo", policy, task, drawn), loss_of("sft", policy, task, None))


def test_trajectories_differ_by_length_cell_or_action():
    target = stack([((0, 1), (5, 2))])
    others = stack([((0, 1), (5, 2)), ((0, 1),), ((0, 1), (5, 3)), ((0, 1), (6, 2)), ((0, 1), (5, 2), (6, 1))])
    each = [
        type(others)(others.cells[i : i + 1][None], others.actions[i : i + 1][None], others.mask[i : i + 1][None])
        for i in range(5)
    ]
    assert [differs_from(trajectory, target).item() for trajectory in each] == [False, True, True, True, True]


@pytest.mark.parametrize("negatives", ["current", "start", "suboptimal"])
def test_negatives_come_from_where_they_are_said_to(negatives):
    lake = Lake.make("ring")
    task, policy = task_and_policy(Settings(seeds=RUNS, negatives=negatives, negatives_per_step=500), lake)
    drawn = draw_negatives(policy, task)
    if negatives == "suboptimal":
        assert torch.equal(drawn.trajectories.actions, task.suboptimal.actions.expand(RUNS, 1, -1))
        return
    source = cell_log_probs(policy) if negatives == "current" else task.reference
    first = torch.nn.functional.one_hot(drawn.trajectories.actions[:, :, 0], 4).double().mean(1)
    torch.testing.assert_close(first, source[:, 0].exp(), atol=0.08, rtol=0)


def test_trajectory_log_probs_reads_shared_and_own_trajectories_alike():
    task, policy = task_and_policy()
    table = cell_log_probs(policy)
    own = type(task.targets)(
        *(p.expand(RUNS, *p.shape) for p in (task.targets.cells, task.targets.actions, task.targets.mask))
    )
    assert torch.equal(trajectory_log_probs(table, task.targets), trajectory_log_probs(table, own))
