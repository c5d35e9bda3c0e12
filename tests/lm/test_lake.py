"""The lake in words agrees with the lake of the toy front end."""

import sys

import numpy as np
import pytest
from datasets import load_dataset

from lm import data, lake, lake_data
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
    best, ends = lake.walks(letters, 0.0, generator)
    assert set(ends) == {"G"}
    assert [len(walk) for walk in best] == shortest
    assert all(lake.outcome(rows, walk) == "G" for rows, walk in zip(letters, best, strict=True))
    noisy, ends = lake.walks(letters, 0.5, generator)
    assert list(ends) == [lake.outcome(rows, walk) for rows, walk in zip(letters, noisy, strict=True)]
    assert 0.1 < np.mean(ends == "G") < 0.95


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


def test_rejected_walks_say_why_and_ties_can_be_the_same():
    rows = lake.examples(200, "dev", 0, size=5)
    assert {"hole", "detour"} <= {row["worse"] for row in rows} <= {"hole", "detour", "lost"}
    same, drawn = (lake.examples(200, "dev", 0, same_tie=tie) for tie in (True, False))
    assert [row["prompt"] for row in same] == [row["prompt"] for row in drawn]
    assert [len(row["chosen"].split()) for row in same] == [len(row["chosen"].split()) for row in drawn]
    assert [row["chosen"] for row in same] != [row["chosen"] for row in drawn]
    first = np.array(same[0]["prompt"].replace("/", "").split()).reshape(1, 4, 4)
    assert lake.walks(first, 0.0, np.random.default_rng(9), same_tie=True)[0] == [
        [lake.MOVES.index(word) for word in same[0]["chosen"].split()]
    ]


def test_plain_english_has_the_same_map_and_the_same_walk():
    words, english = (lake.examples(5, "test", 1, english=plain) for plain in (False, True))
    for symbols, question in zip(words, english, strict=True):
        assert symbols["prompt"].replace(" / ", "\n").removesuffix(" /") in question["prompt"]
        assert symbols["chosen"] == question["chosen"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_examples_can_be_written_for_any_trainer(suffix, tmp_path, monkeypatch, capsys):
    out = tmp_path / f"walks{suffix}"
    monkeypatch.setattr(sys, "argv", ["lake_data", "--rows", "7", "--split", "test", "--out", str(out)])
    lake_data.main()
    rows = load_dataset("json" if suffix == ".jsonl" else "parquet", data_files=str(out), split="train").to_list()
    assert rows == lake.examples(7, "test", 0)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert data.load((str(out),), True, 0).num_rows == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "walks.txt"], "out must end in .jsonl or .parquet, got 'walks.txt'"),
        (["--out", "a.jsonl", "--rows", "0"], "rows must be at least 1, got 0"),
        (["--out", "a.jsonl", "--size", "1"], "size must lie in [2, 12], got 1"),
        (["--out", "a.jsonl", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--out", "a.jsonl", "--size", "2", "--rows", "999"], "there are not 999 different maps of 2×2 in the split"),
    ],
)
def test_bad_options_of_the_writer_are_one_line(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lake_data", *arguments])
    with pytest.raises(SystemExit) as stop:
        lake_data.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


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
