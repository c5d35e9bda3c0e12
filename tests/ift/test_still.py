"""Standing still beside the target: against its definition written slowly, its gradient, and where it is SFT."""

import math
from dataclasses import replace

import pytest
import torch

import ift
from ift.trying import try_method

GENERATOR = torch.Generator().manual_seed(11)
LOGITS, START = torch.randn(2, 3, 5, 4, generator=GENERATOR, dtype=torch.float64)
BESIDE, START_BESIDE = torch.randn(2, 3, 6, 4, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.randint(4, (3, 5), generator=GENERATOR)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
VISITS = torch.rand(3, 6, generator=GENERATOR, dtype=torch.float64).softmax(-1)


def loss(logits=LOGITS, beside=BESIDE, start=START, hold=0.7, ties=0.3, sharpest=3.0):
    policy, reference_policy = logits.log_softmax(-1), start.log_softmax(-1)
    log_probs, reference = (table.gather(-1, TARGETS[..., None])[..., 0] for table in (policy, reference_policy))
    return ift.still_loss(
        log_probs, MASK, policy, reference, reference_policy, beside.log_softmax(-1), START_BESIDE.log_softmax(-1),
        VISITS, hold, ties, sharpest,
    )  # fmt: skip


def sharpness_slowly(row, sharpest, start=START):
    """The likeliest power on a fine grid."""

    def likelihood(t):
        return sum((t * start[row, i]).log_softmax(-1)[TARGETS[row, i]].item() for i in range(5) if MASK[row, i])

    return max((step * sharpest / 500 for step in range(501)), key=likelihood)


@pytest.mark.parametrize("row", [0, 1])
def test_the_sharpness_is_the_likeliest_on_a_fine_grid(row):
    reference_policy = START.log_softmax(-1)
    reference = reference_policy.gather(-1, TARGETS[..., None])[..., 0]
    for sharpest in (0.5, 3.0):
        found = ift.start_sharpness(reference, reference_policy, MASK, sharpest)[row].item()
        assert found == pytest.approx(sharpness_slowly(row, sharpest), abs=sharpest / 400)


def test_a_target_that_the_start_always_prefers_gets_the_largest_power_and_one_it_never_does_the_least():
    for action, expected in ((LOGITS.argmax(-1), 5.0), (LOGITS.argmin(-1), 0.0)):
        table = LOGITS.log_softmax(-1)
        chosen = table.gather(-1, action[..., None])[..., 0]
        found = ift.start_sharpness(chosen, table, torch.ones_like(MASK), 5.0)
        torch.testing.assert_close(found, torch.full((3,), expected, dtype=torch.float64), atol=1e-3, rtol=0)


def test_it_is_its_definition():
    """Sequence by sequence, token by token; the power is that of the fast path, which has a test of its own."""
    found = loss()
    powers = ift.start_sharpness(
        START.log_softmax(-1).gather(-1, TARGETS[..., None])[..., 0], START.log_softmax(-1), MASK, 3.0
    )
    for row in range(3):
        tokens = [i for i in range(5) if MASK[row, i]]
        if not tokens:
            assert found[row] == 0
            continue
        t = powers[row].item()
        explained = [(t * START[row, i].log_softmax(-1)).log_softmax(-1)[TARGETS[row, i]].item() for i in tokens]
        trust = max(0.0, 1 + sum(explained) / len(tokens) / math.log(4))
        total = 0.0
        for i in tokens:
            start, policy, target = START[row, i].softmax(-1), LOGITS[row, i].softmax(-1), TARGETS[row, i]
            kernel = [math.exp(-abs(math.log(start[a] / start[target])) / 0.3) for a in range(4)]
            for a in range(4):
                share = trust * kernel[a] / sum(kernel) + (1 - trust) * (a == target)
                total -= float(share) * math.log(policy[a])
            for s in range(6):
                held = START_BESIDE[row, s].softmax(-1) ** t
                held, here = held / held.sum(), BESIDE[row, s].softmax(-1)
                total += 0.7 * VISITS[row, s].item() * float((held * (held / here).log()).sum())
        assert found[row].item() == pytest.approx(total, rel=1e-9)


def test_its_gradient_is_that_of_its_values():
    logits, beside = (part.clone().requires_grad_() for part in (LOGITS, BESIDE))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b), (logits, beside))


def test_it_is_sft_where_nothing_is_held_and_no_ties_are_left_open():
    expected = MASK.sum(-1) * ift.sft_loss(LOGITS.log_softmax(-1).gather(-1, TARGETS[..., None])[..., 0], MASK)
    torch.testing.assert_close(loss(hold=0.0, ties=0.0), expected)


def test_a_start_that_knows_no_more_than_chance_leaves_the_target_as_it_is():
    torch.testing.assert_close(loss(start=torch.zeros_like(START), hold=0.0), loss(hold=0.0, ties=0.0))


def test_two_actions_that_the_start_holds_for_equal_share_the_target():
    start = torch.full_like(START, -6.0)
    start.scatter_(-1, TARGETS[..., None], 0.0).scatter_(-1, (TARGETS[..., None] + 1) % 4, 0.0)
    logits = LOGITS.clone().requires_grad_()
    loss(logits, start=start, hold=0.0)[0].backward()
    pulled = -logits.grad[0] + LOGITS[0].softmax(-1)  # the shares: −∂/∂logit = q − π
    first, second = (pulled.gather(-1, (TARGETS[0, :, None] + k) % 4)[:, 0] for k in (0, 1))
    assert (second > 0.2).all()
    assert (first > second).all()  # the start explains the target only in part, and what is left is the target's
    torch.testing.assert_close(first + second, torch.ones(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_numbers_may_differ_between_runs():
    numbers = {"hold": (0.2, 1.0, 3.0), "ties": (0.1, 0.2, 0.4), "sharpest": (1.0, 4.0, 0.3)}
    together = loss(**{name: torch.tensor(values, dtype=torch.float64)[:, None] for name, values in numbers.items()})
    for row in range(3):
        alone = loss(**{name: values[row] for name, values in numbers.items()})[row]
        torch.testing.assert_close(together[row], alone)


def test_it_does_what_its_value_says_as_a_method_from_outside_has_to():
    try_method(ift.METHODS["still"])
    broken = replace(ift.METHODS["still"], reads=("policy", "reference", "reference_policy"))
    with pytest.raises(ValueError, match="beside"):
        try_method(broken)
