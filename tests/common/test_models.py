"""Models by name; what cannot be loaded is one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from common.models import load_trained, save_whole

ROOT = Path(__file__).parents[2]


def test_a_folder_is_loaded_as_it_was_saved(model, tokenizer, tmp_path):
    save_whole(model, tokenizer, tmp_path / "copy")
    loaded, its_tokenizer = load_trained(str(tmp_path / "copy"))
    assert its_tokenizer.get_vocab() == tokenizer.get_vocab()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_the_folder_of_a_run_names_the_model_in_it(model, tokenizer, tmp_path):
    (tmp_path / "run").mkdir()
    save_whole(model, tokenizer, tmp_path / "run" / "model")
    with pytest.raises(ValueError, match=r"it lacks config\.json; it is a run's folder: name the model in it, model/"):
        load_trained(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "model './nowhere': there is no such folder"),
        ("nothing.gguf", "model 'nothing.gguf': there is no such file"),
        ("tests", "it lacks config.json"),
        ("tiny-lake", "could not be loaded"),
    ],
)
def test_what_is_not_there_is_said(name, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        load_trained(name)


def test_pickled_weights_are_refused(saved_model):
    model = AutoModelForCausalLM.from_pretrained(saved_model)
    (saved_model / "model.safetensors").unlink()
    torch.save(model.state_dict(), saved_model / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_trained(str(saved_model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "NOPE"}, "its adapter could not be loaded"),
        ({"lora_alpha": "x"}, "its adapter could not be loaded"),
        (None, "it lacks adapter_model.safetensors"),
    ],
)
def test_a_spoiled_adapter_is_one_error(change, message, model, saved_model, tmp_path):
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = str(saved_model)
    adapted.save_pretrained(tmp_path / "adapter")
    for file in saved_model.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "adapter")
    assert load_trained(str(tmp_path / "adapter"))
    if change is None:  # as weights that are read by running what is in them
        (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    else:
        file = tmp_path / "adapter" / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load_trained(str(tmp_path / "adapter"))


def test_weights_that_are_no_numbers_are_named(model, tokenizer, tmp_path):
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    save_whole(model, tokenizer, tmp_path / "spoiled")
    with pytest.raises(ValueError, match=r"its weights lm_head\.weight are not all finite"):
        load_trained(str(tmp_path / "spoiled"))


def test_what_is_loaded_later_learns_that_the_hub_does_not_answer():
    code = (
        "import socket\n"
        "def fail(*_): raise OSError('no network')\n"
        "socket.getaddrinfo = fail\n"
        "from common import models\n"
        "assert models.offline()\n"
        "import datasets\n"
        "assert datasets.config.HF_HUB_OFFLINE\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}  # without a proxy
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
