"""Conversations as tokens: what carries the loss, what is cut, what is dropped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lm.train.layouts import Messages

_FIRST = 8  # rows in which a chat template is tried


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
    alike: int  # pairs whose answers are the same, dropped as well
    prompts_cut: int
    answers_cut: int
    tokens: int
    answer_tokens: int
    unknown: int  # tokens that stand for what the tokenizer does not know
    sha256: str  # of the tokens that are kept, in their order

    def __str__(self) -> str:
        return (
            f"{self.kept:,} examples, {self.tokens:,} tokens ({self.answer_tokens:,} of answers); "
            f"cut: {self.prompts_cut:,} prompts, {self.answers_cut:,} answers; "
            f"dropped without prompt or answer: {self.dropped:,}"
            + (f", as chosen and rejected are the same: {self.alike:,}" if self.alike else "")
            + (f"; unknown to the tokenizer: {self.unknown:,} tokens" if self.unknown else "")
        )


class _TemplateError(ValueError):
    """A chat template that cannot write an example, or leaves a part of it out."""


def encode(rows: Dataset, tokenizer: PreTrainedTokenizerBase, cut: Cut) -> tuple[Dataset, Counts]:
    """Tokens as TRL's trainers keep them, with what happened on the way.

    The columns are `input_ids`, `labels`; of pairs `prompt_ids`, `chosen_ids`, `rejected_ids`; of answers with a label
    `prompt_ids`, `completion_ids`, `label`.

    Raises:
        ValueError: no example has an answer token left, or the chat template cannot write one of them.
    """
    has = rows.column_names
    function = _encode_pair if "rejected" in has else _encode_labelled if "label" in has else _encode_single
    options = {"tokenizer": tokenizer, "cut": cut}
    tokens = rows.map(function, fn_kwargs=options, remove_columns=[name for name in has if name != "label"])
    kept = tokens.filter(lambda count: count > 0, input_columns="answer_tokens")
    digest = hashlib.sha256()
    for batch in kept.iter(1000):
        digest.update(json.dumps(batch, sort_keys=True).encode())
    counts = Counts(
        kept=len(kept),
        dropped=len(tokens) - len(kept) - sum(tokens["alike"]),
        alike=sum(tokens["alike"]),
        prompts_cut=sum(tokens["prompt_cut"]),
        answers_cut=sum(tokens["answer_cut"]),
        tokens=sum(kept["tokens"]),
        answer_tokens=sum(kept["answer_tokens"]),
        unknown=sum(tokens["unknown"]),
        sha256=digest.hexdigest(),
    )
    if not len(kept):
        raise ValueError(f"no answer token is left of {len(tokens)} examples: {_why_none(counts, cut)}")
    return kept.remove_columns(["prompt_cut", "answer_cut", "tokens", "answer_tokens", "alike", "unknown"]), counts


def _why_none(counts: Counts, cut: Cut) -> str:
    if counts.alike:
        if counts.unknown:
            return (
                f"chosen and rejected are the same tokens in {counts.alike:,}, and {counts.unknown:,} tokens are "
                "unknown to the tokenizer: take a model that knows the words of the data"
            )
        others = f", and {counts.dropped:,} have no prompt or no answer" if counts.dropped else ""
        return (
            f"chosen and rejected are the same in {counts.alike:,} up to max_length ({cut.max_length}){others}: look "
            "at the data, or raise it"
        )
    if counts.answers_cut:
        return f"the answers begin beyond max_length ({cut.max_length}) in {counts.answers_cut}: raise it"
    return "they have no prompt or no answer: look at the data, and see --columns"


def _encode_single(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, cut: Cut) -> dict[str, Any]:
    ids, trained, prompt_length = _render(row, "completion", tokenizer)
    start = max(prompt_length - cut.max_prompt_length, 0)
    kept = slice(start, start + cut.max_length)
    labels = [token if counts else -100 for token, counts in zip(ids[kept], trained[kept], strict=True)]
    return {
        "input_ids": ids[kept],
        "labels": labels,
        "prompt_cut": start > 0,
        "answer_cut": len(ids) - start > cut.max_length,
        "alike": False,
        "tokens": len(labels),
        "answer_tokens": sum(label != -100 for label in labels),
        "unknown": _unknown(ids[kept], tokenizer),
    }


def _encode_pair(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, cut: Cut) -> dict[str, Any]:
    return _encode_answers(row, ("chosen", "rejected"), tokenizer, cut)


def _encode_labelled(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, cut: Cut) -> dict[str, Any]:
    encoded = _encode_answers(row, ("completion",), tokenizer, cut)
    return encoded if row["label"] is not None else encoded | {"answer_tokens": 0}


def _encode_answers(
    row: Mapping[str, Any], names: tuple[str, ...], tokenizer: PreTrainedTokenizerBase, cut: Cut
) -> dict[str, Any]:
    """One or more answers to a prompt that they share."""
    answers = [_render(row, name, tokenizer) for name in names]
    prompt_length = min(length for _, _, length in answers)
    start = max(prompt_length - cut.max_prompt_length, 0)
    prompt = answers[0][0][start:prompt_length]
    room = cut.max_length - len(prompt)
    kept = {f"{name}_ids": ids[prompt_length:][:room] for name, (ids, _, _) in zip(names, answers, strict=True)}
    answer_tokens = sum(map(len, kept.values()))
    said = all(any(trained) for _, trained, _ in answers)
    alike = said and len(names) > 1 and len({tuple(ids) for ids in kept.values()}) == 1
    return {
        "prompt_ids": prompt,
        **kept,
        "prompt_cut": start > 0,
        "answer_cut": any(len(ids) - prompt_length > room for ids, _, _ in answers),
        "alike": alike,
        "tokens": len(names) * len(prompt) + answer_tokens,
        "answer_tokens": answer_tokens if said and not alike else 0,
        "unknown": sum(_unknown(ids, tokenizer) for ids in (prompt, *kept.values())),
    }


def _unknown(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens stand for unknown words, where the tokenizer has a token for nothing else than that."""
    others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return 0 if tokenizer.unk_token_id in (None, *others) else ids.count(tokenizer.unk_token_id)


