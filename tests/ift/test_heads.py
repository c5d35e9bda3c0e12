from contextlib import contextmanager

import pytest
import torch

from ift import heads
from ift.heads import ReferenceHead, next_tokens, target_scores, token_losses


def head(seed=0, positions=10, features=4, vocabulary=7):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in
            ((positions, features), (vocabulary, features), (vocabulary,))]  # fmt: skip
    return *draw, torch.randint(vocabulary, (positions,), generator=generator)


@pytest.fixture(params=[1, 3, 10, 1024])
def chunk(request, monkeypatch):
    monkeypatch.setattr("ift.heads.CHUNK", request.param)


@pytest.mark.parametrize("softcap", [None, 1.5])
def test_chunks_equal_all_logits_at_once(chunk, softcap):
    hidden, weight, bias, targets = head()
    logits = hidden @ weight.T + bias
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    said = next_tokens(hidden, weight, bias, targets, softcap=softcap)
    assert torch.equal(said.most_likely, logits.argmax(-1))
    assert torch.equal(said.tokens[:, 0], said.most_likely)
    torch.testing.assert_close(said.log_probs, logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0])


def test_expected_takes_the_likeliest_by_probability():
    hidden, weight, bias, targets = head()
    probs = (hidden @ weight.T + bias).softmax(-1)
    said = next_tokens(hidden, weight, bias, targets, prediction="expected", top_k=3)
    top, tokens = probs.topk(3)
    assert torch.equal(said.tokens, tokens)
    torch.testing.assert_close(said.shares, top / top.sum(-1, keepdim=True))


def test_samples_follow_the_distribution():
    hidden, weight, bias, targets = head(positions=1)
    many = [part.expand(20_000, *part.shape[1:]) for part in (hidden, targets)]
    said = next_tokens(many[0], weight, bias, many[1], prediction="sampled", generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(said.tokens[:, 0], minlength=7) / 20_000
    torch.testing.assert_close(counts.double(), (hidden[0] @ weight.T + bias).softmax(-1), atol=0.015, rtol=0)


def test_bad_values_are_refused_by_name():
    with pytest.raises(ValueError, match="prediction must be one of"):
        next_tokens(*head()[:4], prediction="beam")
    with pytest.raises(ValueError, match="top_k"):
        next_tokens(*head()[:4], prediction="expected", top_k=0)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("with_bias", [True, False])
def test_target_scores_equal_all_logits_at_once_with_their_gradients(chunk, softcap, with_bias):
    hidden, weight, bias, targets = head()
    parameters = [part.requires_grad_() for part in (hidden, weight, *([bias] if with_bias else []))]
    bias = bias if with_bias else None
    logits = torch.nn.functional.linear(hidden, weight, bias)
    log_probs = (logits if softcap is None else softcap * torch.tanh(logits / softcap)).log_softmax(-1)
    wanted = log_probs.gather(-1, targets[:, None])[:, 0]
    scores = target_scores(hidden, weight, bias, targets, softcap=softcap)
    torch.testing.assert_close(scores.log_probs, wanted)
    torch.testing.assert_close(scores.entropy, -(log_probs.exp() * log_probs).sum(-1))
    assert torch.equal(scores.most_likely, log_probs.argmax(-1))
    upstream = torch.linspace(-1, 2, len(targets), dtype=torch.float64)
    found = torch.autograd.grad(scores.log_probs @ upstream, parameters)
    torch.testing.assert_close(found, torch.autograd.grad(wanted @ upstream, parameters))


def test_target_scores_in_half_precision_and_with_a_frozen_head():
    hidden, weight, _, targets = (part.bfloat16() if part.is_floating_point() else part for part in head())
    scores = target_scores(hidden.requires_grad_(), weight, None, targets)
    assert scores.log_probs.dtype == torch.float32
    scores.log_probs.sum().backward()
    wanted = torch.nn.functional.linear(hidden.float(), weight.float()).log_softmax(-1)
    torch.testing.assert_close(scores.log_probs, wanted.gather(-1, targets[:, None])[:, 0], rtol=0.02, atol=0.02)
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad is None


def test_the_head_is_put_together_in_both_directions():
    """As ZeRO-3 keeps it: outside `gathered` the parameter is empty."""
    hidden, weight, bias, targets = head()
    whole, empty, depth = weight.clone(), torch.empty(0, dtype=weight.dtype), [0]
    weight = torch.nn.Parameter(empty)

    @contextmanager
    def gathered():
        depth[0] += 1
        weight.data = whole
        yield
        depth[0] -= 1
        weight.data = whole if depth[0] else empty

    scores = target_scores(hidden.requires_grad_(), weight, bias, targets, gathered=gathered)
    assert not len(weight)
    with gathered():  # where the engine's hooks take the gradient
        scores.log_probs.sum().backward()
    plain = whole.clone().requires_grad_()
    target_scores(hidden.detach(), plain, bias, targets).log_probs.sum().backward()
    torch.testing.assert_close(weight.grad, plain.grad)


def test_no_positions_are_no_error():
    hidden, weight, bias, targets = head(positions=0)
    scores = target_scores(hidden.requires_grad_(), weight, bias, targets)
    scores.log_probs.sum().backward()
    assert scores.log_probs.shape == (0,)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("with_reference", [True, False])
def test_token_losses_equal_all_logits_at_once_with_their_gradients(chunk, softcap, with_reference):
    """A loss that reads both policies: the value, its gradients, and the scores, whatever the size of a chunk."""
    hidden, weight, bias, targets = head()
    other = head(seed=1)
    reference = ReferenceHead(*other[:3]) if with_reference else None
    held = []

    def loss(log_probs, tokens, policy, reference_policy):
        held.append(len(policy))
        assert torch.equal(log_probs, policy.gather(-1, tokens[:, None])[:, 0])
        anchor = policy.exp().square() if reference_policy is None else reference_policy.exp() * policy
        return -log_probs.exp() * log_probs - anchor.sum(-1)

    parameters = [part.requires_grad_() for part in (hidden, weight, bias)]
    losses, scores = token_losses(hidden, weight, bias, targets, loss, reference=reference, softcap=softcap)
    found = torch.autograd.grad((losses * torch.arange(1.0, 11.0)).sum(), parameters)
    assert max(held) == min(heads.CHUNK, 10)
    logits = hidden @ weight.T + bias
    policy = (logits if softcap is None else softcap * torch.tanh(logits / softcap)).log_softmax(-1)
    reference_policy = (other[0] @ other[1].T + other[2]).log_softmax(-1) if with_reference else None
    expected = loss(policy.gather(-1, targets[:, None])[:, 0], targets, policy, reference_policy)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(found, torch.autograd.grad((expected * torch.arange(1.0, 11.0)).sum(), parameters))
    torch.testing.assert_close(scores.entropy, -(policy.exp() * policy).sum(-1))
    assert torch.equal(scores.most_likely, policy.argmax(-1))
