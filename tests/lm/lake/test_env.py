"""The environment is Gymnasium's, and its lake is the lake."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lm.lake import MOVES, prompt
from lm.lake.maps import fewest_steps
from lm.lake.words import in_words

ID = "lm.lake:lm/LakeText-v0"


@pytest.mark.parametrize("options", [{}, {"slippery": True, "english": True}, {"size": 6, "holes": 0.3}])
def test_gymnasium_accepts_it(options):
    check_env(gymnasium.make(ID, **options).unwrapped, skip_render_check=True)


def test_best_moves_lead_to_the_goal_in_the_fewest_steps():
    env = gymnasium.make(ID)
    seen = set()
    for seed in range(20):
        text, info = env.reset(seed=seed)
        assert text == env.reset(seed=seed)[0]
        seen.add(text)
        letters = np.array([list(row) for row in info["map"]])
        assert text == prompt(letters)
        text, info = env.reset(seed=seed)
        walk, ended = [], False
        while not ended:
            walk.append(int(info["best_moves"].argmax()))
            text, reward, ended, cut, info = env.step(walk[-1])
            assert not cut
            assert text == f"{prompt(letters)}\n{in_words(walk)}"
        assert reward == 1
        assert len(walk) == fewest_steps(letters[None])[0]
    assert len(seen) > 15


def test_on_slippery_ice_the_prompt_says_where_one_slid():
    env = gymnasium.make(ID, slippery=True)
    text, info = env.reset(seed=3)
    letters = np.array([list(row) for row in info["map"]])
    assert text == prompt(letters, slid=[])
    slid = []
    for _ in range(5):
        text, _, ended, _, _ = env.step(2)
        slid = [MOVES.index(word) for word in text.split("slippery")[1].split()]
        assert set(slid) <= {1, 2, 3}
        if ended:
            break
    assert text == prompt(letters, slid=slid)


def test_a_walk_without_end_is_cut():
    env = gymnasium.make(ID, holes=0.0, size=3, render_mode="ansi")
    _, info = env.reset(seed=0)
    steps, ended, cut = 0, False, False
    while not (ended or cut):
        _, _, ended, cut, info = env.step(int(info["best_moves"].argmin()))
        steps += 1
    assert cut
    assert steps == 13
    assert env.render().count("[") == 1
