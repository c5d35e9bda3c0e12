import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import MAPS, generate_random_map
from hypothesis import given
from hypothesis import strategies as st

from toy import Lake
from toy.lake import gymnasium_tables, vectorised_tables


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 9),
    slippery=st.booleans(),
    success_rate=st.floats(0, 1),
    rewards=st.tuples(*[st.integers(-3, 3)] * 3),
)
def test_the_vectorised_builder_equals_gymnasiums_tables(seed, size, slippery, success_rate, rewards):
    rows = generate_random_map(size=size, seed=seed)[: max(2, size - seed % 3)]  # some are wider than high
    for fast, slow in zip(
        vectorised_tables(rows, slippery, success_rate, rewards),
        gymnasium_tables(rows, slippery, success_rate, rewards),
        strict=True,
    ):
        np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("slippery", [False, True])
@pytest.mark.parametrize("name", ["4x4", "8x8"])
def test_a_lake_says_what_env_p_says(name, slippery):
    lake = Lake.make(name, slippery=slippery)
    table = gym.make("FrozenLake-v1", map_name=name, is_slippery=slippery).unwrapped.P
    for cell, actions in table.items():
        for action, outcomes in actions.items():
            listed = list(
                zip(
                    lake.probability[cell, action],
                    lake.next_cell[cell, action],
                    lake.reward[cell, action],
                    lake.terminal[lake.next_cell[cell, action]],
                    strict=True,
                )
            )
            assert listed[: len(outcomes)] == outcomes
            assert all(chance == 0 for chance, *_ in listed[len(outcomes) :])


def test_big_lakes_use_the_vectorised_builder_and_agree():
    rows = generate_random_map(size=40, seed=1)
    lake = Lake.make(rows, slippery=True)
    for fast, slow in zip(
        (lake.next_cell, lake.probability, lake.reward),
        gymnasium_tables(rows, True, 1 / 3, (1, 0, 0)),
        strict=True,
    ):
        np.testing.assert_array_equal(fast, slow)


def test_maps_can_be_named_generated_read_or_written_out(tmp_path):
    assert Lake.make("8x8").rows == tuple(MAPS["8x8"])
    assert Lake.make("ring").rows == ("SFFFF", "FHHHF", "FFFGF")
    assert Lake.make("random:6:3").rows == tuple(generate_random_map(size=6, seed=3))
    assert Lake.make("SFF/HFG").rows == ("SFF", "HFG")
    (tmp_path / "lake.txt").write_text("SFF\nHFG\n\n")
    assert Lake.make(str(tmp_path / "lake.txt")).rows == ("SFF", "HFG")


def test_transition_probabilities_sum_to_one():
    dense = Lake.make("8x8", slippery=True, success_rate=0.7).transition_matrix()
    np.testing.assert_allclose(dense.sum(-1), 1)


def test_several_starts_are_equally_likely():
    lake = Lake.make("SFS/FFG")
    assert lake.starts.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("SFX/FFG", "row 1, column 3 is 'X'"),
        ("SFF/FG", "row 2 has 2 cells, row 1 has 3"),
        ("FFF/FFG", "no start"),
        ("SFF/FFF", "no goal"),
        ("SHF/HFG", "no goal can be reached"),
        ("SHS/HFG", "no goal can be reached"),
        ("5x5", "neither a preset"),
        ("no/such/file.txt", "nor a file that exists"),
        ("random:1:0", "random:SIZE:SEED"),
        ("random:eight:0", "random:SIZE:SEED"),
        ("", "map is empty"),
    ],
)
def test_bad_maps_are_refused_with_the_place(spec, message):
    with pytest.raises(ValueError, match=message):
        Lake.make(spec)


@pytest.mark.parametrize("rows", [["S", "F", "G"], ["SFG"], [["S", "F"], ["H", "G"]]])
def test_narrow_lakes_and_lists_of_letters(rows):
    lake = Lake.make(rows)
    assert lake.rows == tuple("".join(row) for row in rows)
    assert lake.next_cell.shape == (lake.shape[0] * lake.shape[1], 4, 1)


def test_map_files_that_are_no_text_are_refused_and_a_byte_order_mark_is_not(tmp_path):
    (tmp_path / "mark.txt").write_text("SFF\nHFG\n", encoding="utf-8-sig")
    assert Lake.make(str(tmp_path / "mark.txt")).rows == ("SFF", "HFG")
    (tmp_path / "noise.bin").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ValueError, match=r"noise.bin' is not a text file"):
        Lake.make(str(tmp_path / "noise.bin"))


def test_a_long_row_is_a_map_and_no_file_name():
    assert Lake.make("S" + "F" * 400 + "G").shape == (1, 402)


def test_bad_chances_and_rewards_are_refused():
    with pytest.raises(ValueError, match="success_rate"):
        Lake.make("4x4", slippery=True, success_rate=1.2)
    with pytest.raises(ValueError, match="rewards"):
        Lake.make("4x4", reward_schedule=(1.0, float("nan"), 0.0))


@pytest.mark.parametrize("slippery", [False, True])
def test_a_gymnasium_environment_is_a_lake_with_its_ice_rewards_and_limit(slippery):
    options = {"success_rate": 0.8} if slippery else {}
    environment = gym.make(
        "FrozenLake-v1", desc=["SFH", "FFG"], is_slippery=slippery, reward_schedule=(5, -1, -0.1), max_episode_steps=7,
        **options,
    )  # fmt: skip
    lake = Lake.make(environment)
    same = Lake.make(["SFH", "FFG"], slippery=slippery, reward_schedule=(5, -1, -0.1), max_episode_steps=7, **options)
    assert (lake.rows, lake.slippery, lake.max_episode_steps) == (same.rows, slippery, 7)
    np.testing.assert_array_equal(lake.next_cell, same.next_cell)
    np.testing.assert_allclose(lake.probability, same.probability, rtol=1e-15)
    np.testing.assert_array_equal(lake.reward, same.reward)


def test_a_desc_of_gymnasium_is_a_map():
    environment = gym.make("FrozenLake-v1", map_name="4x4")
    assert Lake.make(environment.unwrapped.desc).rows == Lake.make("4x4").rows
    assert Lake.make([b"SF", "FG", ["F", b"F"]]).rows == ("SF", "FG", "FF")


@pytest.mark.parametrize("other", [3, None, ["SFG", 4], gym.spec("FrozenLake-v1")])
def test_an_object_of_another_type_is_no_map(other):
    with pytest.raises(ValueError, match="map must be rows such as SFFF/FHFG"):
        Lake.make(other)


def test_an_environment_that_is_no_lake_is_refused():
    with pytest.raises(ValueError, match="only Gymnasium's FrozenLake"):
        Lake.make(gym.make("CliffWalking-v1"))
    environment = gym.make("FrozenLake-v1", desc=["SFG"], is_slippery=False)
    with pytest.raises(ValueError, match="leave them out"):
        Lake.make(environment, slippery=True)
    environment.unwrapped.P[1][2] = [(1.0, 0, 0.0, False)]
    with pytest.raises(ValueError, match="table P was changed"):
        Lake.make(environment)
