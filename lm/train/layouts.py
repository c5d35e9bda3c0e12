"""The layouts that data sets come in, and how a row of each becomes a conversation.

The one form: `prompt` is a list of messages, and so are `completion`, or `chosen` and `rejected`; `tools` are the
functions that the model may call, `label` whether an answer is wanted. Plain text is one message of the role `text`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Messages = list[dict[str, Any]]
Row = Mapping[str, Any]
Wanted = Literal["targets", "pairs", "labels"]

# Columns of single answers, the first that fits counts; the last of each is the answer.
_SINGLE = (
    ("prompt", "completion"),
    ("messages",),
    ("conversations",),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("text",),
)
_PAIR = ("chosen", "rejected")
_PROMPTS = ("prompt", "question", "instruction", "conversations")  # of pairs, the first that is there
LAYOUTS = "; ".join(["prompt+chosen+rejected", *("+".join(columns) for columns in _SINGLE), "prompt+completion+label"])
# What `columns` may name.
COLUMNS = ("prompt", "completion", "chosen", "rejected", "label", "messages", "text", "system", "tools")
# What `columns` calls those that have other names in some layouts.
_OURS = {
    "question": "prompt", "response": "completion", "answer": "completion", "conversations": "messages",
}  # fmt: skip
# ShareGPT's names of who speaks.
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "system": "system", "tool": "tool", "observation": "tool", "function_call": "assistant",
}  # fmt: skip


class BadRowError(TypeError):
    """A row that cannot be read."""


@dataclass(frozen=True)
class Converter:
    """Brings rows of a data set to the one form.

    Attributes:
        convert: a row in the one form, every column of it; those that the row lacks are None.
        layout: the columns that are read.
    """

    convert: Callable[[Row], dict[str, Any]]
    layout: tuple[str, ...]


def converter(columns: Sequence[str], wanted: Wanted) -> Converter:
    """How rows with these columns are read.

    Raises:
        ValueError: columns of no known layout (the message has the nearest), or single answers where pairs are needed.
    """
    has = set(columns)
    names = ", ".join(columns) if columns else "none"
    if set(_PAIR) <= has:
        return Converter(_chosen_of_pair if wanted == "targets" else _pair, _PAIR)
    layout = next((names for names in _SINGLE if set(names) <= has), None)
    if layout is None:
        raise ValueError(f"its columns are {names}; {_nearest(columns)}. Known layouts: {LAYOUTS}")
    if wanted == "pairs":
        labelled = ", or --method kto, which learns from labels" if "label" in has else ""
        raise ValueError(
            f"it has single answers (columns {names}), the method needs pairs: columns prompt, chosen, "
            f"rejected{labelled}"
        )
    if wanted == "labels" and "label" not in has:
        raise ValueError(
            f"it has single answers without labels (columns {names}); the method needs prompt, chosen, rejected, or "
            "prompt, completion, label"
        )
    return Converter(lambda row: _single(row, layout, "label" in has), layout)


def require_layout(row: Row, reader: Converter) -> None:
    """Raise `BadRowError` for a row that lacks the answer of the layout that is read, and is of another layout."""
    if reader.layout[-1] in row:
        return
    has = {name for name, value in row.items() if value is not None}
    other = next((layout for layout in (_PAIR, *_SINGLE) if set(layout) <= has), None)
    if other is not None:
        raise BadRowError(
            f"its columns are {'+'.join(other)}, and the file is read as {'+'.join(reader.layout)}: give rows of each "
            "layout a file of their own"
        )


def _nearest(columns: Sequence[str]) -> str:
    """What is missing for the layout that lacks least, or how to name the columns; another spelling is half as near."""
    layouts = (("prompt", *_PAIR), *_SINGLE)
    known = list(dict.fromkeys(name for layout in layouts for name in layout))
    spelled = {name: theirs for theirs in columns for name in get_close_matches(theirs.lower(), known, 1, cutoff=0.8)}
    spelled |= {name: name for name in columns}

    def missing(layout: tuple[str, ...]) -> float:
        return sum(1.0 if name not in spelled else 0.5 * (name not in columns) for name in layout)

    near = min((layout for layout in layouts if set(layout) & set(spelled)), key=missing, default=None)
    by_hand = "name them with --columns, such as --columns prompt=QUESTION completion=ANSWER"
    if near is None:
        return f"no layout has any of these: {by_hand}"
    if set(near) <= set(spelled) and "instruction" not in near:  # which may have an `input` beside it
        by_hand = f"try --columns {' '.join(f'{_OURS.get(name, name)}={spelled[name]}' for name in near)}"
    lacking = ", ".join(name for name in near if name not in columns)
    return f"the nearest layout is {'+'.join(near)}, which needs {lacking} as well: {by_hand}"


def is_whole(row: Row) -> bool:
    """Whether a row in the one form has a prompt and an answer of the assistant behind it, or plain text."""
    answers = [row[name] for name in ("completion", *_PAIR) if row[name] is not None]
    if row["completion"] and row["completion"][0]["role"] == "text":
        return bool(row["completion"][0]["content"])
    said = [any(t["role"] == "assistant" and (t["content"] or t.get("tool_calls")) for t in each) for each in answers]
    return bool(row["prompt"]) and bool(said) and all(said)


def renamed(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """The columns that `columns` maps to (our name: the row's), and no others; the row itself if there is no map.

    Raises:
        BadRowError: a row without one of them.
    """
    if not columns:
        return dict(row)
    for theirs in columns.values():
        if theirs not in row:
            raise BadRowError(f"columns: there is no column {theirs!r}, its columns are {', '.join(row)}")
    return {ours: row[theirs] for ours, theirs in columns.items()}


def _form(row: Row, **parts: Any) -> dict[str, Any]:
    columns = dict.fromkeys(("prompt", "completion", "chosen", "rejected", "tools", "label"))
    return columns | {"tools": _tools(row.get("tools"))} | parts


def _single(row: Row, layout: tuple[str, ...], labelled: bool) -> dict[str, Any]:
    label = _label(row.get("label")) if labelled else None
    if layout == ("text",):
        return _form(row, prompt=[], completion=_messages(row.get("text"), "text", "text"), label=label)
    if len(layout) == 1:
        turns = _with_system(row, _messages(row.get(layout[0]), "user", layout[0]))
        first = next((i for i, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))
        return _form(row, prompt=turns[:first], completion=turns[first:], label=label)
    asked, answer = layout
    completion = _messages(row.get(answer), "assistant", answer)
    return _form(row, prompt=_asked(row, asked), completion=completion, label=label)


def _asked(row: Row, column: str) -> Messages:
    """The prompt: Alpaca's `input` stands under its `instruction`, `system` before everything."""
    value = row.get(column)
    if column == "instruction" and value is not None and row.get("input") not in (None, "", [], {}):
        if any(isinstance(part, list | dict) for part in (value, row["input"])):
            raise BadRowError(f"input must be text, under an instruction that is text, got {_short(row['input'])}")
        turns = [*_messages(value, "user", column), *_messages(row["input"], "user", "input")]
        value = "\n\n".join(turn["content"] for turn in turns)
    return _with_system(row, _messages(value, "user", column))


def _with_system(row: Row, turns: Messages) -> Messages:
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise BadRowError(f"system must be text, got {_short(system)}")
    if system and turns and turns[0]["role"] != "system":
        return [{"role": "system", "content": system}, *turns]
    return turns


def _pair(row: Row) -> dict[str, Any]:
    chosen, rejected = (_messages(row.get(name), "assistant", name) for name in _PAIR)
    # UltraFeedback repeats the prompt in front of both answers: what they share is the prompt.
    common = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), len(chosen))
    shared = max(min(common, len(chosen) - 1, len(rejected) - 1), 0)
    column = next((name for name in _PROMPTS if row.get(name) is not None), None)
    prompt = chosen[:shared] or ([] if column is None else _asked(row, column))
    if not prompt and chosen and rejected:
        raise BadRowError(
            f"a pair has no prompt: it needs prompt, chosen, rejected, its columns are {', '.join(row)}; name "
            "them with --columns prompt=QUESTION chosen=GOOD rejected=BAD"
        )
    return _form(row, prompt=prompt, chosen=chosen[shared:], rejected=rejected[shared:])


