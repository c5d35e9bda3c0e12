"""Each cousin's loss against its definition written slowly, its gradient, and values recorded from the definitions."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

import ift

GENERATOR = torch.Generator().manual_seed(7)
LOGITS, OLD_LOGITS = torch.randn(2, 3, 5, 6, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randint(6, (3, 5), generator=GENERATOR)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
REST = {
    "asft": {"kl_weight": 0.3},
    "eaft": {"entropy_power": 1.5},
    "gem": {"temperature": 0.7},
    "power": {"exponent": 2.0},
    "psft": {"clip": 0.28},
    "iwsft": {"weight_low": 0.2, "weight_high": 1.8},
}


def loss_of(name, logits, numbers=None):
    """The method's loss of each sequence, as both front ends call it."""
    method = ift.METHODS[name]
    policy, old = logits.log_softmax(-1), OLD_LOGITS.log_softmax(-1)
    log_probs, old_log_probs = (table.gather(-1, TARGETS[..., None])[..., 0] for table in (policy, old))
    reads = {"policy": policy, "reference": old_log_probs, "reference_policy": old}
    values = method.loss(
        log_probs, MASK, **{key: reads[key] for key in method.reads}, **(REST[name] if numbers is None else numbers)
    )
    return ift.masked_mean(values, MASK) if method.per_token else values


def slowly(name, logits):
    """The definition, token by token in plain numbers; what has no gradient is computed from other logits."""
    numbers, rows = REST[name], []
    for row in range(3):
        terms = []
        for step in range(5):
            if not MASK[row, step]:
                continue
            p, fixed = logits[row, step].softmax(-1), LOGITS[row, step].softmax(-1)
            p0, a = OLD_LOGITS[row, step].softmax(-1), TARGETS[row, step]
            terms.append(_TERMS[name](p, fixed, p0, a, **numbers))
        rows.append(sum(terms) / len(terms))
    return torch.stack(rows)


def _entropy_of_likeliest(fixed):
    top = sorted(fixed.tolist(), reverse=True)[:20]
    shares = [value / sum(top) for value in top]
    return -sum(share * math.log(share) for share in shares) / math.log(len(shares))


def _gem(p, fixed, p0, a, temperature):
    q = fixed ** (1 / temperature) / (fixed ** (1 / temperature)).sum()
    return -sum(q[b] * (p[a].log() - p[b].log()) for b in range(len(p)))


_TERMS = {
    "power": lambda p, fixed, p0, a, exponent: -(p[a] ** exponent),
    "asft": lambda p, fixed, p0, a, kl_weight: (
        -fixed[a] * p[a].log() + kl_weight * sum(p0[b] * (p0[b].log() - p[b].log()) for b in range(len(p)))
    ),
    "eaft": lambda p, fixed, p0, a, entropy_power: -(_entropy_of_likeliest(fixed) ** entropy_power) * p[a].log(),
    # PPO's two bounds, with an advantage of 1
    "psft": lambda p, fixed, p0, a, clip: -torch.minimum(p[a] / p0[a], (p[a] / p0[a]).clamp(1 - 0.2, 1 + clip)),
    "iwsft": lambda p, fixed, p0, a, weight_low, weight_high: (
        -min(max((fixed[a] / p0[a]).item(), weight_low), weight_high) * p[a].log()
    ),
    "gem": _gem,
}


@pytest.mark.parametrize("name", REST)
def test_a_loss_and_its_gradient_are_those_of_the_definition(name):
    here, there = (LOGITS.clone().requires_grad_() for _ in range(2))
    found, expected = loss_of(name, here), slowly(name, there)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((v * torch.arange(1.0, 4.0)).sum(), x)[0] for v, x in
                 ((found, here), (expected, there))]  # fmt: skip
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("name", ["power", "psft"])  # those without a detached weight
def test_gradients_by_finite_differences(name):
    assert torch.autograd.gradcheck(lambda logits: loss_of(name, logits), (LOGITS.clone().requires_grad_(),))