def _render(
    row: Mapping[str, Any], answer: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool], int]:
    """Token ids, whether each is one that an assistant turn of `answer` says, and the tokens of the prompt.

    Templates may render a turn differently once another follows, so spans end where the renderings part. Nothing is
    trained where there is no prompt: chat templates refuse to render none. Plain text is trained as a whole.
    """
    prompt: Messages = row["prompt"]
    completion: Messages = row[answer]
    tools = row.get("tools")
    if completion and completion[0]["role"] == "text":
        text = completion[0]["content"]
        ids = tokenizer(text + (tokenizer.eos_token or ""))["input_ids"] if text else []
        return ids, [True] * len(ids), 0
    if not prompt:
        return [], [], 0
    whole = rendered(tokenizer, [*prompt, *completion], tools)
    trained = [False] * len(whole)
    prompt_length = len(whole)
    for i, turn in enumerate(completion):
        if turn["role"] == "assistant" and (turn["content"] or turn.get("tool_calls")):
            begin = _shared(rendered(tokenizer, [*prompt, *completion[:i]], tools, asked=True), whole)
            last = i == len(completion) - 1
            end = len(whole) if last else _shared(rendered(tokenizer, [*prompt, *completion[: i + 1]], tools), whole)
            trained[begin:end] = [True] * (end - begin)
            prompt_length = min(prompt_length, begin)
    return whole, trained, prompt_length


def rendered(tokenizer: PreTrainedTokenizerBase, turns: Messages, tools: Any, asked: bool = False) -> list[int]:
    """The tokens of a conversation, by the chat template or, without one, by its texts alone."""
    if tokenizer.chat_template is None:
        eos = tokenizer.eos_token or ""
        text = "".join(turn["content"] + (eos if turn["role"] == "assistant" else "") for turn in turns)
        return tokenizer(text)["input_ids"]
    try:
        written = tokenizer.apply_chat_template(
            turns, tools=tools, add_generation_prompt=asked, tokenize=True, return_dict=True
        )
    except Exception as error:  # a template is code of somebody else, and raises what it likes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _TemplateError(f"the chat template refuses an example ({reason}): see --chat-template") from error
    return list(written["input_ids"])


def require_written(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ValueError` for rows whose prompts, answers, tools or calls of tools the chat template leaves out.

    Prompts and answers are looked for in the first rows: a template that leaves them out does so in all rows.
    """
    if tokenizer.chat_template is not None:
        first = [row for row in rows.select(range(min(len(rows), _FIRST))) if row["prompt"]]
        for part, of_answer in (("prompt", False), ("answer", True)):
            lost = [
                rendered(tokenizer, turns, row["tools"]) == rendered(tokenizer, _doubled(turns, places), row["tools"])
                for row in first
                for turns in _talks(row)
                if (places := _with_text(turns, len(row["prompt"]), of_answer))
            ]
            if lost and all(lost):
                raise _TemplateError(
                    f"the chat template leaves the {part} out of every row: take one that writes it (--chat-template)"
                )
    require_tools(rows, tokenizer)


def _with_text(turns: Messages, begin: int, of_answer: bool) -> set[int]:
    """Places of the messages with text, of the prompt, or of the assistant in the answer, which begins at `begin`."""
    places = range(begin, len(turns)) if of_answer else range(begin)
    return {i for i in places if turns[i]["content"] and (turns[i]["role"] == "assistant" or not of_answer)}


def _doubled(turns: Messages, places: set[int]) -> Messages:
    """The same messages, those at the places with their text twice."""
    return [
        turn | {"content": f"{turn['content']} {turn['content']}"} if i in places else turn
        for i, turn in enumerate(turns)
    ]


def require_tools(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ValueError`, which counts them, for rows whose calls of tools, or tools, the chat template leaves out."""
    lost = {"tool calls": 0, "the column tools": 0}
    for row in rows.filter(lambda row: bool(row["prompt"]) and (row["tools"] or any(map(_calls, _talks(row))))):
        for part in {part for turns in _talks(row) for part in _left_out(tokenizer, turns, row["tools"])}:
            lost[part] += 1
    for part, count in lost.items():
        if count:
            raise _TemplateError(
                f"the chat template leaves {part} out of {count:,} of {len(rows):,} rows: take one that writes them "
                "(--chat-template), or leave the rows out"
            )


def _talks(row: Mapping[str, Any]) -> list[Messages]:
    """The prompt of a row with each of its answers."""
    return [[*row["prompt"], *row[name]] for name in ("completion", "chosen", "rejected") if row[name]]


def _calls(turns: Messages) -> bool:
    return any("tool_calls" in turn for turn in turns)


def _left_out(tokenizer: PreTrainedTokenizerBase, turns: Messages, tools: Any) -> list[str]:
    """What the chat template writes nothing of."""
    whole, parts = rendered(tokenizer, turns, tools), []
    if _calls(turns):
        without = [{name: value for name, value in turn.items() if name != "tool_calls"} for turn in turns]
        parts += ["tool calls"] if rendered(tokenizer, without, tools) == whole else []
    if tools and rendered(tokenizer, turns, None) == whole:
        parts.append("the column tools")
    return parts


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
