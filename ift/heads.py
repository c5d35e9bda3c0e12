"""Next tokens and target log-probabilities, read off a large linear head without ever holding all logits."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ift.checks import check_choice

Prediction = Literal["greedy", "sampled", "expected"]

CHUNK = 1024  # positions projected at a time: `[CHUNK, vocabulary]` logits are the most that are ever held
_CACHED = 2**18  # logits that a CPU goes over at a time: they stay in its cache from one operation to the next


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
) -> NextTokens:
    """Predicted tokens and target log-probabilities of `hidden @ weight.T + bias`, without gradient.

    Args:
        hidden: `[positions, features]`.
        weight, bias: of the head, `[vocabulary, features]` and `[vocabulary]`.
        targets: token ids `[positions]`.
        prediction: `greedy` takes the arg-max, `sampled` one draw, `expected` the `top_k` likeliest, by probability.
        softcap: caps logits to softcap · tanh(logit / softcap), as some models do.
        generator: of the draws, on the device of `hidden`.

    Raises:
        ValueError: an unknown prediction, or `top_k` below 1.
    """
    check_choice("prediction", prediction, ("greedy", "sampled", "expected"))
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    parts = []
    for rows, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
        logits = _logits(rows, weight, bias, softcap)
        if prediction == "greedy":
            tokens = shares = None
        elif prediction == "sampled":
            tokens = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            shares = torch.ones_like(tokens, dtype=logits.dtype)
        else:
            top, tokens = logits.topk(min(top_k, logits.shape[-1]))
            shares = top.softmax(-1)
        log_probs, _, most_likely = _read(logits, wanted, entropy=False)
        if tokens is None:
            tokens, shares = most_likely[:, None], torch.ones_like(log_probs[:, None])
        parts.append((tokens, shares, log_probs, most_likely))
    return NextTokens(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def likeliest_others(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    barred: Tensor,
    *,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest token of each position beside those that are `barred` `[positions, k]`, and its log-probability.

    Both are `[positions]`, without gradient; `hidden`, `weight`, `bias` and `softcap` as in `next_tokens`.
    """
    parts = []
    for rows, out in zip(hidden.split(CHUNK), barred.split(CHUNK), strict=True):
        logits = _logits(rows, weight, bias, softcap)
        total = logits.logsumexp(-1)
        best, tokens = logits.scatter_(-1, out, -torch.inf).max(-1)
        parts.append((tokens, best - total))
    tokens, log_probs = (torch.cat(part) for part in zip(*parts, strict=True))
    return tokens, log_probs


@dataclass(frozen=True, eq=False)
class TargetScores:
    """What the head says of the targets.

    Attributes:
        log_probs: log-probability of the target tokens, `[positions]`, float32 or wider; carries the gradient.
        entropy: of the next-token distribution, in nats, `[positions]`, no gradient.
        most_likely: the arg-max token ids, `[positions]`.
    """

    log_probs: Tensor
    entropy: Tensor
    most_likely: Tensor


def target_scores(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    softcap: float | None = None,
    gathered: Callable[[], AbstractContextManager] = nullcontext,
) -> TargetScores:
    """Log-probabilities of target tokens under `hidden @ weight.T + bias`, with gradient; shapes as in `next_tokens`.

    Never more than one chunk of logits is held. Where there are several chunks the backward pass projects again: one
    more product of matrices in place of `[positions, vocabulary]` of memory. Both directions enter `gathered()` while
    they read the head: engines that keep it in pieces (ZeRO-3) put it together there.
    """
    with gathered():  # around `apply`: autograd notes the shape that the gradient has to have
        return TargetScores(*_TargetScores.apply(hidden, weight, bias, targets, softcap, gathered))


