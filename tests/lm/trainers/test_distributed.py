"""Two processes on CPU give what one gives: DDP through the command and accelerate, FSDP2 on the same forward."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import ift
from lm.train import __main__ as train
from lm.trainers.forward import Residual, add_residual_forward

ROOT = Path(__file__).parents[3]
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "lm/recipes/ddp.yaml"),
          "--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0")  # fmt: skip
WORKER = Path(__file__).with_name("fsdp2_worker.py")
COMMAND_WORKER = Path(__file__).with_name("fsdp2_command_worker.py")
DDP_WORKER = Path(__file__).with_name("ddp_command_worker.py")


def call(*command):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_ddp_processes_equal_one(saved_model, jsonl, tmp_path, monkeypatch):
    """12 updates of 8 are more than one epoch of 64: lagged predictions travel between the processes."""
    command = ["--model", str(saved_model), "--dataset", str(jsonl), "--max-length", "64", "--max-prompt-length", "32",
               "--batch-size", "8", "--learning-rate", "1e-3", "--logging-steps", "1", "--lam", "0.5",
               "--chat-template", "none", "--optim", "sgd"]  # fmt: skip
    trainings = {"lagged": ["--prediction", "lagged", "--max-steps", "12"], "greedy": ["--max-steps", "5"]}
    for name, options in trainings.items():
        monkeypatch.setattr(sys, "argv", ["train", *command, *options, "--output-dir", str(tmp_path / name)])
        train.main()
    halves = [[*command, *options, "--per-device-train-batch-size", "4", "--output-dir", str(tmp_path / f"{name}-two")]
              for name, options in trainings.items()]  # fmt: skip
    call(*TWO, str(DDP_WORKER), json.dumps(halves))
    for name in trainings:
        one, two = tmp_path / name, tmp_path / f"{name}-two"
        for column in ("loss", "prediction_accuracy", "num_tokens"):
            assert logged(one, column) == pytest.approx(logged(two, column), rel=1e-5, abs=1e-6), name
        weights = [load_file(folder / "model" / "model.safetensors") for folder in (one, two)]
        for tensor, value in weights[0].items():
            torch.testing.assert_close(weights[1][tensor], value, rtol=0, atol=1e-5)


def logged(folder, name):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row and "train_runtime" not in row]


@pytest.mark.slow
def test_two_fsdp2_processes_equal_one(saved_model, tmp_path):
    batches = {}
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        ids = torch.randint(3, 40, (8, 12), generator=generator)
        labels = ids.clone()
        labels[:, :5] = -100
        batches |= {f"{step}.input_ids": ids, f"{step}.labels": labels, f"{step}.attention_mask": torch.ones_like(ids)}
    save_file(batches, tmp_path / "batches.safetensors")
    call(
        *TWO, str(WORKER), str(saved_model), str(tmp_path / "batches.safetensors"), str(tmp_path / "two.safetensors"),
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(saved_model)
    add_residual_forward(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for step in range(5):
        batch = {name: batches[f"{step}.{name}"] for name in ("input_ids", "labels", "attention_mask")}
        outputs = model(**batch, residual=Residual(0.5))
        loss = ift.ift_loss(outputs.log_probs, outputs.label_mask, 0.95).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    found = load_file(tmp_path / "two.safetensors")
    start = AutoModelForCausalLM.from_pretrained(saved_model)
    assert (model.lm_head.weight - start.lm_head.weight).abs().max() > 0.01
    torch.testing.assert_close(found.pop("losses"), torch.stack(losses), rtol=0, atol=1e-5)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
def test_a_run_is_resumed_on_another_number_of_processes(first, saved_model, jsonl, tmp_path):
    """By two processes what one began, and the other way round: the losses and weights of the run without a stop.

    9 updates of 8 are more than one epoch of 64: the last takes predictions that the checkpoint holds.
    """
    out = tmp_path / "out"
    command = ["-m", "lm.train", "--model", str(saved_model), "--dataset", str(jsonl), "--max-length", "64",
               "--batch-size", "8", "--per-device-train-batch-size", "4", "--learning-rate", "1e-3", "--optim", "sgd",
               "--logging-steps", "1", "--chat-template", "none", "--max-steps", "9", "--save-steps", "3",
               "--eval-dataset", f"{jsonl}:8", "--eval-steps", "3", "--prediction", "lagged", "--lam", "0.5",
               "--output-dir", str(out)]  # fmt: skip
    starts = {1: [sys.executable], 2: LAUNCH}
    call(*starts[first], *command)
    columns = ("loss", "eval_loss", "num_tokens", "prediction_accuracy")
    log, expected = {name: logged(out, name) for name in columns}, load_file(out / "model" / "model.safetensors")
    for name in ("model", "checkpoint-9"):
        shutil.rmtree(out / name)
    call(*starts[3 - first], *command, "--resume")
    for name in columns:
        assert logged(out, name) == pytest.approx(log[name], rel=1e-5), name
    found = load_file(out / "model" / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--method", "ift"], ["--method", "sft", "--lora-r", "4"]])
def test_a_sharded_run_of_the_command_equals_a_whole_one(options, saved_model, jsonl, tmp_path):
    """Its losses, its model, a resume of it, and its checkpoint continued by one process."""
    command = ["--model", str(saved_model), "--dataset", str(jsonl), "--max-length", "64", "--batch-size", "8",
               "--learning-rate", "1e-3", "--logging-steps", "1", "--chat-template", "none", "--optim", "sgd",
               "--max-steps", "4", "--save-steps", "2", "--eval-dataset", f"{jsonl}:8", *options]  # fmt: skip
    one, two, moved = tmp_path / "one", tmp_path / "two", tmp_path / "moved"
    sharded = [*TWO, str(COMMAND_WORKER), *command, "--per-device-train-batch-size", "4"]
    call(sys.executable, "-m", "lm.train", *command, "--output-dir", str(one))
    call(*sharded, "--output-dir", str(two))
    assert logged(two, "loss") == pytest.approx(logged(one, "loss"), rel=1e-5)
    assert logged(two, "eval_loss") == pytest.approx(logged(one, "eval_loss"), rel=1e-5)
    shutil.rmtree(two / "model")
    shutil.rmtree(two / "checkpoint-4")
    shutil.copytree(two, moved)
    call(*sharded, "--output-dir", str(two), "--resume")
    call(sys.executable, "-m", "lm.train", *command, "--output-dir", str(moved), "--resume")
    name = "adapter_model.safetensors" if "--lora-r" in options else "model.safetensors"
    expected = load_file(one / "model" / name)
    for folder in (two, moved):
        assert logged(folder, "loss") == pytest.approx(logged(one, "loss"), rel=1e-5)
        found = load_file(folder / "model" / name)
        assert set(found) == set(expected)
        for weight, value in expected.items():
            torch.testing.assert_close(found[weight], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "zero3"])
def test_accelerate_takes_the_recipes(name, monkeypatch):
    """What `accelerate launch` makes of the file: no unknown key, and the environment that its processes get."""
    from accelerate.commands import launch
    from accelerate.commands.config import load_config_from_file
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    file = ROOT / "lm" / "recipes" / f"{name}.yaml"
    config = load_config_from_file(str(file))
    assert (config.num_processes, config.mixed_precision) == (8, "bf16")
    words = ["--config_file", str(file), "--num_processes", "4", "-m", "lm.train"]
    arguments, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words))
    assert arguments.num_processes == 4
    if name == "zero3":
        arguments.deepspeed_fields_from_accelerate_config = list(config.deepspeed_config)  # as `launch_command` does
        _, environment = prepare_deepspeed_cmd_env(arguments)
        assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"
        assert environment["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
        return
    environment = prepare_multi_gpu_env(arguments)
    assert environment.get("ACCELERATE_USE_FSDP", "false") == ("true" if name == "fsdp2" else "false")
    if name == "fsdp2":
        for key, value in environment.items():
            if key.startswith("FSDP_"):
                monkeypatch.setenv(key, value)
        plugin = FullyShardedDataParallelPlugin()
        assert plugin.fsdp_version == 2
        assert plugin.reshard_after_forward is True
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
