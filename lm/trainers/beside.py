"""States beside the target in the same rows: what the model would read after another token than the target's."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ift.heads import ReferenceHead, likeliest_others

SHARE = 0.25  # of an answer's tokens that are tried otherwise: those where the reference most likely would


@dataclass(frozen=True, eq=False)
class Beside:
    """Tokens that take the place of a target's token, one at a time: each is a state of its own.

    Attributes:
        tokens: ids `[batch, states]`.
        places: the column of the token whose place each takes, `[batch, states]`.
        visits: the share of each state, `[batch, states]`; of a row they sum to 1, or to 0 where it has none.
    """

    tokens: Tensor
    places: Tensor
    visits: Tensor


def states_beside(reference: ReferenceHead, labels: Tensor, ends: list[int]) -> Beside:
    """One step of the reference's own from states of the target `[batch, tokens]`, by the probability that it takes it.

    At each answer token the step is the reference's likeliest token that is neither the target's nor one of `ends`,
    after which nothing follows. The likeliest steps of a row are kept, as many as `SHARE` of the longest answer.
    """
    answer = labels[:, 1:] != -100
    wanted = labels[:, 1:][answer].to(reference.hidden.device)
    barred = torch.cat([wanted[:, None], wanted.new_tensor(ends).expand(len(wanted), -1)], 1)
    others, log_probs = likeliest_others(
        reference.hidden, reference.weight, reference.bias, barred, softcap=reference.softcap
    )
    chances = log_probs.new_zeros(answer.shape).masked_scatter(answer, log_probs.exp())
    tokens = torch.zeros_like(labels[:, 1:]).masked_scatter(answer, others.to(labels.device))
    count = max(1, round(SHARE * int(answer.sum(-1).max())))
    visits, places = chances.topk(min(count, chances.shape[1]), -1)
    visits = visits / visits.sum(-1, keepdim=True).clamp(min=torch.finfo(visits.dtype).tiny)
    return Beside(tokens.gather(1, places), places + 1, visits)


def with_states(inputs: dict[str, Any], beside: Beside, dtype: torch.dtype) -> dict[str, Any]:
    """The batch with the states beside the target behind each row, for one pass of the model.

    A token that is tried sees the target up to its place, and itself; nothing sees it. It stands at the position of the
    token whose place it takes. So the target's own states are what they are without it. Labels are longer by the states
    and a column between them, `[batch, tokens + 1 + states]`: what is said after the i-th token that is tried has its
    label (0, which means nothing) in column tokens + 1 + i.
    """
    ids, labels = inputs["input_ids"], inputs["labels"]
    rows, length = ids.shape
    states = beside.tokens.shape[1]
    seen = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids, dtype=torch.bool)
    column = torch.arange(length, device=ids.device)
    size = length + states + 1
    sees = torch.zeros(rows, size, size, dtype=torch.bool, device=ids.device)
    sees[:, :length, :length] = (column <= column[:, None]) & seen[:, None]
    sees[:, length:-1, :length] = (column < beside.places[..., None]) & seen[:, None]
    sees |= torch.eye(size, dtype=torch.bool, device=ids.device)
    hidden = torch.zeros(sees.shape, dtype=dtype, device=ids.device).masked_fill_(~sees, torch.finfo(dtype).min)
    blank = ids.new_zeros(rows, 1)
    tried = torch.where(beside.visits > 0, 0, -100).to(labels)
    return {
        "input_ids": torch.cat([ids, beside.tokens, blank], 1),
        "labels": torch.cat([labels, blank - 100, tried], 1),
        "attention_mask": hidden[:, None],
        "position_ids": torch.cat([column.expand(rows, -1), beside.places, blank], 1),
    }
