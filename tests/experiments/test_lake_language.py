"""The comparison chooses on development maps, and gives every method the same."""

import numpy as np
import pandas as pd
import pytest

from common.models import load_trained
from experiments import lake_language as module
from experiments.lake_language import (
    CHOSEN_BY,
    COMPARED,
    OTHERS,
    TEST,
    VARIANTS,
    Candidate,
    Scale,
    compare,
    settings_of,
    table,
)
from lm.lake.maps import random_maps
from lm.lake.scores import score_model

TINY = Scale((1,), (11, 12), learning_rates=1, base_updates=2, updates=2, examples=8, maps=4, other_maps=3)


def test_every_method_has_as_many_settings_to_choose_from():
    for rates in (1, 4):
        names = {method: [trial.name for trial in settings_of(method, rates)] for method in COMPARED}
        assert {len(set(found)) for found in names.values()} == {2 * rates}
    assert COMPARED == ("sft", "ift", "dft", "dpo", "ipo", "orpo", "kto", "simpo")


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that are made up, each with a note of what was asked for: a score depends on settings and seed."""
    asked = []

    def made_up(name, seed, split):
        sets = [TEST, *(OTHERS if split == "test" else ())]
        worth = np.random.default_rng([sum(map(ord, name)), seed]).random()
        rows = [{"set": of, "map": i, "seed": seed, "settings": name, "success": worth > 0.5, "success_sampled": worth,
                 "state_policy_mse": 1 - worth, "state_value_gap": worth} for of in sets for i in range(3)]  # fmt: skip
        return pd.DataFrame(rows)

    def train(trial, bases, seed, scale, split):
        asked.append((trial.name, seed, split))
        return made_up(trial.name, seed, split)

    monkeypatch.setattr(module, "QUICK", TINY)
    monkeypatch.setattr(module, "_train_and_score", train)
    monkeypatch.setattr(module, "base_folder", lambda bases, seed, updates, examples: bases)
    monkeypatch.setattr(
        module, "_score_base", lambda bases, seed, scale, split: made_up("base", seed, split).drop(columns="settings")
    )
    return asked


def test_settings_are_chosen_on_development_seeds_alone(tmp_path, trainings):
    scores = compare(tmp_path / "runs", True, 1)
    development = [(name, seed) for name, seed, split in trainings if split == "dev"]
    held_out = [(name, seed) for name, seed, split in trainings if split == "test"]
    assert {seed for _, seed in development} == {1}
    assert {seed for _, seed in held_out} == {11, 12}
    assert len(held_out) == len(set(held_out))  # what two protocols choose is trained once
    worth = {name: np.random.default_rng([sum(map(ord, name)), 1]).random() for name, _ in development}
    by_mse = scores[scores["protocol"] == "tuned (policies)"].groupby("trial")["settings"].first()
    for method in COMPARED:
        candidates = [trial.name for trial in settings_of(method, 1)]
        assert by_mse[method] == max(candidates, key=lambda name: worth[name])
    assert set(by_mse.index) == {"base", *COMPARED, *VARIANTS}
    assert "lam=0 " in f"{by_mse['ift:lam=0']} "


def test_it_goes_on_where_it_was(tmp_path, trainings, monkeypatch):
    train = module._train_and_score

    def stopping(*arguments):
        if len(trainings) == 20:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(module, "_train_and_score", stopping)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "runs", True, 1)
    monkeypatch.setattr(module, "_train_and_score", train)
    scores = compare(tmp_path / "runs", True, 1)
    assert len(trainings) == len(set(trainings))
    count = len(trainings)
    pd.testing.assert_frame_equal(compare(tmp_path / "runs", True, 1), scores)
    assert len(trainings) == count
    with pytest.raises(ValueError, match="results of another scale"):
        compare(tmp_path / "runs", False, 1)


def test_the_table_has_a_row_per_protocol_and_trial(tmp_path, trainings):
    scores = compare(tmp_path / "runs", True, 1)
    lines = table(scores).splitlines()
    assert len(lines) == 2 + len(CHOSEN_BY) * (1 + len(COMPARED) + len(VARIANTS))
    base = scores[(scores["trial"] == "base") & (scores["set"] == TEST) & (scores["protocol"] == "tuned (value)")]
    by_seed = 1000 * base.groupby("seed")["state_policy_mse"].mean()
    assert f"{by_seed.mean():.1f} ± {by_seed.sem():.1f}" in lines[2]


def test_a_training_is_the_commands_own_and_is_scored_on_unseen_maps(tmp_path):
    scale = Scale((1,), (2,), learning_rates=1, base_updates=2, updates=2, examples=8, maps=4, other_maps=3)
    trial = Candidate("dpo", {"learning_rate": 1e-3, "beta": 0.5})
    rows = module._train_and_score(trial, tmp_path, 1, scale, "test")
    assert set(rows["set"]) == {TEST, *OTHERS}
    again = module._train_and_score(trial, tmp_path, 1, scale, "dev")
    assert set(again["set"]) == {TEST}
    pd.testing.assert_frame_equal(module._train_and_score(trial, tmp_path, 1, scale, "dev"), again)
    base = module._score_base(tmp_path, 1, scale, "dev")
    assert (base["state_policy_mse"] != again["state_policy_mse"]).any()
    letters = random_maps(4, "dev", np.random.default_rng([7, 0]))
    slow = score_model(*load_trained(str(tmp_path / "seed-1")), letters)
    np.testing.assert_allclose(slow["state_policy_mse"], base["state_policy_mse"])


@pytest.mark.slow
def test_the_whole_of_it_runs_with_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUICK", TINY)
    scores = compare(tmp_path / "runs", True, 1)
    assert set(scores["trial"]) == {"base", *COMPARED, *VARIANTS}
    assert scores.groupby(["protocol", "trial", "set"])["seed"].nunique().eq(2).all()
