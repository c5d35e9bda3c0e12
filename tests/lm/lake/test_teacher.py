"""Examples have the teacher that they say they have."""

import numpy as np
import pytest

from lm.lake import make_model, make_tokenizer
from lm.lake.base import train_base
from lm.lake.maps import MOVES, STEP, end_of, fewest_steps, walks
from lm.lake.teacher import KINDS, examples, own_pairs
from lm.lake.words import prompt
from toy import Lake, value_iteration


def map_in(text):
    """The map of a prompt in the small model's words."""
    letters = [word for word in text.split() if word in "SFHG"]
    return np.array(letters).reshape(int(len(letters) ** 0.5), -1)


def actions(text):
    return [MOVES.index(word) for word in text.split()]


def test_examples_follow_the_seed_and_rejected_walks_are_worse():
    found = examples(50, "train", 3)
    assert found == examples(50, "train", 3)
    assert found != examples(50, "train", 4)
    for row in found:
        rows = np.array(row["prompt"].replace("/", "").split()).reshape(4, 4)
        good, bad = ([MOVES.index(word) for word in row[name].split()] for name in ("chosen", "rejected"))
        assert end_of(rows, good) == "G"
        assert end_of(rows, bad) != "G" or len(bad) > len(good)


def test_rejected_walks_say_why_and_ties_can_be_the_same():
    rows = examples(200, "dev", 0, size=5)
    assert {"hole", "detour"} <= {row["worse"] for row in rows} <= {"hole", "detour", "lost"}
    same, drawn = (examples(200, "dev", 0, same_tie=tie) for tie in (True, False))
    assert [row["prompt"] for row in same] == [row["prompt"] for row in drawn]
    assert [len(row["chosen"].split()) for row in same] == [len(row["chosen"].split()) for row in drawn]
    assert [row["chosen"] for row in same] != [row["chosen"] for row in drawn]
    first = np.array(same[0]["prompt"].replace("/", "").split()).reshape(1, 4, 4)
    assert walks(first, 0.0, np.random.default_rng(9), same_tie=True)[0] == [
        [MOVES.index(word) for word in same[0]["chosen"].split()]
    ]


def test_plain_english_has_the_same_map_and_the_same_walk():
    words, english = (examples(5, "test", 1, english=plain) for plain in (False, True))
    for symbols, question in zip(words, english, strict=True):
        assert symbols["prompt"].replace(" / ", "\n").removesuffix(" /") in question["prompt"]
        assert symbols["chosen"] == question["chosen"]


@pytest.mark.parametrize("english", [False, True])
def test_moves_on_slippery_ice_are_best_and_worse_in_the_cell_where_one_is(english):
    rows = examples(60, "train", 2, kind="move", english=english)
    assert len(rows) == 60
    words = examples(60, "train", 2, kind="move")
    slid_on = 0
    for row, symbols in zip(rows, words, strict=True):
        assert {row[name] for name in ("chosen", "rejected")} <= set(MOVES)
        letters = map_in(symbols["prompt"])
        slid = actions(symbols["prompt"].split("slippery")[1])
        slid_on += len(slid) > 0
        assert row["prompt"] == prompt(letters, english=english, slid=slid)
        cell = np.argwhere(letters == "S")[0]
        for move in slid:
            cell = np.clip(cell + STEP[move], 0, 3)
            assert letters[tuple(cell)] not in "GH"
        plan = value_iteration(Lake.make(["".join(r) for r in letters], slippery=True))
        policy = plan.policy[cell[0] * 4 + cell[1]]
        assert policy[MOVES.index(row["chosen"])] > 0
        assert policy[MOVES.index(row["rejected"])] == 0
    assert slid_on > 20


def test_noisy_walks_end_anywhere():
    rows = examples(80, "train", 1, kind="noisy")
    ends = {end_of(map_in(row["prompt"]), actions(row["completion"])) for row in rows}
    assert ends == {"G", "H"}
    assert set(rows[0]) == {"prompt", "completion"}


def test_every_kind_can_be_made():
    for options in KINDS.values():
        assert len(examples(3, "dev", 0, **options)) == 3


def test_own_pairs_reject_what_the_model_says(player_that_learned):
    model, tokenizer = player_that_learned
    pairs = own_pairs(model, tokenizer, 20, "train", 5)
    assert pairs == own_pairs(model, tokenizer, 20, "train", 5)
    for row in pairs:
        letters = map_in(row["prompt"])
        best, said = actions(row["chosen"]), row["rejected"].split()
        assert len(best) == fewest_steps(letters[None])[0]
        if row["worse"] == "no move":
            assert set(said) - set(MOVES)
        else:
            walk = actions(row["rejected"])
            end = end_of(letters, walk)
            assert (end == "G", end == "H") == (row["worse"] == "detour", row["worse"] == "hole")
            assert end != "G" or len(walk) > len(best)


def test_a_model_that_has_no_worse_walks_is_refused(monkeypatch):
    def perfect(model, tokenizer, letters, **_):
        return [
            (" ".join(MOVES[move] for move in walk), True) for walk in walks(letters, 0, np.random.default_rng())[0]
        ]

    monkeypatch.setitem(own_pairs.__globals__, "answers", perfect)
    with pytest.raises(ValueError, match="worse than the best on 0 of 8 maps, 4 were asked for"):
        own_pairs(None, None, 4, "train", 0)


def test_a_few_updates_teach_the_base_model_something():
    seen = []
    model = train_base(0, updates=12, report=seen.append)
    assert seen[-1] == 1
    assert model.num_parameters() < 1e6
    assert make_model(make_tokenizer(), 0).num_parameters() == model.num_parameters()
