import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ift
from ift.propagation import Norm, Side, Source

SOURCES, NORMS, SIDES = Source.__args__, Norm.__args__, Side.__args__
OPTIONS = [(source, norm, side) for source in SOURCES for norm in NORMS for side in SIDES]
gammas = st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0])


@st.composite
def losses_and_masks(draw):
    """nll `[rows, tokens]` ≥ 0 and a mask with at least one answer token in each row."""
    rows, tokens, seed = draw(st.integers(1, 4)), draw(st.integers(1, 20)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, tokens)) < 0.6
    mask[np.arange(rows), rng.integers(tokens, size=rows)] = True
    return torch.tensor(rng.exponential(size=(rows, tokens))), torch.tensor(mask)


def suffix_sum_by_definition(x, gamma):
    """The recursion y[t] = x[t] + γ y[t + 1] in extended precision."""
    y = np.asarray(x, dtype=np.longdouble).copy()
    for t in range(y.shape[-1] - 2, -1, -1):
        y[..., t] += np.longdouble(gamma) * y[..., t + 1]
    return y


@pytest.mark.parametrize("gamma", [0, 0.5, 0.95, 0.999, 1])
@pytest.mark.parametrize("tokens", [1, 2, 3, 64, 1000, 16_384])
def test_suffix_sum_is_exact(tokens, gamma):
    x = np.random.default_rng(tokens).exponential(size=(2, tokens))
    fast = ift.discounted_suffix_sum(torch.tensor(x), gamma).numpy()
    np.testing.assert_allclose(fast, suffix_sum_by_definition(x, gamma).astype(float), rtol=1e-12, atol=0)


@given(losses_and_masks(), gammas)
def test_suffix_sum_satisfies_the_bellman_identity(case, gamma):
    """V_n = ℓ_n + γ V_{n+1}, the identity that the paper proves."""
    nll, _ = case
    values = ift.discounted_suffix_sum(nll, gamma)
    following = torch.cat([values[:, 1:], torch.zeros(len(nll), 1)], dim=1)
    torch.testing.assert_close(values, nll + gamma * following, rtol=1e-12, atol=1e-12)


def test_suffix_sum_and_weights_pass_gradcheck():
    generator = torch.Generator().manual_seed(0)
    nll = torch.rand(2, 3, 7, dtype=torch.float64, generator=generator).requires_grad_()
    gamma = torch.tensor([0.3, 0.9], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    mask = torch.rand(2, 3, 7, generator=generator) < 0.8
    assert torch.autograd.gradcheck(ift.discounted_suffix_sum, (nll, gamma))
    assert torch.autograd.gradcheck(ift.discounted_prefix_sum, (nll, gamma))
    for source, norm, side in OPTIONS:

        def weights(nll, gamma, source=source, norm=norm, side=side):
            return ift.relation_weights(nll, mask, gamma, source=source, norm=norm, side=side)

        assert torch.autograd.gradcheck(weights, (nll, gamma)), (source, norm, side)


@given(losses_and_masks(), gammas, st.sampled_from(OPTIONS))
def test_weights_average_one_over_answer_tokens(case, gamma, option):
    nll, mask = case
    source, norm, side = option
    weights = ift.relation_weights(nll, mask, gamma, source=source, norm=norm, side=side)
    torch.testing.assert_close(weights.sum(-1), mask.sum(-1).double())
    assert (weights[~mask] == 0).all()


@given(losses_and_masks(), gammas, st.sampled_from(OPTIONS), st.integers(0, 5), st.integers(0, 5))
def test_padding_and_prompt_tokens_change_nothing(case, gamma, option, before, after):
    nll, mask = case
    source, norm, side = option

    def padded(x, fill):
        return torch.nn.functional.pad(x, (before, after), value=fill)

    options = {"source": source, "norm": norm, "side": side}
    plain = ift.relation_weights(nll, mask, gamma, **options)
    more = ift.relation_weights(padded(nll, 123.0), padded(mask, False), gamma, **options)
    torch.testing.assert_close(more, padded(plain, 0.0), rtol=1e-9, atol=1e-12)


@given(losses_and_masks(), gammas, st.sampled_from(OPTIONS), st.randoms(use_true_random=False))
def test_batch_order_changes_nothing(case, gamma, option, random):
    nll, mask = case
    source, norm, side = option
    order = list(range(len(nll)))
    random.shuffle(order)
    options = {"source": source, "norm": norm, "side": side}
    plain = ift.relation_weights(nll, mask, gamma, **options)
    shuffled = ift.relation_weights(nll[order], mask[order], gamma, **options)
    torch.testing.assert_close(shuffled, plain[order])


@given(losses_and_masks(), st.sampled_from(OPTIONS))
def test_a_tensor_of_gammas_equals_a_loop_over_them(case, option):
    nll, mask = case
    source, norm, side = option
    options = {"source": source, "norm": norm, "side": side}
    values = [0.0, 0.5, 0.95, 1.0]
    together = ift.relation_weights(
        nll.expand(4, *nll.shape),
        mask.expand(4, *mask.shape),
        torch.tensor(values, dtype=torch.float64).view(4, 1, 1),
        **options,
    )
    for i, gamma in enumerate(values):
        torch.testing.assert_close(together[i], ift.relation_weights(nll, mask, gamma, **options))


@pytest.mark.parametrize("side", SIDES)
def test_rows_without_labels_or_without_loss_stay_finite(side):
    nll = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0]])
    weights = ift.relation_weights(nll, mask, 0.9, side=side)
    weights.sum().backward()
    assert weights.isfinite().all()
    assert nll.grad is not None
    assert nll.grad.isfinite().all()
    assert (weights[0] == 0).all()


def test_padding_may_hold_anything():
    nll = torch.tensor([[1.0, 2.0, float("nan"), float("inf")]])
    mask = torch.tensor([[1, 1, 0, 0]])
    for source, norm, side in OPTIONS:
        assert ift.relation_weights(nll, mask, 0.9, source=source, norm=norm, side=side).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": torch.tensor([0.5, 2.0]).view(2, 1)}, "gamma must lie in"),
        ({"source": "losses"}, "source must be one of loss, logps, mask"),
        ({"norm": "L3"}, "norm must be one of"),
        ({"side": "up"}, "side must be one of"),
        ({"mask": torch.ones(2, 3)}, "mask must have the shape of nll"),
    ],
)
def test_bad_values_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        ift.relation_weights(**({"nll": torch.ones(2, 4), "mask": torch.ones(2, 4), "gamma": 0.5} | arguments))


def test_a_gamma_per_token_is_refused():
    with pytest.raises(ValueError, match="one number per sequence"):
        ift.discounted_suffix_sum(torch.ones(2, 4), torch.full((4,), 0.5))
