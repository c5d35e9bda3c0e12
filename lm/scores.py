"""How close a language model's play is to the optimal policy, exactly: no judge, no sampling of the lake.

The state of a cell is the map and a shortest walk from the start to the cell. The model's four probabilities for the
next move there, renormalised, are its policy; what it gives to other tokens is reported beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm import lake
from toy.lake import Lake
from toy.planning import evaluate, value_iteration, visit_probability

DISCOUNT = 0.99
_BATCH = 512  # states of a forward pass


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


def live_states(letters: np.ndarray) -> States:
    """Every cell that is neither hole nor goal and can be walked to, maps `[maps, size, size]`; ties: left, down, …"""
    size = letters.shape[1]
    maps, cells, walks = [], [], []
    for i, rows in enumerate(letters):
        flat = rows.ravel()
        start = int(np.flatnonzero(flat == "S")[0])
        found: dict[int, list[int]] = {start: []}
        queue = [start]
        for cell in queue:  # grows while it is walked through: breadth first
            for move, (down, right) in enumerate(((0, -1), (1, 0), (0, 1), (-1, 0))):
                row, column = cell // size + down, cell % size + right
                reached = row * size + column
                if 0 <= row < size and 0 <= column < size and reached not in found and flat[reached] not in "HG":
                    found[reached] = [*found[cell], move]
                    queue.append(reached)
        maps += [i] * len(found)
        cells += list(found)
        walks += list(found.values())
    return States(np.array(maps), np.array(cells), walks)


@torch.no_grad()
def move_probs(model: Any, tokenizer: Any, letters: np.ndarray, states: States) -> tuple[np.ndarray, np.ndarray]:
    """The model's next-move probabilities `[states, 4]`, renormalised, and the mass that it gives to anything else.

    Raises:
        ValueError: a tokenizer that does not have each move as a token of its own, or a map beyond the model's context.
    """
    moves = torch.tensor(lake.move_tokens(tokenizer), device=model.device)
    prompts = [lake.prompt_ids(tokenizer, rows) for rows in letters]
    rows = [
        prompts[i] + [int(moves[move]) for move in walk] for i, walk in zip(states.map_of, states.walks, strict=True)
    ]
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, rows))
    if context is not None and longest > context:
        raise ValueError(f"a map needs {longest} tokens, the model's context has {context}: take smaller maps")
    training = model.training
    model.eval()
    parts = [_next_probs(model, batch, tokenizer.pad_token_id, moves) for batch in _batches(rows)]
    model.train(training)
    probs = torch.cat(parts).double().cpu().numpy()
    inside = probs.sum(1, keepdims=True)
    return np.divide(probs, inside, out=np.full_like(probs, 0.25), where=inside > 0), 1 - inside[:, 0]


def _next_probs(model: Any, rows: Sequence[list[int]], pad: int, moves: Tensor) -> Tensor:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, device=model.device)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):  # on the left, so that the last position is the last token
        ids[i, longest - len(row) :] = torch.tensor(row, device=model.device)
        mask[i, longest - len(row) :] = 1
    logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=1)
    return logits.logits[:, -1].float().softmax(-1)[:, moves]


def _batches(rows: Sequence[list[int]]) -> Iterator[Sequence[list[int]]]:
    rest = iter(rows)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def score_policy(letters: np.ndarray, states: States, probs: np.ndarray) -> dict[str, np.ndarray]:
    """Distances of a policy `[states, 4]` to the optimum, `[maps]` each; cells that cannot be reached count nowhere.

    `policy_mse`, `policy_kl` (optimum ‖ policy, nats) over the live states, `…_visited` weighted by how likely the
    policy gets there; `value_gap`, `success` from exact evaluation; `agreement`: greedy moves that are best.
    """
    size = letters.shape[1]
    table = np.full((len(letters), size * size, 4), 0.25)
    table[states.map_of, states.cell_of] = probs
    columns: dict[str, list[float]] = {}
    for i, rows in enumerate(letters):
        mine = states.cell_of[states.map_of == i]
        ice = Lake.make(["".join(row) for row in rows])
        plan = value_iteration(ice, DISCOUNT)
        worth = evaluate(ice, table[i][None], DISCOUNT)
        visits = visit_probability(ice, table[i][None])[0][mine]
        best, policy = plan.policy[mine], table[i][mine]
        error = np.square(policy - best).mean(1)
        kl = np.where(best > 0, best * (np.log(np.maximum(best, 1e-300)) - np.log(np.maximum(policy, 1e-12))), 0).sum(1)
        found = {
            "policy_mse": error.mean(),
            "policy_kl": kl.mean(),
            "policy_mse_visited": (error * visits).sum() / visits.sum(),
            "policy_kl_visited": (kl * visits).sum() / visits.sum(),
            "value_gap": float(plan.values[ice.starts].mean() - worth.returns[0]),
            "success": float(worth.success[0]),
            "agreement": float((best[np.arange(len(mine)), policy.argmax(1)] > 0).mean()),
        }
        for name, value in found.items():
            columns.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in columns.items()}


OUTCOMES = ("goal", "hole", "stops early", "never ends", "no move")


@torch.no_grad()
def play(
    model: Any, tokenizer: Any, letters: np.ndarray, *, sample_seed: int | None = None
) -> tuple[list[str], list[list[int]]]:
    """One walk per map, greedy or, with a seed, sampled: how each ends (`OUTCOMES`), and its moves up to there.

    A walk that goes on behind goal or hole ends there. *Never ends*: no end within 1.5 size² moves; *no move*: it says
    something else.
    """
    limit = letters.shape[1] ** 2 * 3 // 2
    inputs = tokenizer.pad(
        {"input_ids": [lake.prompt_ids(tokenizer, rows) for rows in letters]}, padding_side="left", return_tensors="pt"
    ).to(model.device)
    training = model.training
    model.eval()
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(sample_seed or 0)
        tokens = model.generate(
            **inputs, do_sample=sample_seed is not None, max_new_tokens=limit, pad_token_id=tokenizer.pad_token_id
        )
    model.train(training)
    said = tokens[:, inputs["input_ids"].shape[1] :]
    ended = (said == tokenizer.eos_token_id).any(1).tolist()
    answers = tokenizer.batch_decode(said, skip_special_tokens=True)
    found = [_outcome(rows, answer.split(), end) for rows, answer, end in zip(letters, answers, ended, strict=True)]
    return [outcome for outcome, _ in found], [walk for _, walk in found]


def _outcome(rows: np.ndarray, words: Sequence[str], ended: bool) -> tuple[str, list[int]]:
    walk: list[int] = []
    for word in words:
        if word not in lake.MOVES:
            return "no move", walk
        walk.append(lake.MOVES.index(word))
        letter = lake.outcome(rows, walk)
        if letter in "GH":
            return ("goal" if letter == "G" else "hole"), walk
    return ("stops early" if ended else "never ends"), walk


def score_model(model: Any, tokenizer: Any, letters: np.ndarray) -> dict[str, float]:
    """Greedy and sampled play, and the exact distances of the model's policy, means over maps `[maps, size, size]`.

    `success`, `shortest` (share of maps walked in the fewest moves), `extra_steps` (of the walks that reach the goal),
    the shares of `OUTCOMES`; `success_sampled`; `outside` (probability given to anything but a move); the columns of
    `score_policy` as `state_…`.
    """
    outcomes, walks = play(model, tokenizer, letters)
    fewest = np.array([d[rows == "S"][0] for d, rows in zip(lake.steps_to_goal(letters), letters, strict=True)])
    reached = np.array([outcome == "goal" for outcome in outcomes])
    extra = np.array([len(walk) for walk in walks]) - fewest
    states = live_states(letters)
    probs, outside = move_probs(model, tokenizer, letters, states)
    sampled, _ = play(model, tokenizer, letters, sample_seed=1)
    return {
        "success": float(reached.mean()),
        "shortest": float((reached & (extra == 0)).mean()),
        "extra_steps": float(extra[reached].mean()) if reached.any() else float("nan"),
        **{f"outcome_{name.replace(' ', '_')}": outcomes.count(name) / len(outcomes) for name in OUTCOMES},
        "success_sampled": sampled.count("goal") / len(sampled),
        "outside": float(outside.mean()),
        **{f"state_{name}": float(v.mean()) for name, v in score_policy(letters, states, probs).items()},
    }
