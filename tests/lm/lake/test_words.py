"""Words and tokens of the lake."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lm.lake import MOVES, examples, make_tokenizer
from lm.lake.words import move_tokens


def test_the_tokenizer_knows_every_word():
    tokenizer = make_tokenizer()
    row = examples(1, "train", 0)[0]
    chat = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids).split()[0] == "<|user|>"


def test_moves_are_tokens_first_and_later():
    tokenizer = make_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(list(MOVES))
    assert move_tokens(tokenizer) == (ids, ids)
    tokenizer.chat_template = None
    assert move_tokens(tokenizer) == (ids, ids)
    # A template that puts the answer behind a new line without a space: as in byte-level tokenizers, another token.
    words = ["<unk>", "\n", "a", *MOVES, *(f" {move}" for move in MOVES)]
    bytes_like = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    bytes_like.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_next")
    plain = PreTrainedTokenizerFast(tokenizer_object=bytes_like, unk_token="<unk>")
    assert move_tokens(plain) == ([3, 4, 5, 6], [7, 8, 9, 10])


def test_a_tokenizer_that_splits_or_merges_moves_is_refused():
    letters = Tokenizer(
        models.WordLevel({letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz ?")}, unk_token="?")
    )
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    with pytest.raises(ValueError, match="splits or merges left, down, right, up"):
        move_tokens(PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="?"))
    whole = Tokenizer(models.WordLevel({"?": 0, "left": 1}, unk_token="?"))
    with pytest.raises(ValueError, match="splits or merges left, down, right, up"):
        move_tokens(PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="?"))


def test_a_template_that_changes_the_prompt_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% if messages|length > 1 %}F {% endif %}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="or its template changes the prompt"):
        move_tokens(tokenizer)
