"""A language model plays the lake: what it says on each map, and how that ends."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from common.generation import tokens_only
from lm.lake.maps import MOVES, end_of, longest_walk
from lm.lake.policy import BATCH, NoRoomError, evaluating, next_probs, room_behind
from lm.lake.words import move_tokens, prompt, prompt_ids

OUTCOMES = ("goal", "hole", "stops early", "never ends", "no move", "no room")
_ANSWERS = 1024  # maps at a time


def answers(
    model: Any,
    tokenizer: Any,
    letters: np.ndarray,
    *,
    english: bool = False,
    sample_seed: int | None = None,
    first_moves: np.ndarray | None = None,
) -> list[tuple[str, bool]]:
    """What the model answers on each map, greedy or, with a seed, sampled, and whether it came to an end itself.

    `first_moves [maps]` are put into its mouth. It has room for `longest_walk` tokens, or what its context leaves.

    Raises:
        NoRoomError: a map beyond the model's context.
    """
    asked = [prompt_ids(tokenizer, prompt(rows, english=english)) for rows in letters]
    forced = [""] * len(letters) if first_moves is None else [MOVES[move] for move in first_moves]
    if first_moves is not None:
        tokens = move_tokens(tokenizer)[0]
        asked = [[*ids, tokens[move]] for ids, move in zip(asked, first_moves, strict=True)]
    room = room_behind(model, asked, longest_walk(letters.shape[1]))
    said: list[tuple[str, bool]] = []
    with evaluating(model), torch.random.fork_rng():
        seed_samples(sample_seed or 0)
        for begin in range(0, len(asked), _ANSWERS):
            said += _generate(model, tokenizer, asked[begin : begin + _ANSWERS], room, sample_seed is not None)
    return [(f"{move} {text}".strip(), ended) for move, (text, ended) in zip(forced, said, strict=True)]


def seed_samples(seed: int) -> None:
    """Seed what `generate` samples from: it takes no generator, and uses the default one of the model's device."""
    torch.random.default_generator.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def _generate(model: Any, tokenizer: Any, asked: list[list[int]], room: int, sample: bool) -> list[tuple[str, bool]]:
    inputs = tokenizer.pad({"input_ids": asked}, padding_side="left", return_tensors="pt").to(model.device)
    # The model's own distribution: what its folder says of sampling is left aside.
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
    with tokens_only(model):
        tokens = model.generate(**inputs, **how, max_new_tokens=room, pad_token_id=tokenizer.pad_token_id)
    said = tokens[:, inputs["input_ids"].shape[1] :]
    end = -1 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    ended = (said == end).any(1).tolist()
    texts = tokenizer.batch_decode(said, skip_special_tokens=True)
    return list(zip(texts, ended, strict=True))


def judged(rows: np.ndarray, text: str, ended: bool) -> tuple[str, list[int]]:
    """How an answer on a map ends, one of `OUTCOMES`, and its moves up to there.

    An answer that goes on behind goal or hole ends there. *Never ends*: no end in the tokens it had; *no move*: it says
    something else, commas and full stops aside.
    """
    walk: list[int] = []
    for word in text.lower().replace(",", " ").replace(".", " ").split():
        if word not in MOVES:
            return "no move", walk
        walk.append(MOVES.index(word))
        letter = end_of(rows, walk)
        if letter in "GH":
            return ("goal" if letter == "G" else "hole"), walk
    return ("stops early" if ended else "never ends"), walk


def play(
    model: Any,
    tokenizer: Any,
    letters: np.ndarray,
    *,
    english: bool = False,
    sample_seed: int | None = None,
    first_moves: np.ndarray | None = None,
) -> tuple[list[str], list[list[int]]]:
    """One walk per map, as `answers` gives it: how each ends, and its moves up to there.

    *No room*: the map alone fills the model's context.
    """
    try:
        said = answers(model, tokenizer, letters, english=english, sample_seed=sample_seed, first_moves=first_moves)
    except NoRoomError:
        return ["no room"] * len(letters), [[] for _ in letters]
    played = [judged(rows, text, end) for rows, (text, end) in zip(letters, said, strict=True)]
    return [outcome for outcome, _ in played], [walk for _, walk in played]


def play_on_slippery_ice(
    model: Any, tokenizer: Any, letters: np.ndarray, *, english: bool = False, seed: int = 0
) -> tuple[list[str], list[list[int]]]:
    """One episode per map, a greedy move at a time: how each ends, and where one slid; `seed` is the ice's."""
    generator = np.random.default_rng(seed)
    first, _ = move_tokens(tokenizer)
    outcomes, slid = ["never ends"] * len(letters), [[] for _ in letters]  # type: list[str], list[list[int]]
    for _ in range(longest_walk(letters.shape[1])):
        going = [i for i, outcome in enumerate(outcomes) if outcome == "never ends"]
        asked = [prompt_ids(tokenizer, prompt(letters[i], english=english, slid=slid[i])) for i in going]
        for i, token in zip(going, _likeliest(model, asked, tokenizer.pad_token_id), strict=True):
            if token is None or token not in first:
                outcomes[i] = "no room" if token is None else "no move"
                continue
            slid[i].append(int(first.index(token) + generator.integers(-1, 2)) % 4)
            outcomes[i] = {"G": "goal", "H": "hole"}.get(end_of(letters[i], slid[i]), "never ends")
    return outcomes, slid


def _likeliest(model: Any, asked: Sequence[list[int]], pad: int) -> list[int | None]:
    """The likeliest token after each row; None where rows do not fit into the model's context."""
    tokens: list[int | None] = []
    for begin in range(0, len(asked), BATCH):
        rows = asked[begin : begin + BATCH]
        try:
            tokens += next_probs(model, rows, np.arange(len(rows)), [[]] * len(rows), pad).argmax(1).tolist()
        except NoRoomError:
            tokens += [None] * len(rows)
    return tokens
