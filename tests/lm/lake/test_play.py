"""What a language model says on the lake, and how it ends."""

import numpy as np
import pytest
import torch

from lm.lake import MOVES, in_words, make_model, make_tokenizer
from lm.lake.maps import end_of
from lm.lake.play import answers, judged, play, play_on_slippery_ice
from lm.lake.words import prompt, prompt_ids
from toy import Lake
from toy.trajectories import given_trajectory


@pytest.mark.parametrize(
    ("words", "ended", "outcome", "moves"),
    [
        ("down down right right right", False, "goal", 5),  # what comes behind the goal does not count
        ("down right left", True, "hole", 2),
        ("down", True, "stops early", 1),
        ("up up up", False, "never ends", 3),
        ("down S right", True, "no move", 1),
        ("", True, "stops early", 0),
        ("Down, down. RIGHT, right", False, "goal", 4),  # as pretrained models write
    ],
)
def test_every_end_of_a_walk_has_a_name(words, ended, outcome, moves):
    rows = np.array([list("SFF"), list("FHF"), list("FFG")])
    words = words.replace("right right right", "right right down")
    found = judged(rows, words, ended)
    assert found[0] == outcome
    assert len(found[1]) == (4 if outcome == "goal" else moves)
    if outcome == "goal":
        assert given_trajectory(Lake.make(["".join(row) for row in rows]), in_words(found[1]), 0, "walk")


def test_play_follows_the_seed_and_is_what_the_answers_say(letters, player):
    model, tokenizer = player
    seen = [play(model, tokenizer, letters, sample_seed=seed) for seed in (1, 1, 2)]
    assert seen[0] == seen[1] != seen[2]
    said = answers(model, tokenizer, letters, sample_seed=1)
    assert [judged(rows, *answer) for rows, answer in zip(letters, said, strict=True)] == list(
        zip(*seen[0], strict=True)
    )


def test_a_first_move_can_be_made_for_the_model(letters, player):
    model, tokenizer = player
    first = np.arange(len(letters)) % 4
    said = answers(model, tokenizer, letters, first_moves=first)
    for i, (text, _) in enumerate(said):
        assert text.split()[0] == MOVES[first[i]]
        # Greedy, the model goes on as it would after the move in a longer prompt.
        ids = [*prompt_ids(tokenizer, prompt(letters[i])), tokenizer.convert_tokens_to_ids(MOVES[first[i]])]
        with torch.no_grad():
            token = model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
        assert tokenizer.decode(token, skip_special_tokens=True) in [*text.split()[1:2], ""]


class Knows:
    """A model of the right shape that always gives the same token."""

    def __init__(self, model, token):
        self.model, self.token, self.config, self.device, self.training = model, token, model.config, "cpu", False

    def __call__(self, **inputs):
        found = self.model(**inputs)
        found.logits[..., self.token] = 1e4
        return found

    def eval(self):
        pass

    def train(self, mode):
        pass


def test_on_slippery_ice_every_end_is_counted(letters, player):
    model, tokenizer = player
    left = Knows(model, tokenizer.convert_tokens_to_ids("left"))
    outcomes, slid = play_on_slippery_ice(left, tokenizer, letters, seed=1)
    assert (outcomes, slid) == play_on_slippery_ice(left, tokenizer, letters, seed=1)
    assert (outcomes, slid) != play_on_slippery_ice(left, tokenizer, letters, seed=2)
    for rows, outcome, walk in zip(letters, outcomes, slid, strict=True):
        assert end_of(rows, walk) == {"goal": "G", "hole": "H"}.get(outcome, end_of(rows, walk))
        assert set(walk) <= {3, 0, 1}  # left, and to both sides of it
    silent = Knows(model, tokenizer.eos_token_id)
    assert play_on_slippery_ice(silent, tokenizer, letters) == (["no move"] * len(letters), [[] for _ in letters])


@pytest.mark.parametrize("slippery", [False, True])
def test_a_map_without_room_is_an_outcome(letters, slippery):
    tokenizer = make_tokenizer()
    small = make_model(tokenizer, 0)
    small.config.max_position_embeddings = 20
    outcomes, walks = (play_on_slippery_ice if slippery else play)(small, tokenizer, letters)
    assert set(outcomes) == {"no room"}
    assert not any(walks)


def test_an_answer_is_cut_where_the_context_ends(letters):
    tokenizer = make_tokenizer()
    small = make_model(tokenizer, 0)
    small.config.max_position_embeddings = 24  # a map takes 22
    said = answers(small, tokenizer, letters, sample_seed=0)
    assert max(len(text.split()) for text, _ in said) <= 2
