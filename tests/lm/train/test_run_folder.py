"""What a run may remove and go on from: nothing that it reads, and nothing of another run or another model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainingArguments

from lm.train import __main__ as train
from lm.train import inputs, run_folder
from lm.train.settings import TrainSettings
from tests.calling import exit_code


@pytest.fixture
def out(tmp_path, saved_model):
    """The folder of a finished run, whose model is `saved_model`."""
    folder = tmp_path / "out"
    settings = TrainSettings(model=str(saved_model), output_dir=str(folder))
    run_folder.prepare(folder, settings)
    shutil.copytree(saved_model, folder / "model")
    return folder


def settings_on(folder, model, **options):
    return TrainSettings(model=str(model), output_dir=str(folder), **options)


def adapter_on(base, folder):
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_overwrite_removes_nothing_that_the_run_reads(out, saved_model, tmp_path):
    files = {"chat_template": out / "model" / "mine.jinja", "first_predictions": out / "checkpoint-3"}
    (out / "checkpoint-3").mkdir()
    for file in (files["chat_template"], out / "model" / "rows.jsonl"):
        file.write_text("")
    (tmp_path / "link").symlink_to(out / "model")
    cases = [
        {"model": model} for model in (out / "model", tmp_path / "link", adapter_on(out / "model", tmp_path / "a"))
    ]
    cases += [{"model": saved_model, name: str(file)} for name, file in files.items()]
    cases += [
        {"model": saved_model, name: (f"{out / 'model' / 'rows.jsonl'}:5*2",)} for name in ("dataset", "eval_dataset")
    ]
    before = sorted(out.rglob("*"))
    for case in cases:
        settings = settings_on(out, overwrite=True, **case)
        with pytest.raises(ValueError, match=r"overwrite would remove .* needs: take another output_dir"):
            run_folder.prepare(out, settings)
        assert sorted(out.rglob("*")) == before
    run_folder.prepare(out, settings_on(out, saved_model, overwrite=True))
    assert not (out / "model").exists()


@pytest.mark.parametrize("adapter", [False, True])
def test_a_run_goes_on_with_the_model_that_it_began_with(adapter, saved_model, tmp_path):
    folder, model = tmp_path / "out", adapter_on(saved_model, tmp_path / "adapter") if adapter else saved_model
    run_folder.prepare(folder, settings_on(folder, model))
    resumed = settings_on(folder, model, resume=True)
    assert run_folder.check(folder, resumed) is not None
    weights = load_file(saved_model / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, saved_model / "model.safetensors")
    with pytest.raises(ValueError, match=r"resume: the files of model .* are not those that the run in .* began with"):
        run_folder.check(folder, resumed)
    described = json.loads((folder / "settings.json").read_text())
    del described["model_sha256"]  # a run of the last version
    (folder / "settings.json").write_text(json.dumps(described))
    assert run_folder.check(folder, resumed) is not None


def test_a_run_that_was_stopped_before_it_wrote_its_config_writes_it(saved_model, tmp_path):
    folder = tmp_path / "out"
    run_folder.prepare(folder, settings_on(folder, saved_model))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").unlink()
    assert run_folder.prepare(folder, settings_on(folder, saved_model, resume=True)) is None
    assert (folder / "config.yaml").read_text() == config


def test_a_run_goes_where_its_checkpoints_go(tmp_path, monkeypatch):
    """transformers takes ~ for the home, which a YAML file or quotes keep from the shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("~/runs/a", "~no_such_user/a", "runs/a"):
        folder = run_folder.folder_of(TrainSettings(output_dir=name))
        assert str(folder) == TrainingArguments(output_dir=str(folder)).output_dir
        assert folder == Path(name.replace("~/", f"{tmp_path}/"))


def test_settings_name_no_local_path(saved_model, tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    settings = settings_on(tmp_path / "out", saved_model, prediction="lagged", first_predictions=str(checkpoint))
    described = run_folder.describe(settings)["settings"]
    assert described["first_predictions"] == "checkpoint-5"
    assert str(tmp_path) not in json.dumps(described)


def test_large_weights_are_known_by_their_blocks(saved_model, monkeypatch):
    monkeypatch.setattr(inputs, "_READ_WHOLE", 1000)
    monkeypatch.setattr(inputs, "_BLOCK", 64)
    digests = {inputs.digest_of_model(str(saved_model))}
    file = saved_model / "model.safetensors"
    weights = load_file(file)
    for change in (1e-3, torch.zeros(()), 1.0):
        save_file({name: value + change for name, value in weights.items()}, file)
        digests.add(inputs.digest_of_model(str(saved_model)))
    assert len(digests) >= 3
    assert inputs.digest_of_model("tiny-lake") is None


def test_an_empty_folder_is_no_model(out, saved_model):
    resumed = settings_on(out, saved_model, resume=True)
    assert run_folder.is_finished(out, resumed)
    shutil.rmtree(out / "model")
    (out / "model").mkdir()
    assert not run_folder.is_finished(out, resumed)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda out: (out / "model").write_text("mine"),
            "out/model' is where the model goes, and holds something else",
        ),
        (lambda out: [(out / "model").mkdir(), (out / "model" / "notes.txt").write_text("")], "holds something else"),
        (lambda out: (out / "checkpoint-7").symlink_to("nowhere"), "checkpoint-7' is no folder of a checkpoint"),
        (lambda out: (out / "checkpoint-7").write_text("mine"), "checkpoint-7' is no folder of a checkpoint"),
        (lambda out: (out / "settings.json").write_text("null"), "no run to go on from, as its settings.json is none"),
        (lambda out: (out / "settings.json").unlink(), "no run to go on from, as its settings.json is not there"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said_at_once(spoil, message, out, saved_model, monkeypatch, capsys):
    shutil.rmtree(out / "model")
    spoil(out)
    assert exit_code(train.main, monkeypatch, ["--model", saved_model, "--output-dir", out, "--resume"]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("files", "folders", "whole"),
    [
        (["optimizer.pt", "scheduler.pt", "rng_state.pth"], [], True),
        (["scheduler.pt", "rng_state_0.pth", "rng_state_1.pth"], ["optimizer_0"], True),
        (["optimizer.bin", "scheduler.pt", "rng_state_0.pth"], [], True),
        (["rng_state_0.pth"], ["global_step2"], True),
        (["scheduler.pt", "rng_state_0.pth"], ["pytorch_model_fsdp_0"], False),
        (["optimizer.pt", "rng_state.pth"], [], False),
        (["optimizer.pt", "scheduler.pt"], [], False),
    ],
)
def test_a_checkpoint_has_optimiser_schedule_and_random_numbers(files, folders, whole, tmp_path):
    for file in files:
        (tmp_path / "checkpoint-2").mkdir(exist_ok=True)
        (tmp_path / "checkpoint-2" / file).write_text("")
    for folder in folders:
        (tmp_path / "checkpoint-2" / folder).mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2}')
    assert run_folder._has_parts(tmp_path / "checkpoint-2") is whole


@pytest.mark.parametrize(
    ("limit", "best", "kept"), [(2, None, {2, 3}), (3, None, {1, 2, 3}), (2, 1, {1, 3}), (None, None, {1, 2, 3})]
)
def test_a_stop_while_old_checkpoints_are_removed_leaves_no_half_of_one(limit, best, kept, tmp_path):
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        named = str(tmp_path / f"checkpoint-{best}") if best else None
        state = json.dumps({"global_step": step, "best_model_checkpoint": named})
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-4").mkdir()

    def stopped():
        with run_folder.no_half_checkpoint(tmp_path, limit):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in kept}
