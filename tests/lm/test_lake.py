"""The lake in words agrees with the lake of the toy front end."""

import numpy as np
import pytest

from lm import lake
from toy import Lake, value_iteration


@pytest.fixture(scope="module")
def letters():
    return lake.random_maps(60, "train", np.random.default_rng(0))


def test_steps_to_the_goal_are_those_of_value_iteration(letters):
    """The optimal value of a cell n steps from the goal is discount^(n − 1)."""
    for rows, steps in zip(letters[:20], lake.steps_to_goal(letters[:20]), strict=True):
        plan = value_iteration(Lake.make(["".join(row) for row in rows]), discount=0.9)
        reached = (steps > 0) & (steps < 16)
        np.testing.assert_allclose(plan.values.reshape(4, 4)[reached], 0.9 ** (steps[reached] - 1.0), rtol=1e-8)


def test_walks_without_noise_are_shortest_and_with_noise_are_not_all(letters):
    steps = lake.steps_to_goal(letters)
    shortest = [int(distance[rows == "S"][0]) for rows, distance in zip(letters, steps, strict=True)]
    generator = np.random.default_rng(1)
    best = lake.walks(letters, 0.0, generator)
    assert [len(walk) for walk in best] == shortest
    assert all(lake.outcome(rows, walk) == "G" for rows, walk in zip(letters, best, strict=True))
    noisy = lake.walks(letters, 0.5, generator)
    assert 0.1 < np.mean([lake.outcome(rows, walk) == "G" for rows, walk in zip(letters, noisy, strict=True)]) < 0.95


def test_no_map_turned_or_mirrored_is_in_two_splits():
    def canonical(rows):
        return min("".join(np.rot90(side, turns).ravel()) for side in (rows, rows.T) for turns in range(4))

    seen = {
        split: {canonical(rows) for rows in lake.random_maps(400, split, np.random.default_rng(i))}
        for i, split in enumerate(("train", "dev", "test"))
    }
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


def test_examples_follow_the_seed_and_rejected_walks_are_worse():
    examples = lake.examples(50, "train", 3)
    assert examples == lake.examples(50, "train", 3)
    assert examples != lake.examples(50, "train", 4)
    for row in examples:
        rows = np.array(row["prompt"].replace("/", "").split()).reshape(4, 4)
        good, bad = ([lake.MOVES.index(word) for word in row[name].split()] for name in ("chosen", "rejected"))
        assert lake.outcome(rows, good) == "G"
        assert lake.outcome(rows, bad) != "G" or len(bad) > len(good)


def test_the_tokenizer_knows_every_word():
    tokenizer = lake.make_tokenizer()
    row = lake.examples(1, "train", 0)[0]
    chat = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids).split()[0] == "<|user|>"


def test_a_few_updates_teach_the_base_model_something():
    seen = []
    model = lake.train_base(0, updates=12, report=seen.append)
    assert seen[-1] == 1
    assert model.num_parameters() < 1e6
