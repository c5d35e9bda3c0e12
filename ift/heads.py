"""What a model would say next, read off a large linear head without ever holding all logits."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ift.checks import check_choice

Prediction = Literal["greedy", "sampled", "expected"]


@dataclass(frozen=True, eq=False)
class NextTokens:
    """Predictions for `positions` hidden states: tokens with their shares, and what the head says of the targets.

    Attributes:
        tokens: predicted token ids `[positions, k]`, k = 1 but for `expected`.
        shares: how much each counts, `[positions, k]`, sums to 1.
        log_probs: log-probability of the target tokens, `[positions]`, float32 or wider.
        most_likely: the arg-max token ids, `[positions]`.
    """

    tokens: Tensor
    shares: Tensor
    log_probs: Tensor
    most_likely: Tensor


@torch.no_grad()
def next_tokens(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    prediction: Prediction = "greedy",
    top_k: int = 8,
    softcap: float | None = None,
    generator: torch.Generator | None = None,
    chunk: int = 1024,
) -> NextTokens:
    """Predicted tokens and target log-probabilities of `hidden @ weight.T + bias`, `chunk` positions at a time.

    Without gradient. The logits held at any time are `[chunk, vocabulary]`.

    Args:
        hidden: `[positions, features]`.
        weight, bias: of the head, `[vocabulary, features]` and `[vocabulary]`.
        targets: token ids `[positions]`.
        prediction: `greedy` takes the arg-max, `sampled` one draw, `expected` the `top_k` likeliest, by probability.
        softcap: caps logits to softcap · tanh(logit / softcap), as some models do.
        generator: of the draws, on the device of `hidden`.
        chunk: positions projected at a time.

    Raises:
        ValueError: an unknown prediction, or `top_k` below 1.
    """
    check_choice("prediction", prediction, ("greedy", "sampled", "expected"))
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    parts = []
    for rows, wanted in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        logits = torch.nn.functional.linear(rows, weight, bias)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        log_probs = logits.log_softmax(-1)
        best = log_probs.argmax(-1, keepdim=True)
        if prediction == "greedy":
            tokens, shares = best, torch.ones_like(best, dtype=log_probs.dtype)
        elif prediction == "sampled":
            tokens = torch.multinomial(log_probs.exp(), 1, generator=generator)
            shares = torch.ones_like(tokens, dtype=log_probs.dtype)
        else:
            top, tokens = log_probs.topk(min(top_k, log_probs.shape[-1]))
            shares = top.softmax(-1)
        parts.append((tokens, shares, log_probs.gather(-1, wanted[:, None])[:, 0], best[:, 0]))
    return NextTokens(*(torch.cat(part) for part in zip(*parts, strict=True)))