@dataclass(frozen=True, eq=False)
class ReferenceHead:
    """The hidden states `[positions, features]` of another model with its head, and how it caps its logits."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    softcap: float | None = None

    def log_policy(self, begin: int, end: int) -> Tensor:
        """log π(· | s) of some positions, `[positions, vocabulary]`, without gradient."""
        with torch.no_grad():
            return _logits(self.hidden[begin:end], self.weight, self.bias, self.softcap).log_softmax(-1)


TokenLoss = Callable[..., Tensor]


def token_losses(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    loss: TokenLoss,
    *,
    reference: ReferenceHead | None = None,
    marks: Tensor | None = None,
    softcap: float | None = None,
    gathered: Callable[[], AbstractContextManager] = nullcontext,
) -> tuple[Tensor, TargetScores]:
    """A loss of each position that reads the whole policy there, `[positions]`, and the scores without gradient.

    `loss(log_probs, tokens, policy, reference_policy)` gets the target's log-probabilities `[n]`, their token ids, and
    log π(· | s) `[n, vocabulary]` of some positions at a time, the reference's too if there is one; and as a fifth
    argument their `marks`, of `[positions]`, if there are any. Never more than one chunk of each is held: the backward
    pass makes them again. `gathered` as in `target_scores`.
    """

    def piece(begin: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        end = begin + len(rows)
        with gathered():
            policy = _logits(rows, weight, bias, softcap).log_softmax(-1)
        reference_policy = None if reference is None else reference.log_policy(begin, end)
        wanted = targets[begin:end]
        log_probs = policy.gather(-1, wanted[:, None])[:, 0]
        marked = () if marks is None else (marks[begin:end],)
        losses = loss(log_probs, wanted, policy, reference_policy, *marked)
        fixed = policy.detach()
        return losses, log_probs.detach(), -torch.linalg.vecdot(fixed.exp(), fixed), fixed.argmax(-1)

    parts = [
        checkpoint(piece, CHUNK * number, rows, use_reentrant=False, preserve_rng_state=False)
        for number, rows in enumerate(hidden.split(CHUNK))
    ]
    losses, *scores = (torch.cat(part) for part in zip(*parts, strict=True))
    return losses, TargetScores(*scores)


class _TargetScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, softcap: Any, gathered: Any
    ) -> Any:
        parts, kept = [], None
        for rows, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
            logits = _logits(rows, weight, bias, softcap)
            parts.append(_read(logits, wanted))
        log_probs, entropy, most_likely = (torch.cat(part) for part in zip(*parts, strict=True))
        if len(parts) == 1 and softcap is None and any(ctx.needs_input_grad):
            kept = logits  # probabilities by now; a single chunk may stay: no second projection
        ctx.save_for_backward(hidden, weight, bias, targets, kept)
        ctx.softcap, ctx.gathered = softcap, gathered
        ctx.mark_non_differentiable(entropy, most_likely)
        return log_probs, entropy, most_likely

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        hidden, weight, bias, targets, kept = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        with ctx.gathered():
            grad_hidden = torch.empty_like(hidden) if need_hidden else None
            grad_weight = torch.zeros_like(weight) if need_weight else None
            grad_bias = torch.zeros_like(bias) if need_bias else None
            for begin in range(0, len(hidden), CHUNK):
                part = slice(begin, begin + CHUNK)
                # ∂ log p(y)/∂z = onehot(y) − p; a capped logit z = c·tanh(u/c) has ∂z/∂u = 1 − (z/c)².
                probs, slope = kept, None
                if kept is None:
                    logits = _logits(hidden[part], weight, bias, ctx.softcap)
                    probs = logits.softmax(-1)
                    slope = None if ctx.softcap is None else 1 - (logits / ctx.softcap).square()
                grad_logits = probs * -grad[part, None] if kept is probs else probs.mul_(-grad[part, None])
                grad_logits.scatter_add_(1, targets[part, None], grad[part, None])
                grad_logits = (grad_logits if slope is None else grad_logits.mul_(slope)).to(hidden.dtype)
                if grad_hidden is not None:
                    torch.mm(grad_logits, weight, out=grad_hidden[part])
                if grad_weight is not None:
                    grad_weight.addmm_(grad_logits.T, hidden[part])
                if grad_bias is not None:
                    grad_bias += grad_logits.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None, None


def _read(logits: Tensor, wanted: Tensor, *, entropy: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of the wanted tokens, entropy and arg-max of `logits [positions, vocabulary]`.

    The logits become probabilities in place, without another tensor of their size; without `entropy`, which is 0 then,
    they are lost.
    """
    parts = []
    on_cpu = logits.device.type == "cpu"  # on a GPU a few large operations are faster
    size = max(1, _CACHED // logits.shape[-1]) if on_cpu else max(1, len(logits))
    for rows, tokens in zip(logits.split(size), wanted.split(size), strict=True):
        best, most_likely = rows.max(-1)
        target = rows.gather(-1, tokens[:, None])[:, 0] - best
        shifted = rows.sub_(best[:, None])
        scores = shifted.exp() if entropy else shifted.exp_()
        total = scores.sum(-1)
        # Entropy as log Z − Σ p z, with z − max in place of z.
        spread = total.log() - torch.linalg.vecdot(scores, shifted) / total if entropy else torch.zeros_like(total)
        if entropy:
            torch.div(scores, total[:, None], out=rows)
        parts.append((target - total.log(), spread, most_likely))
    log_probs, entropies, likeliest = (torch.cat(part) for part in zip(*parts, strict=True))
    return log_probs, entropies, likeliest


def _logits(rows: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    logits = torch.nn.functional.linear(rows, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)
