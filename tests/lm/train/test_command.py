"""python -m lm.train as a user meets it: what it writes, what it refuses, what a kill leaves behind."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lm.train import __main__ as train
from lm.train.command_line import parse
from lm.train.trainable import trainable
from tests.calling import exit_code

ROOT = Path(__file__).parents[3]


@pytest.fixture
def command(saved_model, jsonl, tmp_path):
    return ["--model", str(saved_model), "--dataset", str(jsonl), "--output-dir", str(tmp_path / "out"),
            "--max-length", "64", "--max-prompt-length", "32", "--batch-size", "8", "--learning-rate", "1e-3",
            "--logging-steps", "1", "--chat-template", "none", "--max-steps", "12"]  # fmt: skip


@pytest.fixture
def pairs(sums, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "7"} for row in sums]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def on(command, dataset):
    """The same command on other data: a second --dataset would be mixed with the first."""
    place = command.index("--dataset") + 1
    return [*command[:place], str(dataset), *command[place + 1 :]]


def call(monkeypatch, arguments):
    return exit_code(train.main, monkeypatch, arguments)


def logged(folder, name):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row and "train_runtime" not in row]


@pytest.mark.parametrize("method", trainable())
@pytest.mark.parametrize("lora", [False, True])
def test_every_method_trains_from_pairs(method, lora, command, pairs, tmp_path, monkeypatch, capsys):
    arguments = [*on(command, pairs), "--method", method, "--eval-dataset", f"{pairs}:16", "--max-steps", "3"]
    arguments += ["--lora-r", "4"] if lora else []
    assert call(monkeypatch, arguments) == 0
    out = capsys.readouterr().out
    assert "held-out loss" in out
    assert "training loss" in out
    written = {path.name for path in (tmp_path / "out" / "model").iterdir()}
    assert ("adapter_model.safetensors" if lora else "model.safetensors") in written
    assert "tokenizer.json" in written
    assert not [name for name in written if name.endswith((".bin", ".pt"))]
    if lora:
        return
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").state_dict()
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "model").state_dict()
    assert any(not torch.equal(kept[name], start[name]) for name in start)


def test_what_is_written_holds_no_path_but_for_the_config_that_repeats_the_run(command, tmp_path, monkeypatch):
    assert call(monkeypatch, [*command, "--max-steps", "1"]) == 0
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert len(files) > 10
    for file in files:
        assert str(tmp_path).encode() not in file.read_bytes(), file
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["settings"]["dataset"][0].startswith("sums.jsonl sha256 ")


def test_checkpoints_hold_no_pickled_arguments(command, tmp_path, monkeypatch):
    assert call(monkeypatch, [*command, "--max-steps", "2", "--save-steps", "1"]) == 0
    names = {path.name for path in (tmp_path / "out" / "checkpoint-1").iterdir()}
    assert {"model.safetensors", "trainer_state.json"} <= names
    assert "training_args.bin" not in names


def test_what_the_device_lacks_is_said(command, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    assert call(monkeypatch, [*command, "--max-steps", "1", "--dtype", "bfloat16"]) == 0
    out = capsys.readouterr().out
    assert "dtype bfloat16 is not supported on this device: training in float32" in out
    assert "GiB are needed" in out


@pytest.mark.parametrize("lora", [[], ["--lora-r", "4"]])
def test_the_models_card_says_what_it_is_and_how_to_load_it(lora, command, jsonl, tmp_path, monkeypatch):
    held_out = ["--eval-dataset", f"{jsonl}:16"]
    assert call(monkeypatch, [*command, *held_out, *lora, "--lam", "0.35"]) == 0
    folder = tmp_path / "out" / "model"
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == f"{tmp_path.name}/model"
    assert card.data.library_name == ("peft" if lora else "transformers")
    assert "lam: 0.35" in card.text
    counts = r"64 \| [\d,]+ \| [\d,]+ \| 0 \| 0"
    assert re.search(rf"\| train \| sums.jsonl sha256 [0-9a-f]{{16}} \| {counts} \| `[0-9a-f]{{16}}` \|", card.text)
    assert "| held out | sums.jsonl:16 sha256" in card.text
    assert re.search(r"Loss at update 1: \d\.\d{4}, at update 12: \d\.\d{4}\.", card.text)
    assert re.search(r"Loss on the held-out data: \d\.\d{4} before, \d\.\d{4} after\.", card.text)
    assert (folder / "loss.png").stat().st_size > 1000
    code = re.search(r"```python\n(.*?)```", card.text, re.S)[1].replace("FOLDER", str(folder))
    loaded: dict = {}
    exec(code, loaded)
    assert loaded["model"].num_parameters() > 1000


def test_other_settings_go_to_other_folders():
    from lm.train.run_folder import folder_of

    folders = {folder_of(parse(["--lam", lam])) for lam in ("0.1", "0.2", "0.2")}
    assert len(folders) == 2


@pytest.mark.slow
def test_alone_it_trains_the_lakes_model_and_plays(tmp_path):
    """With an empty cache, so the base model is trained as well; under three minutes."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    begin = time.monotonic()
    command = [sys.executable, "-m", "lm.train", "--output-dir", str(tmp_path / "out")]
    out = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    print(out, f"{time.monotonic() - begin:.0f} s")
    before, after = (float(re.search(rf"^ {name} +([\d.]+)%", out, re.M)[1]) for name in ("base", "ift"))
    assert after > before > 10
    before, after = map(float, re.search(r"held-out loss ([\d.]+) → ([\d.]+)", out).groups())
    assert after < before


