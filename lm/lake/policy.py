"""A language model as a policy of the lake, and its exact distance to the optimal one: no judge, no sampling.

The state of a cell is the map and a shortest walk from the start to the cell. The model's four probabilities for the
next move there, renormalised, are its policy; what it gives to other tokens is reported beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.lake.maps import STEP
from lm.lake.words import move_tokens, prompt, prompt_ids
from toy.lake import Lake
from toy.planning import evaluate, value_iteration, visit_probability

DISCOUNT = 0.99
SCORES = (
    "policy_mse", "policy_kl", "policy_mse_visited", "policy_kl_visited", "value_gap", "success", "agreement",
)  # fmt: skip
BATCH = 32  # prompts at a time, each with all its states


class NoRoomError(ValueError):
    """A map does not fit into the model's context."""


@dataclass(frozen=True, eq=False)
class States:
    """The cells of some maps that can be reached alive, with a shortest walk to each.

    Attributes:
        map_of: which map `[states]`.
        cell_of: which cell, row by row `[states]`.
        walks: action indices from the start.
    """

    map_of: np.ndarray
    cell_of: np.ndarray
    walks: list[list[int]]


def as_lake(rows: np.ndarray, *, slippery: bool = False) -> Lake:
    """A map of letters as the small networks' lake."""
    return Lake.make(["".join(row) for row in rows], slippery=slippery)


def live_states(letters: np.ndarray) -> States:
    """Every cell that is neither hole nor goal and can be walked to, maps `[maps, size, size]`; ties: left, down, …"""
    size = letters.shape[1]
    maps, cells, walks = [], [], []
    for i, rows in enumerate(letters):
        flat = rows.ravel()
        start = int(np.flatnonzero(flat == "S")[0])
        walk_to: dict[int, list[int]] = {start: []}
        queue = [start]
        for cell in queue:  # grows while it is walked through: breadth first
            for move, (down, right) in enumerate(STEP.tolist()):
                row, column = cell // size + down, cell % size + right
                reached = row * size + column
                if 0 <= row < size and 0 <= column < size and reached not in walk_to and flat[reached] not in "HG":
                    walk_to[reached] = [*walk_to[cell], move]
                    queue.append(reached)
        maps += [i] * len(walk_to)
        cells += list(walk_to)
        walks += list(walk_to.values())
    return States(np.array(maps), np.array(cells), walks)


