import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ift


def states_and_mask(seed=0):
    generator = torch.Generator().manual_seed(seed)
    states, predicted = torch.rand(2, 3, 5, 4, dtype=torch.float64, generator=generator).unbind(0)
    return states, predicted, torch.rand(3, 5, generator=generator) < 0.5


@given(st.integers(0, 99), st.floats(0, 1))
def test_only_masked_positions_are_mixed(seed, lam):
    states, predicted, mask = states_and_mask(seed)
    mixed = ift.temporal_residual(states, predicted, lam, mask)
    assert torch.equal(mixed[~mask], states[~mask])
    torch.testing.assert_close(mixed[mask], (1 - lam) * states[mask] + lam * predicted[mask])


def test_lam_0_is_the_target_state_and_lam_1_the_models_own():
    states, predicted, mask = states_and_mask()
    assert torch.equal(ift.temporal_residual(states, predicted, 0, mask), states)
    assert torch.equal(ift.temporal_residual(states, predicted, 1, mask)[mask], predicted[mask])


def test_a_tensor_of_lams_equals_a_loop_over_them():
    states, predicted, mask = states_and_mask()
    lams = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    together = ift.temporal_residual(states, predicted, lams.view(3, 1), mask)
    for i, lam in enumerate(lams.tolist()):
        torch.testing.assert_close(together[i], ift.temporal_residual(states[i], predicted[i], lam, mask[i]))


def test_gradcheck():
    states, predicted, mask = states_and_mask()
    inputs = (states.requires_grad_(), predicted.requires_grad_(), torch.tensor(0.3).double().requires_grad_(), mask)
    assert torch.autograd.gradcheck(ift.temporal_residual, inputs)


def test_what_stands_at_unmixed_positions_does_not_matter():
    states, predicted, mask = states_and_mask()
    predicted[~mask] = torch.inf
    assert ift.temporal_residual(states, predicted, 0.5, mask).isfinite().all()


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan"), torch.tensor([[0.5], [3.0]])])
def test_lam_outside_0_to_1_is_refused(lam):
    states, predicted, mask = states_and_mask()
    with pytest.raises(ValueError, match=r"lam must lie in \[0, 1\]"):
        ift.temporal_residual(states, predicted, lam, mask)


def test_shapes_that_do_not_match_are_refused():
    states, predicted, mask = states_and_mask()
    with pytest.raises(ValueError, match="predicted must have the shape"):
        ift.temporal_residual(states, predicted[..., :2], 0.5, mask)
    with pytest.raises(ValueError, match="mask must have the shape"):
        ift.temporal_residual(states, predicted, 0.5, mask[:, 1:])


def test_lam_schedules():
    assert ift.lam_at(7, 0.2) == 0.2
    assert [ift.lam_at(step, 0.4, min_lam=0.1, warmup_steps=3) for step in (0, 1, 3, 9)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.4]
    )


def test_jitter_depends_on_seed_and_step_alone_and_stays_in_range():
    lams = [ift.lam_at(step, 0.5, jitter=1.0, seed=3) for step in range(1000)]
    assert lams == [ift.lam_at(step, 0.5, jitter=1.0, seed=3) for step in range(1000)]
    assert lams != [ift.lam_at(step, 0.5, jitter=1.0, seed=4) for step in range(1000)]
    assert min(lams) == 0
    assert max(lams) == 1
    small = torch.tensor([ift.lam_at(step, 0.5, jitter=0.1) for step in range(4000)])
    assert small.mean().item() == pytest.approx(0.5, abs=0.005)
    assert small.std().item() == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("bad", [{"lam": 2.0}, {"min_lam": -1.0}, {"jitter": -1.0}, {"warmup_steps": -1}, {"step": -1}])
def test_bad_schedules_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ift.lam_at(**({"step": 0, "lam": 0.2} | bad))