def test_a_recipe_is_read_and_flags_win(tmp_path):
    recipe, more = tmp_path / "recipe.yaml", tmp_path / "more.yaml"
    recipe.write_text("method: dpo\nbeta: 0.3\nlearning_rate: 5e-7\ndataset: [lake:10, lake:20]\nlora_r: 8\n")
    more.write_text("lora_r: 4\nlearning_rate: null\n")
    settings = parse(["--config", str(recipe), "--beta", "0.4"])
    assert (settings.method, settings.beta, settings.learning_rate) == ("dpo", 0.4, 5e-7)
    assert settings.dataset == ("lake:10", "lake:20")
    both = parse(["--config", str(recipe), f"--config={more}"])
    assert (both.lora_r, both.learning_rate, both.beta) == (4, None, 0.3)


@pytest.mark.parametrize("recipe", sorted((ROOT / "lm" / "recipes").glob("mistral*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("on_top", [None, "lora.yaml", "qlora.yaml"])
def test_every_recipe_has_a_dry_run(recipe, on_top, monkeypatch, capsys):
    monkeypatch.setattr("common.models.offline", lambda: True)
    arguments = ["--config", recipe, "--dry-run", "--devices", "8"]
    arguments += ["--config", recipe.with_name(on_top)] if on_top else []
    assert call(monkeypatch, arguments) == 0
    out = capsys.readouterr().out
    assert "7.24 B parameters" in out
    for word in ("tokens", "memory", "time", "updates"):
        assert word in out


def test_lora_recipes_fit_a_card_of_24_gb():
    from lm.train.estimate import estimate, without_weights
    from lm.train.models import load_config

    for recipe in (ROOT / "lm" / "recipes").glob("mistral*.yaml"):
        for on_top in ("lora.yaml", "qlora.yaml"):
            settings = parse(["--config", str(recipe), "--config", str(recipe.with_name(on_top))])
            model = without_weights(load_config(settings)[0], False)
            found = estimate(settings, model, 1000, bytes_per_weight=2)
            assert found.replicated < 22 * 2**30, recipe.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "iff"], "method 'iff' is unknown: did you mean 'ift'?"),
        (["--lam", "1.5"], "lam must be in [0, 1], got 1.5"),
        (["--lora-r", "4", "--lora-target-modules", "mlp_up"], "lora_target_modules 'mlp_up' is no layer of"),
        (["--dry-run", "--lora-r", "4", "--lora-target-modules", "mlp_up"], "'mlp_up' names no linear layer"),
        (["--gamma", "-1"], "gamma must be in [0, 1], got -1.0"),
        (["--method", "dpo", "--beta", "0"], "beta must be a finite number above 0"),
        (["--model", "nowhere/at-all"], "model 'nowhere/at-all' could not be loaded"),
        (["--model", "nothing.gguf"], "model 'nothing.gguf': there is no such file"),
        (["--dataset", "nowhere.jsonl"], "dataset 'nowhere.jsonl': there is no such file"),
        (["--dataset", "lake:x"], "dataset 'lake:x' must be NAME, NAME:ROWS"),
        (["--model", "./nowhere"], "model './nowhere': there is no such folder"),
        (
            ["--dry-run", "--devices", "3"],
            "batch_size must be a multiple of per_device_train_batch_size × devices = 24",
        ),
        (["--method", "dpo"], "the method needs pairs"),
        (["--batch-size", "12"], "batch_size must be a multiple of per_device_train_batch_size × devices = 8, got 12"),
        (["--trainer", "lerning_rate=1"], "SFTConfig has no option 'lerning_rate'"),
        (["--trainer", "bf16"], "trainer must be NAME=VALUE, got 'bf16'"),
        (["--trainer", "run_name=[a"], "the value of 'run_name=[a' is not YAML"),
        (["--trainer", "seed=1"], "'seed' has an option of its own, --seed"),
        (["--trainer", "hub_token=secret"], "'hub_token' would be kept in files: set the environment variable"),
        (["--trainer", "loss_type=dft"], "'loss_type' follows from the command's own options"),
        (["--prediction", "lagged", "--packing"], "prediction='lagged' needs one example per row"),
        (["--dataset", "lake@validation:10"], "dataset 'lake': it has the splits test, dev, train, not 'validation'"),
        (["--optim", "adamm"], "adamm"),
        (["--config", "nowhere.yaml"], "config 'nowhere.yaml' is not a file"),
        (["--config"], "config needs the name of a YAML file"),
        (["--max-prompt-length", "64"], "max_prompt_length must be at least 1 and below max_length 64, got 64"),
        (["--load-in-4bit"], "load_in_4bit must be off unless lora_r is above 0"),
        (["--chat-template", "nothing.jinja"], "chat_template 'nothing.jinja' must be"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    method = [] if "--method" in arguments or "--trainer" not in arguments else ["--method", "sft"]
    base = on(command, arguments[1]) if arguments[0] == "--dataset" else [*command, *arguments]
    assert call(monkeypatch, [*base, *method]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lamda: 0.2\n", "'lamda' is no option: did you mean 'lam'?"),
        ("- lam\n", "must hold 'name: value' lines"),
        ("lam: [0.2\n", "is not YAML"),
        ("lam: high\n", "lam must be a number, got 'high'"),
        ("batch_size: 1.5\n", "batch_size must be a whole number, got 1.5"),
        ("prediction: beam\n", "prediction must be one of greedy"),
        ("resume: maybe\n", "resume must be true or false, got 'maybe'"),
    ],
)
def test_bad_recipes_are_refused_by_key(text, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "recipe.yaml").write_text(text)
    assert call(monkeypatch, ["--config", tmp_path / "recipe.yaml"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"texts": "a"}], "the nearest layout is text, which needs text as well: try --columns text=texts"),
        ([], "bad.jsonl' is empty: it has no rows"),
        ("[]", "line 1 must be an object"),
        ([{"messages": [{"from": "human", "value": "hi"}]}], "columns are messages, read as messages"),
        ([{"messages": [{"speaker": "human", "value": "hi"}]}], "row 1: messages: a message must have 'role'"),
        ("not json", "line 1 is not JSON (Expecting value at character 1)"),
        ([{"chosen": "a", "rejected": "b"}], "row 1: a pair has no prompt: it needs prompt, chosen, rejected"),
        ([{"prompt": "1+1=", "completion": ""}], "no row has a prompt and an answer of the assistant"),
    ],
)
def test_data_that_cannot_be_used_is_refused(rows, message, command, tmp_path, monkeypatch, capsys):
    file = tmp_path / "bad.jsonl"
    file.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    assert call(monkeypatch, on(command, file)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_folders_are_not_written_over_unasked(command, tmp_path, monkeypatch, capsys):
    short = [*command, "--max-steps", "1"]
    assert call(monkeypatch, short) == 0
    assert call(monkeypatch, short) == 2
    assert "take --resume, --overwrite or another" in capsys.readouterr().err
    assert call(monkeypatch, [*short, "--lam", "0.3", "--resume"]) == 2
    assert "other settings (lam was 0.2, is 0.3)" in capsys.readouterr().err
    assert call(monkeypatch, [*short, "--lam", "0.3", "--overwrite"]) == 0
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("years of work")
    assert call(monkeypatch, [*short, "--output-dir", strange, "--overwrite"]) == 2
    (strange / "settings.json").write_text("{}")  # an editor's
    assert call(monkeypatch, [*short, "--output-dir", strange, "--overwrite"]) == 2
    assert call(monkeypatch, [*short, "--output-dir", strange, "--resume"]) == 2
    kept = ["notes.txt", "settings.toml", "runs/mine/notes.txt", "checkpoint-of-mine/notes.txt"]
    for name in (*kept, "runs/host/events.out.tfevents.1"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    assert call(monkeypatch, [*short, "--overwrite"]) == 0
    assert (strange / "thesis.tex").exists()
    assert all((tmp_path / "out" / name).exists() for name in kept)
    assert not (tmp_path / "out" / "runs" / "host").exists()


def start(command):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "lm.train", *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(command):
    process = start(command)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 0, error[-2000:]


def kill_after_checkpoint(command, folder, step, wait):
    process = start(command)
    limit = time.monotonic() + 600
    while not (folder / f"checkpoint-{step}").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def test_killed_and_resumed_it_ends_with_the_same_weights(command, tmp_path, monkeypatch):
    """The last checkpoint is cut short as well: the one before it is used. Only who is killed needs its own process."""
    arguments = [*command, "--save-steps", "3", "--prediction", "lagged", "--min-lam", "0.1", "--lam-jitter", "0.2"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert call(monkeypatch, [*arguments, "--output-dir", whole]) == 0
    kill_after_checkpoint(arguments, out, 9, wait=0.3)
    newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    cut = newest / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert call(monkeypatch, [*arguments, "--resume"]) == 0
    assert logged(out, "loss") == logged(whole, "loss")
    for name, value in weights(whole).items():
        assert torch.equal(weights(out)[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ["ift", "orpo"])
def test_killed_at_any_time_it_ends_with_the_same_weights(method, seed, command, pairs, tmp_path):
    generator = random.Random(seed)
    arguments = [*on(command, pairs), "--method", method, "--save-steps", "1", "--max-steps", "30"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    finish([*arguments, "--output-dir", str(whole)])
    for step in sorted(generator.sample(range(1, 30), 2)):
        kill_after_checkpoint([*arguments, "--resume"], out, step, wait=generator.random() * 0.2)
    finish([*arguments, "--resume"])
    for name, value in weights(whole).items():
        assert torch.equal(weights(out)[name], value), name
