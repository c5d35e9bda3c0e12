"""Trainings from the base models happen beside these: the next run clears them after a kill."""

import pytest

from experiments import lagged, lake_language, lake_optimisers


@pytest.mark.parametrize(
    ("module", "train"),
    [
        (lagged, lambda bases: lagged._train_and_score("fresh", 0.2, bases, 1, lagged.QUICK)),
        (lake_language, lambda bases: lake_language._train_and_score(
            lake_language.Candidate("sft", {}), bases, 1, lake_language.QUICK, "dev")),
        (lake_optimisers, lambda bases: lake_optimisers._train(
            bases, 1, lake_optimisers.QUICK, "sgd", 0.003, "sft")),
    ],
)  # fmt: skip
def test_a_training_is_among_the_base_models(module, train, tmp_path, monkeypatch):
    killed = []

    def begin(settings, console):
        killed.append(settings.output_dir)
        raise KeyboardInterrupt

    monkeypatch.setattr("lm.train.training.train", begin)
    monkeypatch.setattr(module, "base_folder", lambda bases, *of: bases)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert killed[0].startswith(f"{tmp_path}/.training.")
    assert not any(tmp_path.iterdir())
