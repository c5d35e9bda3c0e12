"""Maps and walks agree with the lake of the toy front end."""

import numpy as np
import pytest

from lm.lake import maps
from toy import Lake, value_iteration


@pytest.fixture(scope="module")
def letters():
    return maps.random_maps(60, "train", np.random.default_rng(0))


def test_steps_to_the_goal_are_those_of_value_iteration(letters):
    """The optimal value of a cell n steps from the goal is discount^(n − 1)."""
    for rows, steps in zip(letters[:20], maps.steps_to_goal(letters[:20]), strict=True):
        plan = value_iteration(Lake.make(["".join(row) for row in rows]), discount=0.9)
        reached = (steps > 0) & (steps < 16)
        np.testing.assert_allclose(plan.values.reshape(4, 4)[reached], 0.9 ** (steps[reached] - 1.0), rtol=1e-8)


def test_walks_without_noise_are_shortest_and_with_noise_are_not_all(letters):
    steps = maps.steps_to_goal(letters)
    shortest = [int(distance[rows == "S"][0]) for rows, distance in zip(letters, steps, strict=True)]
    generator = np.random.default_rng(1)
    best, ends = maps.walks(letters, 0.0, generator)
    assert set(ends) == {"G"}
    assert [len(walk) for walk in best] == shortest
    assert all(maps.end_of(rows, walk) == "G" for rows, walk in zip(letters, best, strict=True))
    noisy, ends = maps.walks(letters, 0.5, generator)
    assert list(ends) == [maps.end_of(rows, walk) for rows, walk in zip(letters, noisy, strict=True)]
    assert 0.1 < np.mean(ends == "G") < 0.95


def test_no_map_turned_or_mirrored_is_in_two_splits():
    def canonical(rows):
        return min("".join(np.rot90(side, turns).ravel()) for side in (rows, rows.T) for turns in range(4))

    seen = {
        split: {canonical(rows) for rows in maps.random_maps(400, split, np.random.default_rng(i))}
        for i, split in enumerate(("train", "dev", "test"))
    }
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


def test_new_ends_occur_on_no_other_map():
    def ends(letters):
        return {np.where(rows == "H", "F", rows).tobytes() for rows in letters}

    usual = ends(np.concatenate([maps.random_maps(600, split, np.random.default_rng(0)) for split in ("train", "dev")]))
    new = maps.random_maps(200, "test", np.random.default_rng(1), new_ends=True)
    assert len(usual) > 150
    assert not usual & ends(new)
    turned = np.rot90(new, axes=(1, 2))
    assert maps.has_new_ends(turned).all()
    assert set(maps.splits_of(new)) == {"test"}


def test_wrong_first_moves_are_wrong_and_can_be_made_good(letters):
    steps, wrong = maps.steps_to_goal(letters), maps.wrong_first_moves(letters)
    assert (wrong >= 0).mean() > 0.5
    for rows, distance, move in zip(letters, steps, wrong, strict=True):
        start = np.argwhere(rows == "S")[0]
        after = [tuple(np.clip(start + step, 0, 3)) for step in maps.STEP]
        bad = [distance[cell] for cell in after if distance[tuple(start)] <= distance[cell] < 16]
        if move < 0:
            assert not bad
        else:
            assert distance[after[move]] == max(bad)
            assert rows[after[move]] != "H"


def test_too_many_maps_are_refused():
    with pytest.raises(
        ValueError, match=r"only \d+ different maps of 2×2 were found in the split 'train', 48 were asked for"
    ):
        maps.random_maps(48, "train", np.random.default_rng(0), 2)


def test_a_single_map_can_be_asked_for():
    """Few candidates may all be unsolvable, or of another split."""
    for seed in range(40):
        assert maps.random_maps(1, "test", np.random.default_rng(seed), 4, 0.6).shape == (1, 4, 4)