def move_probs(
    model: Any, tokenizer: Any, letters: np.ndarray, states: States, *, english: bool = False, slippery: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The model's next-move probabilities `[states, 4]`, renormalised, and the mass that it gives to anything else.

    On slippery ice the shortest walk to a cell is where one slid, and the next move is the whole answer.

    Raises:
        ValueError: a tokenizer that does not have each move as a token of its own.
        NoRoomError: a map beyond the model's context.
    """
    first, later = move_tokens(tokenizer)
    walks = states.walks
    if slippery:  # a prompt per state
        asked = [
            prompt_ids(tokenizer, prompt(letters[i], english=english, slid=walk))
            for i, walk in zip(states.map_of, walks, strict=True)
        ]
        prompt_of = np.arange(len(walks))
        said: list[list[int]] = [[] for _ in walks]
    else:
        asked = [prompt_ids(tokenizer, prompt(rows, english=english)) for rows in letters]
        prompt_of = states.map_of
        said = [[(later if n else first)[move] for n, move in enumerate(walk)] for walk in walks]
    moves = torch.tensor([later if ids else first for ids in said])
    probs = np.empty((len(walks), 4))
    for begin in range(0, len(asked), BATCH):
        here = np.flatnonzero((prompt_of >= begin) & (prompt_of < begin + BATCH))
        every = next_probs(
            model,
            asked[begin : begin + BATCH],
            prompt_of[here] - begin,
            [said[i] for i in here],
            tokenizer.pad_token_id,
        )
        probs[here] = every.gather(1, moves[here].to(every.device)).double().cpu().numpy()
    inside = probs.sum(1, keepdims=True)
    return np.divide(probs, inside, out=np.full_like(probs, 0.25), where=inside > 0), 1 - inside[:, 0]


def score_policy(
    letters: np.ndarray, states: States, probs: np.ndarray, *, slippery: bool = False
) -> dict[str, np.ndarray]:
    """Distances of a policy `[states, 4]` to the optimum, `[maps]` each; cells that cannot be reached count nowhere.

    `policy_mse`, `policy_kl` (optimum ‖ policy, nats) over the live states, `…_visited` weighted by how likely the
    policy gets there; `value_gap`, `success` from exact evaluation; `agreement`: greedy moves that are best.
    """
    size = letters.shape[1]
    table = np.full((len(letters), size * size, 4), 0.25)
    table[states.map_of, states.cell_of] = probs
    columns: dict[str, list[float]] = {name: [] for name in SCORES}
    for i, rows in enumerate(letters):
        cells = states.cell_of[states.map_of == i]
        ice = as_lake(rows, slippery=slippery)
        plan = value_iteration(ice, DISCOUNT)
        worth = evaluate(ice, table[i][None], DISCOUNT)
        visits = visit_probability(ice, table[i][None])[0][cells]
        best, policy = plan.policy[cells], table[i][cells]
        error = np.square(policy - best).mean(1)
        kl = np.where(best > 0, best * (np.log(np.maximum(best, 1e-300)) - np.log(np.maximum(policy, 1e-12))), 0).sum(1)
        scores = {
            "policy_mse": error.mean(),
            "policy_kl": kl.mean(),
            "policy_mse_visited": (error * visits).sum() / visits.sum(),
            "policy_kl_visited": (kl * visits).sum() / visits.sum(),
            "value_gap": float(plan.values[ice.starts].mean() - worth.returns[0]),
            "success": float(worth.success[0]),
            "agreement": float((best[np.arange(len(cells)), policy.argmax(1)] > 0).mean()),
        }
        for name, value in scores.items():
            columns[name].append(float(value))
    return {name: np.array(values) for name, values in columns.items()}


def next_probs(
    model: Any, prompts: Sequence[list[int]], prompt_of: np.ndarray, said: Sequence[list[int]], pad: int
) -> Tensor:
    """Probabilities of the token after `prompts[prompt_of[i]] + said[i]`, `[rows, vocabulary]`; a prompt is read once.

    Raises:
        NoRoomError: a row is longer than the model's context.
    """
    room_behind(model, [prompts[i] + ids for i, ids in zip(prompt_of, said, strict=True)])
    with evaluating(model):
        # All but the prompts' last token go into the cache; padding is on the left, so that what comes last is last.
        ids, mask = _padded([ids[:-1] for ids in prompts], pad)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        cache = model(**inputs, use_cache=True, logits_to_keep=1).past_key_values
        which = torch.as_tensor(prompt_of)
        cache.batch_select_indices(which.to(model.device))
        ids, tail = _padded([[prompts[i][-1], *ids] for i, ids in zip(prompt_of, said, strict=True)], pad)
        whole = torch.cat([mask[which], tail], 1)
        places = (whole.cumsum(1) - 1).clamp(min=0)[:, mask.shape[1] :]
        inputs = {"input_ids": ids, "attention_mask": whole, "position_ids": places}
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        logits = model(**inputs, past_key_values=cache, logits_to_keep=1).logits
    return logits[:, -1].float().softmax(-1)


def _padded(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask `[rows, tokens]`, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model without gradients and dropout, for a while."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def room_behind(model: Any, rows: Sequence[list[int]], wanted: int = 0) -> int:
    """Tokens, up to `wanted`, that the model's context has behind the longest row."""
    longest, context = max(map(len, rows)), getattr(model.config, "max_position_embeddings", None)
    if context is None:  # a model that does not say so reads any number
        return wanted
    if longest + min(wanted, 1) > context:
        raise NoRoomError(f"a map needs {longest} tokens, the model's context has {context}: take smaller maps")
    return min(wanted, context - longest)
