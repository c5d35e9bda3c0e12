import copy

import numpy as np
import pytest
import torch

from toy.policy import Policy, cell_log_probs, init_policy, parameter_mse, state_log_probs
from toy.training import OPTIMIZERS, train

CPU = torch.device("cpu")


def policies(seeds=(0, 1, 2), cells=6, width=8):
    return init_policy(cells, width, seeds, torch.float64, CPU)


def as_module(policy, run):
    """The same network as torch's own layers."""
    first, second = torch.nn.Linear(6, 8).double(), torch.nn.Linear(8, 4).double()
    with torch.no_grad():
        for layer, weight, bias in ((first, policy[0], policy[1]), (second, policy[2], policy[3])):
            layer.weight.copy_(weight[run].T)
            layer.bias.copy_(bias[run, 0])
    return torch.nn.Sequential(first, torch.nn.ReLU(), second)


def test_batched_networks_equal_torch_layers_one_by_one():
    policy = policies()
    states = torch.tensor(np.random.default_rng(0).dirichlet(np.ones(6), size=(3, 2, 5)))
    log_probs = state_log_probs(policy, states)
    for run in range(3):
        torch.testing.assert_close(log_probs[run], torch.log_softmax(as_module(policy, run)(states[run]), -1))


def test_cells_are_the_one_hot_states():
    policy = policies()
    torch.testing.assert_close(cell_log_probs(policy), state_log_probs(policy, torch.eye(6).double().expand(3, 6, 6)))


def test_a_seed_fixes_its_network():
    for all_seeds, alone in zip(policies((0, 1, 2)), policies((2,)), strict=True):
        assert torch.equal(all_seeds[2:], alone)


def test_parameter_mse_is_over_all_parameters():
    one, other = policies((0,)), policies((1,))
    flat = [torch.cat([p.flatten() for p in policy]) for policy in (one, other)]
    assert parameter_mse(one, other).item() == pytest.approx((flat[0] - flat[1]).square().mean().item())


def test_hidden_units_in_another_order_are_the_same_policy_with_other_weights():
    policy = policies()
    order = torch.randperm(policy.second_weight.shape[1], generator=torch.Generator().manual_seed(0))
    same = Policy(
        policy.first_weight[..., order],
        policy.first_bias[..., order],
        policy.second_weight[:, order],
        policy.second_bias,
    )
    torch.testing.assert_close(cell_log_probs(same), cell_log_probs(policy))
    assert (parameter_mse(same, policy) > 1e-3).all()


def test_a_mixed_state_is_the_mixture_of_the_cells_rows():
    """Before the first non-linearity: (1 − λ) W[s] + λ Σ p(s') W[s']."""
    policy = policies()
    cells = policy.first_weight.shape[1]
    mixed = torch.rand(len(policy.first_weight), 1, cells, generator=torch.Generator().manual_seed(0)).double()
    hidden = torch.relu(torch.einsum("rnc,rcw->rnw", mixed, policy.first_weight) + policy.first_bias)
    wanted = torch.log_softmax(hidden @ policy.second_weight + policy.second_bias, -1)
    torch.testing.assert_close(state_log_probs(policy, mixed), wanted)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_in_a_batch_equals_training_alone(optimizer):
    aim = torch.tensor([1, 2, 0, 3, 1, 2])

    def loss(policy, step):
        return -cell_log_probs(policy)[:, torch.arange(6), aim].mean(-1)

    together, _ = train(policies(), loss, 50, optimizer=optimizer, lr=0.01)
    alone, _ = train(policies((1,)), loss, 50, optimizer=optimizer, lr=0.01)
    assert parameter_mse(Policy(*(p[1:2] for p in together)), alone).item() < 1e-24
    assert (loss(together, 0) < loss(policies(), 0)).all()


def test_training_equals_a_plain_loop():
    aim = torch.tensor([1, 2, 0, 3, 1, 2])
    trained, _ = train(
        policies(), lambda p, _: -cell_log_probs(p)[:, torch.arange(6), aim].mean(-1), 30, optimizer="adam", lr=0.01
    )
    for run in range(3):
        network = as_module(policies(), run)
        adam = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(30):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(network(torch.eye(6).double()), aim).backward()
            adam.step()
        torch.testing.assert_close(
            cell_log_probs(trained)[run].exp(), torch.softmax(network(torch.eye(6).double()), -1), rtol=1e-6, atol=1e-9
        )


def test_a_run_that_is_no_longer_finite_is_stopped_and_the_others_go_on():
    def loss(policy, step):
        losses = -cell_log_probs(policy)[:, :, 0].mean(-1)
        poison = torch.ones(3).double()
        poison[1] = torch.nan if step == 4 else 1.0
        return losses * poison

    trained, stopped_at = train(policies(), loss, 10, optimizer="adam", lr=0.01)
    healthy, _ = train(policies(), lambda p, _: -cell_log_probs(p)[:, :, 0].mean(-1), 10, optimizer="adam", lr=0.01)
    assert stopped_at.tolist() == [-1, 4, -1]
    for p, same in zip(trained, healthy, strict=True):
        assert p[1].isnan().all()
        assert torch.equal(p[[0, 2]], same[[0, 2]])


def test_on_step_sees_every_step_and_can_end_the_training():
    seen = []

    def on_step(policy, step):
        seen.append(step)
        return step == 3

    train(policies(), lambda p, _: cell_log_probs(p).sum((1, 2)), 10, optimizer="sgd", lr=0.01, on_step=on_step)
    assert seen == [0, 1, 2, 3]


def test_a_changed_or_copied_policy_of_a_training_has_tensors_of_its_own():
    trained, _ = train(policies(), lambda policy, step: cell_log_probs(policy)[:, 0, 0], 2, optimizer="sgd", lr=0.1)
    before = cell_log_probs(trained).clone()
    other = trained._replace(second_bias=trained.second_bias + torch.arange(4.0))
    assert not torch.equal(cell_log_probs(other), before)
    copied = copy.deepcopy(trained)
    copied.second_bias.add_(torch.arange(4.0))
    assert not torch.equal(cell_log_probs(copied), before)
    assert torch.equal(cell_log_probs(trained), before)
