"""The choice that an answer in free text makes."""

import pytest

from lm.tasks.arc_gen.utils import chosen, results


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("Answer: C", "C"),
        ("**D**", "D"),
        ("A. ice melts", "A"),
        ("C", "C"),
        ("It could be (A), but the answer is (D).", "D"),
        ("The answer is A cat, so (B).", "B"),
        ("The answer is A because it melts.", "A"),
        ("The correct choice is C.", "C"),
        ("Option A is wrong. Option C is right. Option D is wrong.", None),
        ("Fire is hot.", "B"),
        ("A cat and a dog", None),
        ("ice or fire", None),
        ("The answer is a mystery", None),
        ("", None),
    ],
)
def test_the_choice_is_read_from_free_text(answer, label):
    doc = {"choices": {"label": ["A", "B", "C", "D"], "text": ["ice", "fire", "a stone", "wind"]}, "answerKey": "B"}
    found = results(doc, [answer])
    assert found == {"exact_match": float(label == "B"), "no_answer": float(label is None)}


def test_choices_may_be_numbered():
    assert chosen("The answer is (2).", {"1": "ice", "2": "fire"}) == "2"
