"""The scores of a language model's play, against the lake of the toy front end and against one state at a time."""

import numpy as np
import pytest
import torch

from lm import lake, scores
from toy import Lake, evaluate, value_iteration
from toy.trajectories import given_walk


@pytest.fixture(scope="module")
def letters():
    return lake.random_maps(12, "dev", np.random.default_rng(3))


@pytest.fixture(scope="module")
def player():
    return lake.make_model(lake.make_tokenizer(), 0), lake.make_tokenizer()


def as_lake(rows):
    return Lake.make(["".join(row) for row in rows])


def test_live_states_are_the_cells_that_can_be_reached_by_shortest_walks(letters):
    states = scores.live_states(letters)
    for i, rows in enumerate(letters):
        mine = np.flatnonzero(states.map_of == i)
        reached = set()
        for state in mine:
            where = np.argwhere(rows == "S")[0]
            for move in states.walks[state]:
                where = where + [(0, -1), (1, 0), (0, 1), (-1, 0)][move]
                assert rows[tuple(where)] not in "HG"
            assert where[0] * 4 + where[1] == states.cell_of[state]
            reached.add(tuple(where))
            # The same map with this cell as its goal, the real goal closed: as far from the start as the walk is long.
            turned = np.where(rows == "G", "H", rows)
            turned[tuple(where)] = "G"
            if states.walks[state]:
                distance = lake.steps_to_goal(turned[None])[0]
                assert len(states.walks[state]) == distance[tuple(np.argwhere(rows == "S")[0])]
        beside = {(r + d, c + e) for r, c in reached for d, e in ((0, 1), (1, 0), (0, -1), (-1, 0))} - reached
        assert all(not (0 <= r < 4 and 0 <= c < 4) or rows[r, c] in "HG" for r, c in beside)


def test_the_optimal_policy_is_at_no_distance(letters):
    states = scores.live_states(letters)
    plans = [value_iteration(as_lake(rows), scores.DISCOUNT) for rows in letters]
    best = np.stack([plans[i].policy[cell] for i, cell in zip(states.map_of, states.cell_of, strict=True)])
    found = scores.score_policy(letters, states, best)
    for name in ("policy_mse", "policy_kl", "policy_mse_visited", "policy_kl_visited", "value_gap"):
        np.testing.assert_allclose(found[name], 0, atol=1e-9)
    for name in ("success", "agreement"):
        np.testing.assert_allclose(found[name], 1)


def test_any_policy_is_worth_what_the_lake_says(letters):
    states = scores.live_states(letters)
    probs = np.random.default_rng(0).dirichlet(np.ones(4), len(states.walks))
    found = scores.score_policy(letters, states, probs)
    for i, rows in enumerate(letters):
        table = np.full((1, 16, 4), 0.25)
        table[0, states.cell_of[states.map_of == i]] = probs[states.map_of == i]
        worth = evaluate(as_lake(rows), table, scores.DISCOUNT)
        assert found["success"][i] == pytest.approx(worth.success[0])
        plan = value_iteration(as_lake(rows), scores.DISCOUNT)
        live = states.cell_of[states.map_of == i]
        assert found["policy_mse"][i] == pytest.approx(np.square(table[0, live] - plan.policy[live]).mean())
        assert found["value_gap"][i] == pytest.approx(plan.values[as_lake(rows).starts[0]] - worth.returns[0])


def test_probabilities_are_those_of_one_state_at_a_time(letters, player, monkeypatch):
    model, tokenizer = player
    states = scores.live_states(letters)
    monkeypatch.setattr(scores, "_BATCH", 7)
    model.train()
    probs, outside = scores.move_probs(model, tokenizer, letters, states)
    assert model.training
    np.testing.assert_allclose(probs.sum(1), 1)
    model.eval()
    for i in range(0, len(states.walks), 9):
        chat = [{"role": "user", "content": lake.prompt(letters[states.map_of[i]])}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text + " " + lake.in_words(states.walks[i]), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            every = model(ids).logits[0, -1].softmax(-1).double()
        four = every[tokenizer.convert_tokens_to_ids(list(lake.MOVES))].numpy()
        np.testing.assert_allclose(probs[i], four / four.sum(), rtol=1e-4)
        assert outside[i] == pytest.approx(1 - four.sum(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "ended", "outcome", "moves"),
    [
        ("down down right right right", False, "goal", 5),  # what comes behind the goal does not count
        ("down right left", True, "hole", 2),
        ("down", True, "stops early", 1),
        ("up up up", False, "never ends", 3),
        ("down S right", True, "no move", 1),
        ("", True, "stops early", 0),
    ],
)
def test_every_end_of_a_walk_has_a_name(words, ended, outcome, moves):
    rows = np.array([list("SFF"), list("FHF"), list("FFG")])
    words = words.replace("right right right", "right right down")
    found = scores._outcome(rows, words.split(), ended)
    assert found[0] == outcome
    assert len(found[1]) == (4 if outcome == "goal" else moves)
    if outcome == "goal":
        assert given_walk(as_lake(rows), ",".join(words.split()[:4]), 0, "walk")


def test_scores_of_a_model_are_shares_and_follow_the_seed(letters, player):
    model, tokenizer = player
    found = scores.score_model(model, tokenizer, letters)
    assert sum(value for name, value in found.items() if name.startswith("outcome_")) == pytest.approx(1)
    assert found["success"] == found["outcome_goal"] >= found["shortest"]
    assert 0 < found["outside"] < 1
    again = scores.score_model(model, tokenizer, letters)
    np.testing.assert_equal(again, found)
    assert scores.play(model, tokenizer, letters, sample_seed=1) == scores.play(
        model, tokenizer, letters, sample_seed=1
    )
    assert scores.play(model, tokenizer, letters, sample_seed=1) != scores.play(
        model, tokenizer, letters, sample_seed=2
    )


def test_what_cannot_be_scored_is_refused(letters, player):
    _, tokenizer = player
    states = scores.live_states(letters)
    small = lake.make_model(tokenizer, 0)
    small.config.max_position_embeddings = 20
    with pytest.raises(ValueError, match=r"a map needs \d+ tokens, the model's context has 20"):
        scores.move_probs(small, tokenizer, letters, states)

    class Merging:
        def encode(self, text, add_special_tokens):
            return [1] if " " in text.strip() else [2]

    with pytest.raises(ValueError, match="splits or merges left, down, right, up"):
        lake.move_tokens(Merging())
