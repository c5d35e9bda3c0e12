"""Data sets from the lake, the Hub or local files, brought to one form, mixed by count and turned into tokens.

The one form is a conversation: `prompt` is a list of messages, and so are `completion`, or `chosen` and `rejected`.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets, load_dataset
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from lm.lake import KINDS, SPLITS, examples

Messages = list[dict[str, str]]

_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
LAYOUTS = "prompt+chosen+rejected, prompt+completion, messages, question+answer"


@dataclass(frozen=True)
class Source:
    """A data set as asked for: `name`, `name:rows`, `name@split` or `name@split:rows`."""

    name: str
    split: str | None
    rows: int | None

    @classmethod
    def of(cls, text: str) -> "Source":
        match = re.fullmatch(r"(.+?)(?:@([\w.-]+))?(?::(\d+))?", text)
        if match is None or match[3] == "0" or re.search(r":[^/\\]*$", match[1]):
            raise ValueError(
                f"dataset {text!r} must be NAME, NAME:ROWS, NAME@SPLIT or NAME@SPLIT:ROWS, ROWS a number above 0"
            )
        return cls(match[1], match[2], None if match[3] is None else int(match[3]))


@dataclass(frozen=True)
class OnHub:
    """A data set of the paper: where it is, and its rows, for estimates without network."""

    name: str
    split: str
    rows: int


LAKE_ROWS = 1024  # if no number is given
NAMED = {
    "ultrachat": OnHub("HuggingFaceH4/ultrachat_200k", "train_sft", 207_865),
    "ultrafeedback": OnHub("HuggingFaceH4/ultrafeedback_binarized", "train_prefs", 61_135),
}


def load(sources: tuple[str, ...], pairs: bool, seed: int, split: str = "train") -> Dataset:
    """Conversations of all sources, each shuffled and cut to its rows, mixed; `pairs` keeps chosen and rejected.

    Raises:
        ValueError: a data set that is not there, has other columns, is empty, or has single answers where pairs
            are needed.
    """
    parts = []
    for text in sources:
        source = Source.of(text)
        rows = _read(source, seed, split)
        if not len(rows):
            raise ValueError(f"dataset {source.name!r} is empty")
        if source.rows is not None and source.rows > len(rows):
            raise ValueError(f"dataset {source.name!r} has {len(rows)} rows, {source.rows} were asked for")
        rows = rows.shuffle(seed=seed).select(range(source.rows or len(rows)))
        convert = _converter(source.name, rows.column_names, pairs)
        features = Features({name: [{"role": Value("string"), "content": Value("string")}] for name in _columns(pairs)})
        try:
            parts.append(rows.map(convert, remove_columns=rows.column_names, features=features))
        except _BadRowError as error:
            raise ValueError(f"dataset {source.name!r}: {error}") from error
    return concatenate_datasets(parts).shuffle(seed=seed)


def _columns(pairs: bool) -> tuple[str, ...]:
    return ("prompt", "chosen", "rejected") if pairs else ("prompt", "completion")


def _read(source: Source, seed: int, split: str) -> Dataset:
    if source.name in KINDS:
        if source.split not in (None, *SPLITS):
            raise ValueError(f"dataset {source.name!r} has the splits {', '.join(SPLITS)}, not {source.split!r}")
        rows = examples(source.rows or LAKE_ROWS, source.split or split, seed, **KINDS[source.name])
        return Dataset.from_list(rows).select_columns([name for name in rows[0] if name != "worse"])
    path = Path(source.name)
    try:
        if path.suffix in _FORMATS:
            if not path.is_file():
                raise ValueError("there is no such file")
            if source.split is not None:
                raise ValueError("a file has no splits: leave @ away")
            if not path.stat().st_size:
                raise ValueError("the file is empty")
            return load_dataset(_FORMATS[path.suffix], data_files=str(path), split="train")
        named = NAMED.get(source.name)
        name, wanted = (named.name, named.split) if named else (source.name, "train")
        return load_dataset(name, split=source.split or wanted)
    except ValueError as error:
        raise ValueError(f"dataset {source.name!r}: {_first_line(error)}") from error
    except Exception as error:  # the network, the Hub and the readers each have their own
        known = ", ".join([*KINDS, *NAMED])
        raise ValueError(
            f"dataset {source.name!r} could not be read ({_first_line(error)}): name a local "
            f"{', '.join(_FORMATS)} file, a data set of the Hub, or one of {known}"
        ) from error


def _first_line(error: Exception) -> str:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):  # where it began says most
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _converter(name: str, columns: list[str], pairs: bool) -> Any:
    """The function that brings one row to the one form."""
    has = set(columns)
    if {"chosen", "rejected"} <= has:
        return _pair if pairs else _chosen_of_pair
    single = {"prompt", "completion"} <= has or "messages" in has or {"question", "answer"} <= has
    if not single:
        raise ValueError(f"dataset {name!r} has columns {', '.join(columns)}; needed is one of {LAYOUTS}")
    if pairs:
        raise ValueError(
            f"dataset {name!r} has single answers (columns {', '.join(columns)}), the method needs pairs: "
            "columns prompt, chosen, rejected"
        )
    return _single


def _single(row: Mapping[str, Any]) -> dict[str, Messages]:
    if "completion" in row:
        return {"prompt": _messages(row["prompt"], "user"), "completion": _messages(row["completion"], "assistant")}
    if "messages" in row:
        turns = _messages(row["messages"], "user")
        first = next((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))
        return {"prompt": turns[:first], "completion": turns[first:]}
    return {"prompt": _messages(row["question"], "user"), "completion": _messages(row["answer"], "assistant")}


def _pair(row: Mapping[str, Any]) -> dict[str, Messages]:
    chosen, rejected = (_messages(row[name], "assistant") for name in ("chosen", "rejected"))
    # UltraFeedback repeats the prompt in front of both answers: what they share is the prompt.
    shared = max(min(_shared(chosen, rejected), len(chosen) - 1, len(rejected) - 1), 0)
    prompt = chosen[:shared] or _messages(row.get("prompt"), "user")
    return {"prompt": prompt, "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _chosen_of_pair(row: Mapping[str, Any]) -> dict[str, Messages]:
    pair = _pair(row)
    return {"prompt": pair["prompt"], "completion": pair["chosen"]}


class _BadRowError(TypeError):
    """A row that cannot be read."""


def _messages(value: Any, role: str) -> Messages:
    if isinstance(value, list):
        for turn in value:
            if not isinstance(turn, dict) or not isinstance(turn.get("content"), str | None) or "role" not in turn:
                raise _BadRowError(f"a message must have 'role' and 'content' as text, got {str(turn)[:80]}")
        return [{"role": turn["role"], "content": turn.get("content") or ""} for turn in value]
    return [] if value is None else [{"role": role, "content": str(value)}]


@dataclass(frozen=True)
class Cut:
    """Tokens that a prompt and a whole example may have."""

    max_length: int
    max_prompt_length: int


@dataclass(frozen=True)
class Counts:
    """What happened to the examples on the way to tokens."""

    kept: int
    dropped: int
    prompts_cut: int
    answers_cut: int
    tokens: int
    answer_tokens: int
    sha256: str  # of the tokens that are kept, in their order

    def __str__(self) -> str:
        return (
            f"{self.kept:,} examples, {self.tokens:,} tokens ({self.answer_tokens:,} of answers); "
            f"cut: {self.prompts_cut:,} prompts, {self.answers_cut:,} answers; "
            f"dropped without prompt or answer: {self.dropped:,}"
        )


def encode(rows: Dataset, tokenizer: PreTrainedTokenizerBase, cut: Cut) -> tuple[Dataset, Counts]:
    """Tokens as TRL's trainers keep them: `input_ids`, `labels`, or `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Raises:
        ValueError: no example has an answer token left.
    """
    function = _encode_pair if "rejected" in rows.column_names else _encode_single
    options = {"tokenizer": tokenizer, "cut": cut}
    try:
        tokens = rows.map(function, fn_kwargs=options, remove_columns=rows.column_names)
    except TemplateError as error:
        raise ValueError(f"the chat template refuses an example ({error}): see --chat-template") from error
    kept = tokens.filter(lambda count: count > 0, input_columns="answer_tokens")
    digest = hashlib.sha256()
    for batch in kept.iter(1000):
        digest.update(json.dumps(batch, sort_keys=True).encode())
    counts = Counts(
        kept=len(kept),
        dropped=len(tokens) - len(kept),
        prompts_cut=sum(tokens["prompt_cut"]),
        answers_cut=sum(tokens["answer_cut"]),
        tokens=sum(kept["tokens"]),
        answer_tokens=sum(kept["answer_tokens"]),
        sha256=digest.hexdigest(),
    )
    if not len(kept):
        raise ValueError(
            f"no answer token is left of {len(tokens)} examples: raise max_length ({cut.max_length}) or look at the "
            "data's prompts and answers"
        )
    return kept.remove_columns(["prompt_cut", "answer_cut", "tokens", "answer_tokens"]), counts


def _encode_single(row: Mapping[str, Messages], tokenizer: PreTrainedTokenizerBase, cut: Cut) -> dict[str, Any]:
    ids, trained, prompt_length = _render(row["prompt"], row["completion"], tokenizer)
    start = max(prompt_length - cut.max_prompt_length, 0)
    kept = slice(start, start + cut.max_length)
    labels = [token if counts else -100 for token, counts in zip(ids[kept], trained[kept], strict=True)]
    return {
        "input_ids": ids[kept],
        "labels": labels,
        "prompt_cut": start > 0,
        "answer_cut": len(ids) - start > cut.max_length,
        "tokens": len(labels),
        "answer_tokens": sum(label != -100 for label in labels),
    }


def _encode_pair(row: Mapping[str, Messages], tokenizer: PreTrainedTokenizerBase, cut: Cut) -> dict[str, Any]:
    answers = [_render(row["prompt"], row[name], tokenizer) for name in ("chosen", "rejected")]
    prompt_length = min(length for _, _, length in answers)
    start = max(prompt_length - cut.max_prompt_length, 0)
    prompt = answers[0][0][start:prompt_length]
    room = cut.max_length - len(prompt)
    chosen, rejected = (ids[prompt_length:][:room] for ids, _, _ in answers)
    return {
        "prompt_ids": prompt,
        "chosen_ids": chosen,
        "rejected_ids": rejected,
        "prompt_cut": start > 0,
        "answer_cut": any(len(ids) - prompt_length > room for ids, _, _ in answers),
        "tokens": 2 * len(prompt) + len(chosen) + len(rejected),
        "answer_tokens": len(chosen) + len(rejected) if all(any(trained) for _, trained, _ in answers) else 0,
    }


def _render(
    prompt: Messages, completion: Messages, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool], int]:
    """Token ids, whether each is one that an assistant turn of `completion` says, and the tokens of the prompt.

    Templates may render a turn differently once another follows, so spans end where the renderings part. Nothing is
    trained where there is no prompt: chat templates refuse to render none.
    """

    def ids_of(turns: Messages, asked: bool) -> list[int]:
        if tokenizer.chat_template is None:
            eos = tokenizer.eos_token or ""
            text = "".join(turn["content"] + (eos if turn["role"] == "assistant" else "") for turn in turns)
            return tokenizer(text)["input_ids"]
        rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=asked, tokenize=True, return_dict=True)
        return list(rendered["input_ids"])

    if not prompt:
        return [], [], 0
    whole = ids_of([*prompt, *completion], False)
    trained = [False] * len(whole)
    prompt_length = len(whole)
    for i, turn in enumerate(completion):
        if turn["role"] == "assistant" and turn["content"]:
            begin = _shared(ids_of([*prompt, *completion[:i]], True), whole)
            last = i == len(completion) - 1
            end = len(whole) if last else _shared(ids_of([*prompt, *completion[: i + 1]], False), whole)
            trained[begin:end] = [True] * (end - begin)
            prompt_length = min(prompt_length, begin)
    return whole, trained, prompt_length


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