def test_a_number_may_differ_between_runs():
    """`[runs, 1, 1]`, as a sweep on a lake has them: every run has what it would have by itself."""
    shape = (2, 3, 5, 6)
    policy = LOGITS.log_softmax(-1).expand(shape)
    log_probs = policy.gather(-1, TARGETS.expand(2, 3, 5)[..., None])[..., 0]
    for name, number in (("gem", "temperature"), ("asft", "kl_weight"), ("eaft", "entropy_power")):
        method, both = ift.METHODS[name], torch.tensor([0.5, 0.9], dtype=torch.float64).view(2, 1, 1)
        old = OLD_LOGITS.log_softmax(-1).expand(shape)
        reads = {key: {"policy": policy, "reference_policy": old}[key] for key in method.reads}
        together = method.loss(log_probs, MASK.expand(2, 3, 5), **reads, **{number: both})
        for run, value in enumerate((0.5, 0.9)):
            alone = method.loss(log_probs, MASK.expand(2, 3, 5), **reads, **{number: value})
            torch.testing.assert_close(together[run], alone[run])


def test_what_they_are_at_their_ends():
    """−p has DFT's gradient; EAFT with α 0 is SFT; GEM with β 1 has SFT's gradient; ASFT without anchor is DFT."""
    gradients = {}
    for key, name, numbers in (
        ("-p", "power", {"exponent": 1.0}), ("sft", "sft", {}), ("dft", "dft", {}),
        ("gem", "gem", {"temperature": 1.0}),
        ("eaft", "eaft", {"entropy_power": 0.0}), ("asft", "asft", {"kl_weight": 0.0}),
    ):  # fmt: skip
        logits = LOGITS.clone().requires_grad_()
        (gradients[key],) = torch.autograd.grad(loss_of(name, logits, numbers).sum(), logits)
    for one, other in (("-p", "dft"), ("asft", "dft"), ("eaft", "sft"), ("gem", "sft")):
        torch.testing.assert_close(gradients[one], gradients[other])


def test_psft_stops_where_the_ratio_is_large_and_never_where_it_is_small():
    reference = torch.tensor([[-1.0, -1.0, -1.0]])
    log_probs = (reference + torch.tensor([[0.5, 0.1, -0.9]])).requires_grad_()
    ift.psft_loss(log_probs, torch.ones(1, 3), reference, 0.28).sum().backward()
    assert log_probs.grad[0, 0] == 0
    assert (log_probs.grad[0, 1:] < 0).all()


def test_values_as_torchs_own_functions_give_them():
    """ASFT's divergence as its authors' code asks for it, and GEM as cross-entropy less the sharpened policy's."""
    flat, old, targets = LOGITS.flatten(0, 1), OLD_LOGITS.flatten(0, 1), TARGETS.flatten()
    nll = cross_entropy(flat, targets, reduction="none")
    kl = kl_div(flat.log_softmax(-1), old.softmax(-1), reduction="none").sum(-1)
    expected = (-nll).exp() * nll + 0.3 * kl
    torch.testing.assert_close(loss_of("asft", LOGITS), ift.masked_mean(expected.view(3, 5), MASK))
    sharpened = (flat / 0.7).softmax(-1)
    expected = nll - cross_entropy(flat, sharpened, reduction="none")
    torch.testing.assert_close(loss_of("gem", LOGITS), ift.masked_mean(expected.view(3, 5), MASK))


def test_the_ceilings_loss_is_the_cross_entropy_to_the_optimum():
    policy = LOGITS.log_softmax(-1).clone()
    optimum = torch.zeros(3, 5, 6, dtype=torch.float64)
    optimum[..., :2] = 0.5
    policy[..., 5] = -torch.inf  # what the optimum never takes does not count, however unlikely
    expected = ift.masked_mean(-policy[..., :2].mean(-1), MASK)
    torch.testing.assert_close(ift.expert_loss(policy, optimum, MASK), expected)
