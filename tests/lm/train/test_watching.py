"""What a run shows and keeps while it goes on, and what a stop, a resume or a repetition makes of it."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from lm.train import __main__ as train
from lm.train import progress
from lm.train.command_line import as_yaml, parse, parse_groups
from lm.train.seeds import losses_of, summarised
from lm.train.settings import TrainSettings
from tests.calling import exit_code


@pytest.fixture
def command(saved_model, jsonl, tmp_path):
    return ["--model", str(saved_model), "--dataset", str(jsonl), "--max-length", "64", "--batch-size", "8",
            "--learning-rate", "1e-2", "--logging-steps", "1", "--chat-template", "none", "--max-steps", "6",
            "--output-dir", str(tmp_path / "out")]  # fmt: skip


def call(monkeypatch, arguments):
    return exit_code(train.main, monkeypatch, arguments)


def rows_of(folder, name="log.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def held_out(folder):
    return [(row["step"], row["eval_loss"]) for row in rows_of(folder) if "eval_loss" in row]


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def cut_back(folder, step):
    """Make a finished run one that was killed after its checkpoint of that update."""
    shutil.rmtree(folder / "model")
    (folder / "log.jsonl").unlink()
    for checkpoint in folder.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_a_finished_run_stays_as_it_is_and_says_so(command, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, [*command, "--max-steps", "2", "--lr-scheduler-type", "constant"]) == 0
    before = contents(tmp_path / "out")
    again = [*command, "--max-steps", "2", "--lr-scheduler-type", "constant", "--resume"]
    assert call(monkeypatch, again) == 0
    assert "is finished: nothing is left to do, and nothing was changed" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before
    assert call(monkeypatch, [*again, "--lam", "0.4"]) == 2
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("length", [["--max-steps", "4"], ["--max-steps", "-1", "--num-train-epochs", "1.5"]])
def test_a_run_killed_after_its_last_checkpoint_trains_no_further(length, command, jsonl, tmp_path, monkeypatch):
    arguments = [*command, *length, "--lr-scheduler-type", "constant", "--save-steps", "2"]
    arguments += ["--eval-dataset", f"{jsonl}:8"]
    out = tmp_path / "out"
    assert call(monkeypatch, arguments) == 0
    log, model = rows_of(out), weights(out)
    last = max(int(path.name.split("-")[1]) for path in out.glob("checkpoint-*"))
    assert last == (4 if length[1] == "4" else 12)
    cut_back(out, last)
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert not (out / f"checkpoint-{last + 1}").exists()
    for name, value in model.items():
        assert torch.equal(weights(out)[name], value), name
    assert [row["loss"] for row in rows_of(out) if "loss" in row] == [row["loss"] for row in log if "loss" in row]
    assert held_out(out) == [(row["step"], row["eval_loss"]) for row in log if "eval_loss" in row]


def test_evaluations_are_shown_as_they_come_and_kept_over_a_resume(command, jsonl, tmp_path, monkeypatch, capsys):
    arguments = [*command, "--eval-dataset", f"{jsonl}:8", "--eval-steps", "2", "--eval-answers", "2",
                 "--save-steps", "2"]  # fmt: skip
    out = tmp_path / "out"
    assert call(monkeypatch, arguments) == 0
    told = capsys.readouterr().out
    losses, tokens = held_out(out), [row["num_tokens"] for row in rows_of(out) if "loss" in row]
    assert [step for step, _ in losses] == [0, 2, 4, 6, 6]
    for step, loss in losses[:4]:
        assert f"update {step}/6 held-out loss {loss:.4f}" in told
    assert f"held-out loss {losses[0][1]:.4f} → {losses[-1][1]:.4f}" in told
    answers = rows_of(out, "answers.jsonl")
    assert [row["step"] for row in answers] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert answers[0]["prompt"] == answers[2]["prompt"] != answers[1]["prompt"]
    for row in answers:
        assert f"update {row['step']}/6 asked {row['prompt']!r} answers: {row['answer']}" in told
    cut_back(out, 4)
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert held_out(out) == losses
    assert [row["num_tokens"] for row in rows_of(out) if "loss" in row] == tokens == sorted(set(tokens))
    assert rows_of(out, "answers.jsonl") == answers
    assert f"held-out loss {losses[0][1]:.4f} → " in capsys.readouterr().out
    assert f"{losses[0][1]:.4f} before" in (out / "README.md").read_text()


def test_a_long_prompt_is_shown_by_its_beginning_and_its_end():
    short = progress._shortened("Add\n 1 and 2." + " again" * 20 + "\nThe end.")
    assert short == "Add 1 and 2. again again aga … n again again again The end."
    assert progress._shortened("1+1=") == "1+1="


def test_the_best_model_is_kept_and_a_hopeless_training_stops(command, jsonl, tmp_path, monkeypatch):
    arguments = [*command, "--eval-dataset", f"{jsonl}:8", "--eval-steps", "1", "--keep", "best", "--max-steps", "30",
                 "--early-stopping", "2", "--learning-rate", "0.3", "--lr-scheduler-type", "constant",
                 "--warmup-steps", "0"]  # fmt: skip
    assert call(monkeypatch, arguments) == 0
    losses = held_out(tmp_path / "out")
    best = min(loss for step, loss in losses[1:-1])
    assert losses[-2][0] < 30
    assert losses[-1][1] == pytest.approx(best, rel=1e-5)
    assert losses[-2][1] > best


def test_a_runs_config_repeats_it(command, tmp_path, monkeypatch):
    out, again = tmp_path / "out", tmp_path / "again"
    assert call(monkeypatch, [*command, "--max-steps", "2", "--lam", "0.35", "--trainer", "adam_beta2=0.9"]) == 0
    assert call(monkeypatch, ["--config", out / "config.yaml", "--output-dir", again]) == 0
    assert [row["loss"] for row in rows_of(again) if "loss" in row] == [r["loss"] for r in rows_of(out) if "loss" in r]
    assert (again / "config.yaml").read_text() == (out / "config.yaml").read_text()
    card = (out / "README.md").read_text()
    assert "(model/loss.png)" in card
    assert 'from_pretrained("model")' in card


def test_print_config_prints_what_config_reads(tmp_path, monkeypatch, capsys):
    given = ["--lam", "0.3", "--dataset", "lake:5", "lake:6", "--learning-rate", "5e-7", "--eval_steps", "3"]
    assert call(monkeypatch, [*given, "--print-config"]) == 0
    file = tmp_path / "config.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse(["--config", str(file)]) == parse(given)
    assert parse(["--config", str(file), "--seeds", "3", "4"]).seeds == (3, 4)
    file.write_text(as_yaml(TrainSettings(seeds=(0, 1))))
    assert parse(["--config", str(file)]).seeds == (0, 1)
    assert parse_groups([]).files.print_config is False


def test_help_lists_config_and_options_may_be_spelled_with_underscores(monkeypatch, capsys):
    assert call(monkeypatch, ["--help"]) == 0
    told = capsys.readouterr().out
    assert "--config" in told
    assert "--eval-steps" in told
    assert parse(["--max_length", "256", "--eval_dataset", "lake:3"]).eval_dataset == ("lake:3",)


def test_options_that_take_several_may_be_given_again():
    settings = parse(["--dataset", "lake:5", "--lam", "0.1", "--dataset", "lake:6", "lake:7", "--trainer", "a=1",
                      "--trainer=b=2"])  # fmt: skip
    assert settings.dataset == ("lake:5", "lake:6", "lake:7")
    assert settings.trainer == ("a=1", "b=2")


def test_max_length_alone_is_enough():
    assert (parse(["--max-length", "256"]).prompt_limit, TrainSettings().prompt_limit) == (128, 512)
    assert parse(["--max-length", "256", "--max-prompt-length", "200"]).prompt_limit == 200


def test_overwrite_leaves_what_is_not_ours_under_runs(command, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call(monkeypatch, [*command, "--max-steps", "1"]) == 0
    (out / "runs" / "mine").mkdir(parents=True)
    (out / "runs" / "mine" / "notes.txt").write_text("mine")
    (out / "runs" / "Nov01").mkdir()
    (out / "runs" / "Nov01" / "events.out.tfevents.1").write_text("old")
    assert call(monkeypatch, [*command, "--max-steps", "1", "--overwrite"]) == 0
    assert (out / "runs" / "mine" / "notes.txt").exists()
    assert not (out / "runs" / "Nov01").exists()


def test_models_of_two_runs_are_two_models(saved_model, tmp_path):
    from lm.train.run_folder import describe, folder_of

    settings = []
    for name in ("sft", "dpo"):
        shutil.copytree(saved_model, tmp_path / name / "model")
        settings.append(TrainSettings(model=str(tmp_path / name / "model")))
    assert [describe(each)["settings"]["model"] for each in settings] == ["sft/model", "dpo/model"]
    assert folder_of(settings[0]) != folder_of(settings[1])


def test_a_checkpoint_of_a_strange_name_is_none(tmp_path):
    from lm.train.run_folder import newest_whole_checkpoint

    (tmp_path / "checkpoint-²").mkdir()
    assert newest_whole_checkpoint(tmp_path) is None
    assert (tmp_path / "checkpoint-²").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.json", '{"vocab'), ("trainer_state.json", "[]"), ("trainer_state.json", '{"log_history": "x"}'),
     ("trainer_state.json", '{"global_step": null}'), ("trainer_state.json", '{"global_step": 1}'),
     ("optimizer.pt", None), ("scheduler.pt", None), ("rng_state.pth", None)],
)  # fmt: skip
def test_a_spoiled_checkpoint_is_none(name, text, tmp_path):
    from safetensors.torch import save_file
    from transformers import TrainerState

    from lm.train.run_folder import newest_whole_checkpoint

    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        for part in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            torch.save({}, folder / part)
        state = TrainerState(log_history=[{"loss": 1.0}], epoch=0.5, global_step=step)
        state.save_to_json(str(folder / "trainer_state.json"))
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-2"
    if text is None:
        (tmp_path / "checkpoint-2" / name).unlink()
    else:
        (tmp_path / "checkpoint-2" / name).write_text(text)
    assert newest_whole_checkpoint(tmp_path).name == "checkpoint-1"


def test_a_full_disk_leaves_no_half_checkpoint(command, tmp_path, monkeypatch, capsys):
    from transformers import Trainer

    save = Trainer._save_optimizer_and_scheduler

    def full(trainer, folder):
        if trainer.state.global_step == 2:
            raise OSError(28, "No space left on device")
        save(trainer, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        assert call(monkeypatch, [*command, "--max-steps", "3", "--save-steps", "1"]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-1"]
    assert call(monkeypatch, [*command, "--max-steps", "3", "--save-steps", "1", "--resume"]) == 0


def test_a_checkpoint_that_looks_whole_and_is_not_is_named(command, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, [*command, "--max-steps", "2", "--save-steps", "1"]) == 0
    cut_back(tmp_path / "out", 1)
    torch.save({"state": 3}, tmp_path / "out" / "checkpoint-1" / "optimizer.pt")
    assert call(monkeypatch, [*command, "--max-steps", "2", "--save-steps", "1", "--resume"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line.lower()]
    assert "checkpoint-1' cannot be gone on from (" in line
    assert "delete it" in line


def test_seeds_end_in_a_table_of_mean_and_interval(command, jsonl, tmp_path, monkeypatch, capsys):
    arguments = [*command, "--max-steps", "1", "--eval-dataset", f"{jsonl}:8", "--seeds", "0", "1"]
    assert call(monkeypatch, arguments) == 0
    out = tmp_path / "out"
    told = json.loads((out / "seeds.json").read_text())
    before, after = ([held_out(out / f"seed-{seed}")[place][1] for seed in (0, 1)] for place in (0, -1))
    assert before[0] == before[1]  # the same rows in the same batches
    assert [row["after"] for row in told["runs"]] == after
    assert told["summary"]["after"]["mean"] == pytest.approx(sum(after) / 2)
    assert "±" in capsys.readouterr().out
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert capsys.readouterr().out.count("is finished") == 2


def test_the_interval_is_students():
    rows = [{"seed": i, "after": value} for i, value in enumerate((1.0, 2.0, 3.0))]
    assert summarised(rows)["after"]["half_interval"] == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert "half_interval" not in summarised(rows[:1])["after"]


def test_cards_show_names_as_they_are():
    from lm.train.model_card import _plain

    assert _plain("<img src=x>|a_b\n# c") == r"&lt;img src=x&gt;\|a\_b # c"


@pytest.mark.parametrize("spoiled", ["3", "{}", '{"step": "x"}', "["])
def test_spoiled_answers_are_named_where_a_run_goes_on(spoiled, command, jsonl, tmp_path, monkeypatch, capsys):
    arguments = [*command, "--eval-dataset", f"{jsonl}:8", "--eval-steps", "2", "--eval-answers", "1",
                 "--max-steps", "2", "--save-steps", "2"]  # fmt: skip
    assert call(monkeypatch, arguments) == 0
    shutil.rmtree(tmp_path / "out" / "model")
    (tmp_path / "out" / "answers.jsonl").write_text(f"{spoiled}\n")
    assert call(monkeypatch, [*arguments, "--resume"]) == 2
    told = capsys.readouterr().err
    assert "answers.jsonl' cannot be read: delete it" in told
    assert "checkpoint" not in told


@pytest.mark.parametrize("spoiled", ["3", '{"loss": []}', '{"eval_loss": 1}', "["])
def test_a_log_that_was_spoiled_is_named(spoiled, tmp_path):
    (tmp_path / "log.jsonl").write_text(f"{spoiled}\n")
    with pytest.raises(ValueError, match=r"log\.jsonl' cannot be read: delete it"):
        losses_of(tmp_path)


def test_brackets_in_a_name_are_printed_as_they_stand(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [*command, "--max-steps", "2", "--save-steps", "1", "--output-dir", "out[/b]"]
    assert call(monkeypatch, [*arguments, "--dry-run"]) == 0
    assert call(monkeypatch, arguments) == 0
    assert "Written to out[/b]: model/" in capsys.readouterr().out
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert "The run in out[/b] is finished" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "out[/b]" / "model")
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert "Going on from out[/b]/checkpoint-2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        (["adapter_model.safetensors"], True),
        (["runs/notes.txt"], False),
        (["ref/adapter_model.safetensors"], False),
        (["pytorch_model_fsdp_0/__0_0.distcp"], True),
        (["global_step4/mp_rank_00_model_states.bin"], True),
        (["model.safetensors", "model.safetensors.index.json"], False),  # the index names a pickle
    ],
)
def test_a_checkpoint_has_weights_of_its_own(files, whole, tmp_path):
    from safetensors.torch import save_file
    from transformers import TrainerState

    from lm.train.run_folder import newest_whole_checkpoint

    for file in (tmp_path / "checkpoint-1" / name for name in files):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            save_file({"a": torch.zeros(2)}, file)
        else:
            file.write_text(json.dumps({"weight_map": {"a": "w.bin"}}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, tmp_path / "checkpoint-1" / name)
    TrainerState(global_step=1).save_to_json(str(tmp_path / "checkpoint-1" / "trainer_state.json"))
    assert (newest_whole_checkpoint(tmp_path) is not None) == whole
