"""Maps and walks as text, the tokenizer of the lake, and a model's moves as tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lm.lake.maps import MOVES

_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} "
    "{% if message['role'] == 'assistant' %}{{ eos_token }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
_SEEN_FROM_ABOVE = "This is a frozen lake seen from above. S is the start, G the goal, F safe ice, H a hole.\n{map}\n"
_WALK = (
    "Which moves lead from S to G in the fewest steps without entering a hole? Answer with the moves only, each left, "
    "down, right or up."
)
_MOVE = (
    "The ice is slippery: a third of the time each, one slides in the chosen direction, or to the one or the other "
    "side of it. So far one slid, from S: {walked}. Which move now gives the best chance to reach G without entering a "
    "hole? Answer with one word: left, down, right or up."
)


def prompt(rows: np.ndarray, *, english: bool = False, slid: Sequence[int] | None = None) -> str:
    """The map in words: its letters, rows ended by `/`; or as a question in plain English.

    `slid` is what happened so far on slippery ice, as action indices, and asks for the next move; without it the lake
    is not slippery and the whole walk is asked for.
    """
    if english:
        asked = _WALK if slid is None else _MOVE.format(walked=in_words(slid) or "nowhere yet")
        return _SEEN_FROM_ABOVE.format(map="\n".join(" ".join(row) for row in rows)) + asked
    symbols = " ".join(letter for row in rows for letter in (*row, "/"))
    return symbols if slid is None else f"{symbols} slippery {in_words(slid)}".strip()


def in_words(walk: Sequence[int]) -> str:
    """A walk as an answer: one word per move."""
    return " ".join(MOVES[move] for move in walk)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the lake, with a chat template."""
    special = ["<pad>", "<eos>", "<unk>", "<|user|>", "<|assistant|>", "<|system|>"]
    words = [*special, *"SFHG/", *MOVES, "slippery"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    whole.chat_template = _TEMPLATE
    return whole


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of the user's turn, up to where the answer begins; without a chat template, of the text alone."""
    if tokenizer.chat_template is None:
        return list(tokenizer(f"{text}\n")["input_ids"])
    return _rendered(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True)


def move_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The token of each move as the first word of an answer, and as a later one.

    Raises:
        ValueError: a tokenizer that splits a move, or merges moves that follow one another.
    """
    asked = prompt_ids(tokenizer, "S G /")
    first, later = [], []
    for i, move in enumerate(MOVES):
        said = _answer(tokenizer, asked, f"{move} {move} {MOVES[i - 1]} {move}")
        if said is None or len(said) != 4 or said[1] != said[3]:
            raise ValueError(
                f"the tokenizer splits or merges {', '.join(MOVES)}, or its template changes the prompt: scores by "
                "state need a token for each move"
            )
        first.append(said[0])
        later.append(said[1])
    return first, later


def _answer(tokenizer: Any, asked: list[int], text: str) -> list[int] | None:
    """The tokens of an answer without its end; None if the prompt reads differently with an answer behind it."""
    if tokenizer.chat_template is None:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    chat = [{"role": "user", "content": "S G /"}, {"role": "assistant", "content": text}]
    ids = _rendered(tokenizer, chat, continue_final_message=True)
    return ids[len(asked) :] if ids[: len(asked)] == asked else None


def _rendered(tokenizer: Any, chat: list[dict[str, str]], **options: bool) -> list[int]:
    from jinja2 import TemplateError

    try:
        return list(tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, **options)["input_ids"])
    except (TemplateError, TypeError) as error:  # jinja has no error of its own for what a template may not include
        raise ValueError(f"the tokenizer's chat template cannot be used ({error})") from error
