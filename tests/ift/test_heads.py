import pytest
import torch

from ift.heads import next_tokens


def head(seed=0, positions=10, features=4, vocabulary=7):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in
            ((positions, features), (vocabulary, features), (vocabulary,))]  # fmt: skip
    return *draw, torch.randint(vocabulary, (positions,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 3, 10, 1024])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_chunks_equal_all_logits_at_once(chunk, softcap):
    hidden, weight, bias, targets = head()
    logits = hidden @ weight.T + bias
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    said = next_tokens(hidden, weight, bias, targets, softcap=softcap, chunk=chunk)
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
