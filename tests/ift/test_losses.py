import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ift


def batch(seed=0, rows=3, tokens=6):
    rng = np.random.default_rng(seed)
    mask = torch.tensor(rng.random((rows, tokens)) < 0.7)
    mask[:, 0] = True
    return torch.tensor(-rng.exponential(size=(rows, tokens))), mask


def pairs(seed=0, shape=(5,)):
    rng = np.random.default_rng(seed)
    return [torch.tensor(-rng.exponential(3, size=shape)) for _ in range(4)]


@given(st.integers(0, 999), st.sampled_from(["product", "sum"]))
def test_gamma_0_is_sft(seed, form):
    log_probs, mask = batch(seed)
    torch.testing.assert_close(ift.ift_loss(log_probs, mask, 0, form=form), ift.sft_loss(log_probs, mask))


def test_sft_is_the_mean_over_answer_tokens():
    log_probs = torch.tensor([[-1.0, -3.0, -100.0], [-5.0, -7.0, -9.0]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert ift.sft_loss(log_probs, mask).tolist() == [2.0, 0.0]


@given(st.integers(0, 999), st.floats(0, 1))
def test_the_sum_form_is_the_papers_double_sum(seed, gamma):
    log_probs, mask = batch(seed)
    losses = ift.ift_loss(log_probs, mask, gamma, form="sum")
    for row, (row_log_probs, row_mask) in enumerate(zip(log_probs.tolist(), mask.tolist(), strict=True)):
        answer = [i for i, kept in enumerate(row_mask) if kept]
        double_sum = sum(-row_log_probs[i] * gamma ** (i - n) for n in answer for i in answer if i >= n)
        assert losses[row].item() == pytest.approx(double_sum / len(answer))


@given(st.integers(0, 999), st.floats(0.01, 0.99))
def test_the_sum_form_is_sft_with_fixed_weights_that_grow_along_the_answer(seed, gamma):
    """Σ_n V_n = Σ_i (1 − γ^(i+1))/(1 − γ) ℓ_i: the policy plays no part in the weights."""
    log_probs = batch(seed)[0].requires_grad_()
    ift.ift_loss(log_probs, torch.ones_like(log_probs), gamma, form="sum").sum().backward()
    tokens = log_probs.shape[-1]
    weights = [(1 - gamma ** (i + 1)) / (1 - gamma) / tokens for i in range(tokens)]
    torch.testing.assert_close(-log_probs.grad, torch.tensor([weights] * 3, dtype=log_probs.dtype))
    assert weights == sorted(weights)


@given(st.floats(0.01, 1))
def test_the_two_forms_weigh_an_answer_the_other_way_round(gamma):
    """Where all tokens are equally unlikely, product weighs the first ones most, sum the last ones."""
    nll = torch.ones(1, 6, dtype=torch.float64)
    product = ift.relation_weights(nll, torch.ones_like(nll), gamma)[0]
    assert (product.diff() < 0).all()
    log_probs = (-nll).requires_grad_()
    ift.ift_loss(log_probs, torch.ones_like(nll), gamma, form="sum").sum().backward()
    assert (-log_probs.grad[0].diff() > 0).all()


@given(st.integers(0, 999), st.floats(0.01, 1), st.floats(0.1, 10))
def test_the_product_form_grows_with_the_losses_themselves(seed, gamma, scale):
    """Weights depend on the ratios of the losses only: twice the losses is twice the loss."""
    log_probs, mask = batch(seed)
    torch.testing.assert_close(
        ift.ift_loss(scale * log_probs, mask, gamma), scale * ift.ift_loss(log_probs, mask, gamma)
    )


@given(st.integers(0, 999), st.floats(0, 1), st.sampled_from(["product", "sum"]))
def test_no_form_is_zero_unless_every_target_token_is_certain(seed, gamma, form):
    log_probs, mask = batch(seed)
    assert (ift.ift_loss(log_probs, mask, gamma, form=form) > 0).all()
    assert (ift.ift_loss(torch.zeros_like(log_probs), mask, gamma, form=form) == 0).all()


@given(st.integers(0, 999), st.sampled_from(["product", "sum"]))
def test_a_tensor_of_gammas_equals_a_loop(seed, form):
    log_probs, mask = batch(seed)
    gammas = [0.0, 0.3, 1.0]
    together = ift.ift_loss(
        log_probs.expand(3, *log_probs.shape),
        mask.expand(3, *mask.shape),
        torch.tensor(gammas, dtype=torch.float64).view(3, 1, 1),
        form=form,
    )
    for i, gamma in enumerate(gammas):
        torch.testing.assert_close(together[i], ift.ift_loss(log_probs, mask, gamma, form=form))


@pytest.mark.parametrize("form", ["product", "sum"])
def test_gammas_broadcast_over_new_leading_dimensions(form):
    log_probs, mask = batch()
    gammas = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    together = ift.ift_loss(log_probs, mask, gammas.view(3, 1, 1), form=form)
    for i, gamma in enumerate(gammas.tolist()):
        torch.testing.assert_close(together[i], ift.ift_loss(log_probs, mask, gamma, form=form))


@pytest.mark.parametrize("side", ["left", "right"])
def test_half_precision_works(side):
    log_probs, mask = batch()
    half = ift.ift_loss(log_probs.half(), mask, 0.9, side=side)
    torch.testing.assert_close(half.double(), ift.ift_loss(log_probs, mask, 0.9, side=side), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("loss", [ift.sft_loss, ift.dft_loss, lambda lp, mask: ift.ift_loss(lp, mask, 0.9)])
def test_masked_entries_never_matter(loss):
    log_probs, mask = batch()
    spoiled = torch.where(mask, log_probs, torch.nan).requires_grad_()
    losses = loss(spoiled, mask)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), loss(log_probs, mask))
    assert spoiled.grad is not None
    assert spoiled.grad.isfinite().all()


def test_every_loss_passes_gradcheck():
    log_probs, mask = batch()
    log_probs.requires_grad_()
    four = [p.requires_grad_() for p in pairs()]
    two = four[:2]
    desirable = torch.tensor([True, False, True, False, True])
    old, advantages = log_probs.detach() + 0.05, torch.linspace(-1, 1, log_probs.numel()).double().view_as(log_probs)
    checks = {
        "sft": (lambda lp: ift.sft_loss(lp, mask), (log_probs,)),
        "product": (lambda lp: ift.ift_loss(lp, mask, 0.9), (log_probs,)),
        "sum": (lambda lp: ift.ift_loss(lp, mask, 0.9, form="sum"), (log_probs,)),
        "dpo": (lambda *lp: ift.dpo_loss(*lp, 0.5, 0.1), tuple(four)),
        "ipo": (lambda *lp: ift.ipo_loss(*lp, 0.5), tuple(four)),
        "orpo": (lambda *lp: ift.orpo_loss(*lp, 0.5), tuple(two)),
        "simpo": (lambda *lp: ift.simpo_loss(*lp, 2.0, 0.5), tuple(two)),
        "kto": (lambda lp: ift.kto_loss(lp, four[1].detach(), desirable, torch.tensor(0.3), 0.5), (four[0],)),
        "ppo": (lambda lp: ift.ppo_loss(lp, old, advantages, mask), (log_probs,)),
    }
    for name, (loss, inputs) in checks.items():
        assert torch.autograd.gradcheck(loss, inputs), name


def test_dft_scales_each_tokens_gradient_by_its_probability():
    log_probs = torch.tensor([[-0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    ift.dft_loss(log_probs, torch.ones(1, 2)).sum().backward()
    torch.testing.assert_close(log_probs.grad, -log_probs.detach().exp() / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orpo_does_not_overflow_where_a_log_prob_nears_0(dtype):
    near = torch.tensor([0.0, -1e-12, -1e-7, -0.1], dtype=dtype)
    chosen, rejected = (part.flatten().clone().requires_grad_() for part in torch.meshgrid(near, near, indexing="ij"))
    losses = ift.orpo_loss(chosen, rejected, 0.5)
    losses.sum().backward()
    for values in (losses, chosen.grad, rejected.grad):
        assert values is not None
        assert values.isfinite().all()


def test_orpo_is_exact_away_from_0():
    chosen, rejected = -0.3, -1.7
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (chosen, rejected)]
    expected = -chosen + 0.7 * math.log1p(odds[1] / odds[0])
    actual = ift.orpo_loss(torch.tensor(chosen).double(), torch.tensor(rejected).double(), 0.7)
    assert actual.item() == pytest.approx(expected, rel=1e-7)


def test_dpo_at_the_reference_is_log_2_and_does_not_overflow():
    chosen, rejected, *_ = pairs()
    torch.testing.assert_close(
        ift.dpo_loss(chosen, rejected, chosen, rejected, 0.1), torch.full((5,), math.log(2.0)).double()
    )
    assert ift.dpo_loss(chosen - 1e6, rejected, chosen, rejected, 1.0).isfinite().all()


def test_simpo_margin_moves_the_target():
    two = [torch.tensor(-1.0), torch.tensor(-2.0)]
    assert ift.simpo_loss(*two, 2.0, 2.0).item() == pytest.approx(math.log(2))
    assert ift.simpo_loss(*two, 2.0, 0.0) < ift.simpo_loss(*two, 2.0, 1.0)


def test_kto_by_hand():
    log_probs, reference = torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0])
    losses = ift.kto_loss(log_probs, reference, torch.tensor([True, False]), torch.tensor(0.25), 2.0, 1.0, 3.0)
    gain = 1 / (1 + math.exp(-2 * 0.75))
    assert losses.tolist() == pytest.approx([1 - gain, 3 * gain])
    clamped = ift.kto_loss(log_probs, reference, torch.tensor([True, True]), torch.tensor(-9.0), 2.0)
    assert clamped.tolist() == pytest.approx([1 - 1 / (1 + math.exp(-2))] * 2)


def test_ppo_clips_only_the_gain():
    old, mask = torch.zeros(1, 4), torch.ones(1, 4)
    log_probs = torch.log(torch.tensor([[1.5, 0.5, 1.5, 0.5]]))
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    per_token = [1.2, 0.5, -1.5, -0.8]  # min(r A, clamp(r) A)
    assert ift.ppo_loss(log_probs, old, advantages, mask).item() == pytest.approx(-sum(per_token) / 4)


@pytest.mark.parametrize("name", ["dpo", "ipo", "orpo", "simpo"])
def test_a_tensor_of_betas_equals_a_loop(name):
    loss = ift.METHODS[name].loss
    arguments = pairs(shape=(3, 4))[: 4 if name in ("dpo", "ipo") else 2]
    betas = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    together = loss(*arguments, betas.view(3, 1))
    for i, beta in enumerate(betas.tolist()):
        torch.testing.assert_close(together[i], loss(*(a[i] for a in arguments), beta))


@pytest.mark.parametrize("beta", [0, -1, float("nan"), float("inf"), torch.tensor([0.1, 0.0])])
def test_beta_must_be_positive(beta):
    two = [torch.tensor([-1.0, -1.0])] * 2
    for loss, arguments in (
        (ift.dpo_loss, two * 2),
        (ift.ipo_loss, two * 2),
        (ift.orpo_loss, two),
        (ift.simpo_loss, two),
        (ift.kto_loss, [*two, torch.tensor([True, False]), torch.tensor(0.0)]),
    ):
        with pytest.raises(ValueError, match="beta must be a finite number above 0"):
            loss(*arguments, beta)


def test_other_bad_values_are_refused_by_name():
    log_probs, mask = batch()
    with pytest.raises(ValueError, match="form must be one of product, sum"):
        ift.ift_loss(log_probs, mask, 0.5, form="both")
    with pytest.raises(ValueError, match="label_smoothing"):
        ift.dpo_loss(*pairs(), 0.1, 0.7)
    with pytest.raises(ValueError, match="clip"):
        ift.ppo_loss(log_probs, log_probs, log_probs, mask, clip=0.0)
    with pytest.raises(ValueError, match="mask must have the shape of"):
        ift.sft_loss(log_probs, mask[:, :2])
