"""A language model as a policy, against the lake of the toy front end and against one state at a time."""

import numpy as np
import pytest
import torch

from lm.lake import MOVES, in_words, make_model, make_tokenizer, policy, prompt
from lm.lake.maps import steps_to_goal
from toy import Lake, evaluate, value_iteration


def as_lake(rows, slippery=False):
    return Lake.make(["".join(row) for row in rows], slippery=slippery)


def test_live_states_are_the_cells_that_can_be_reached_by_shortest_walks(letters):
    states = policy.live_states(letters)
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
                distance = steps_to_goal(turned[None])[0]
                assert len(states.walks[state]) == distance[tuple(np.argwhere(rows == "S")[0])]
        beside = {(r + d, c + e) for r, c in reached for d, e in ((0, 1), (1, 0), (0, -1), (-1, 0))} - reached
        assert all(not (0 <= r < 4 and 0 <= c < 4) or rows[r, c] in "HG" for r, c in beside)


def test_the_optimal_policy_is_at_no_distance(letters):
    states = policy.live_states(letters)
    plans = [value_iteration(as_lake(rows), policy.DISCOUNT) for rows in letters]
    best = np.stack([plans[i].policy[cell] for i, cell in zip(states.map_of, states.cell_of, strict=True)])
    found = policy.score_policy(letters, states, best)
    for name in ("policy_mse", "policy_kl", "policy_mse_visited", "policy_kl_visited", "value_gap"):
        np.testing.assert_allclose(found[name], 0, atol=1e-9)
    for name in ("success", "agreement"):
        np.testing.assert_allclose(found[name], 1)


def test_any_policy_is_worth_what_the_lake_says(letters):
    states = policy.live_states(letters)
    probs = np.random.default_rng(0).dirichlet(np.ones(4), len(states.walks))
    found = policy.score_policy(letters, states, probs)
    for i, rows in enumerate(letters):
        table = np.full((1, 16, 4), 0.25)
        table[0, states.cell_of[states.map_of == i]] = probs[states.map_of == i]
        worth = evaluate(as_lake(rows), table, policy.DISCOUNT)
        assert found["success"][i] == pytest.approx(worth.success[0])
        plan = value_iteration(as_lake(rows), policy.DISCOUNT)
        live = states.cell_of[states.map_of == i]
        assert found["policy_mse"][i] == pytest.approx(np.square(table[0, live] - plan.policy[live]).mean())
        assert found["value_gap"][i] == pytest.approx(plan.values[as_lake(rows).starts[0]] - worth.returns[0])


def test_probabilities_are_those_of_one_state_at_a_time(letters, player, monkeypatch):
    model, tokenizer = player
    states = policy.live_states(letters)
    monkeypatch.setattr(policy, "BATCH", 5)
    model.train()
    probs, outside = policy.move_probs(model, tokenizer, letters, states)
    assert model.training
    np.testing.assert_allclose(probs.sum(1), 1)
    model.eval()
    for i in range(0, len(states.walks), 9):
        chat = [{"role": "user", "content": prompt(letters[states.map_of[i]])}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text + " " + in_words(states.walks[i]), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            every = model(ids).logits[0, -1].softmax(-1).double()
        four = every[tokenizer.convert_tokens_to_ids(list(MOVES))].numpy()
        np.testing.assert_allclose(probs[i], four / four.sum(), rtol=1e-4)
        assert outside[i] == pytest.approx(1 - four.sum(), abs=1e-5)


def test_slippery_ice_has_an_optimum_of_its_own(letters):
    states = policy.live_states(letters)
    plans = [value_iteration(as_lake(rows, slippery=True), policy.DISCOUNT) for rows in letters]
    best = np.stack([plans[i].policy[cell] for i, cell in zip(states.map_of, states.cell_of, strict=True)])
    found = policy.score_policy(letters, states, best, slippery=True)
    np.testing.assert_allclose(found["policy_mse"], 0, atol=1e-9)
    np.testing.assert_allclose(found["value_gap"], 0, atol=1e-9)
    assert found["success"].mean() < 1
    assert policy.score_policy(letters, states, best)["policy_mse"].mean() > 0.01


def test_on_slippery_ice_a_state_is_where_one_slid(letters, player):
    model, tokenizer = player
    states = policy.live_states(letters)
    probs, _ = policy.move_probs(model, tokenizer, letters, states, slippery=True)
    for i in range(0, len(states.walks), 17):
        chat = [{"role": "user", "content": prompt(letters[states.map_of[i]], slid=states.walks[i])}]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        with torch.no_grad():
            every = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].softmax(-1).double()
        four = every[tokenizer.convert_tokens_to_ids(list(MOVES))].numpy()
        np.testing.assert_allclose(probs[i], four / four.sum(), rtol=1e-4)


def test_a_map_beyond_the_context_is_refused(letters):
    tokenizer = make_tokenizer()
    small = make_model(tokenizer, 0)
    small.config.max_position_embeddings = 20
    with pytest.raises(policy.NoRoomError, match=r"a map needs \d+ tokens, the model's context has 20: take smaller"):
        policy.move_probs(small, tokenizer, letters, policy.live_states(letters))