def _chosen_of_pair(row: Row) -> dict[str, Any]:
    pair = _pair(row)
    return pair | {"completion": pair["chosen"], "chosen": None, "rejected": None}


def _label(value: Any) -> bool | None:
    known = {"true": True, "false": False, "1": True, "0": False}
    if value is None:
        return None
    if str(value).lower() not in known:
        raise BadRowError(f"label must be true or false, got {str(value)[:40]!r}: leave it out with --columns")
    return known[str(value).lower()]


def _tools(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRowError(f"tools must be JSON, got {value[:40]!r}") from error
    return value or None


def _messages(value: Any, role: str, column: str) -> Messages:
    """Text, a message or a list of messages as messages; a number is its text."""
    if value is None:
        return []
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return [_message(turn, column) for turn in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRowError(f"{column} must be text or messages, got the number {value}")
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return [{"role": role, "content": str(value)}]
    raise BadRowError(f"{column} must be text or messages, got {str(value)[:40]!r}")


def _message(turn: Any, column: str) -> dict[str, Any]:
    if not isinstance(turn, dict) or not ({"role"} <= set(turn) or {"from", "value"} <= set(turn)):
        raise BadRowError(
            f"{column}: a message must have 'role' and 'content', or 'from' and 'value', got {_short(turn)}"
        )
    if "role" in turn:
        message = {name: value for name, value in turn.items() if value is not None}
        message = {"role": turn["role"], "content": ""} | message
    else:
        if not isinstance(turn["from"], str) or turn["from"] not in _ROLES:
            raise BadRowError(f"{column}: nobody is called {str(turn['from'])[:40]!r}: take one of {', '.join(_ROLES)}")
        message = {"role": _ROLES[turn["from"]], "content": "" if turn["value"] is None else turn["value"]}
        if turn["from"] == "function_call":
            message |= {"content": "", "tool_calls": [{"type": "function", "function": _called(turn["value"], column)}]}
    if not isinstance(message["role"], str) or not isinstance(message["content"], str):
        raise BadRowError(f"{column}: a message must have 'role' and 'content' as text, got {_short(turn)}")
    if "tool_calls" in message:
        if not isinstance(message["tool_calls"], list):
            raise BadRowError(f"{column}: tool_calls must be a list, got {_short(message['tool_calls'])}")
        message["tool_calls"] = [_call(call, column) for call in message["tool_calls"]]
    return message


def _call(call: Any, column: str) -> dict[str, Any]:
    """A tool call with its arguments as data: chat templates write them as JSON themselves."""
    if not isinstance(call, dict) or not isinstance(call.get("function", call), dict):
        raise BadRowError(f"{column}: a tool call must have 'function' with 'name' and 'arguments', got {_short(call)}")
    function = dict(call.get("function", call))
    function["arguments"] = _data(function.get("arguments"))
    rest = {name: value for name, value in call.items() if name not in ("function", "name", "arguments")}
    return {"type": "function", **rest, "function": function}


def _called(value: Any, column: str) -> dict[str, Any]:
    function = _data(value)
    if not isinstance(function, dict) or "name" not in function:
        raise BadRowError(f"{column}: a function_call must be JSON with 'name' and 'arguments', got {_short(value)}")
    return function


def _data(value: Any) -> Any:
    """What a text holds as JSON, or the value itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
