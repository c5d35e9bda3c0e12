"""What the harness calls for `arc_gen`: the question with its options, and the choice that an answer makes."""

import re
from typing import Any

_GOES_ON = "(?:and|as|because|for|in|since|so|which|with)"  # after a label; "A" before other words is an article


def question(doc: dict[str, Any]) -> str:
    """Question and lettered options, and how to answer."""
    options = [f"({label}) {text}" for label, text in _options(doc).items()]
    return "\n".join([f"Question: {doc['question']}", *options, "Explain briefly, and end with: The answer is (X)."])


def results(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """Whether the answer chooses rightly, and whether it chooses nothing."""
    choice = chosen(answers[0], _options(doc))
    return {"exact_match": float(choice == doc["answerKey"]), "no_answer": float(choice is None)}


def chosen(answer: str, options: dict[str, str]) -> str | None:
    """The label that an answer in free text settles on, if any.

    In this order: what follows its last "answer", "answer is", "option is" or "choice is", but for a capital that
    begins a phrase ("A cat"); its last label in brackets or bold; a label that it begins with; the whole of it, if
    that is a label; the one option whose text it contains. Labels count in capitals.
    """
    label = "|".join(map(re.escape, options))
    said_before = r"(?i:answer(?:\s+is)?|(?:option|choice)\s+is)\s*:?\s*(?i:option\s+)?"
    for pattern in (
        rf"{said_before}[\s*(\[\"]*({label})(?![\w'])(?! (?!{_GOES_ON}\b)[a-z])",
        rf"(?:\(|\*\*)({label})(?:\)|\*\*)",
        rf"^\s*({label})(?:[).:,\n]|$)",
    ):
        labels = re.findall(pattern, answer)
        if labels:
            return str(labels[-1])
    said = [name for name, text in options.items() if re.search(rf"\b{re.escape(text.lower())}\b", answer.lower())]
    return said[0] if len(said) == 1 else None


def _options(doc: dict[str, Any]) -> dict[str, str]:
    return dict(zip(doc["choices"]["label"], doc["choices"]["text"], strict=True))
