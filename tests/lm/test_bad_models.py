"""A model whose parts do not belong together is one line, whichever command is given it, and nothing is written."""

import json
import shutil

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lm import chat, merge
from lm.lake import __main__ as lake
from lm.pairs import __main__ as pairs
from lm.train import __main__ as train
from tests.calling import exit_code


def changed(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def commands(jsonl, tmp_path):
    """Each command's main and arguments, by its name; the model comes behind them."""
    out, data = tmp_path / "out", ("--dataset", f"{jsonl}:8", "--chat-template", "none")
    return {
        "train": (train.main, *data, "--output-dir", out, "--max-steps", 1),
        "train-lora": (train.main, *data, "--output-dir", out, "--max-steps", 1, "--lora-r", 2),
        "pairs": (pairs.main, *data, "--out", tmp_path / "out.jsonl"),
        "score": (lake.main, "score", "--maps", 2),
        "chat": (chat.main,),
        "merge": (merge.main, "--out", out),
    }


def refused(commands, names, folder, message, monkeypatch, capsys):
    for name in names:
        main, *arguments = commands[name]
        assert exit_code(main, monkeypatch, [*arguments, "--model", folder]) == 2, name
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: model {str(folder)!r}: "), name
        assert message in error, name
        assert not list(folder.parent.glob("out*"))


@pytest.fixture
def adapter(saved_model, model, tokenizer, tmp_path):
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = str(saved_model)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_a_model_of_other_layers(commands, saved_model, monkeypatch, capsys):
    changed(saved_model / "config.json", num_hidden_layers=4)
    names = ("train", "pairs", "score", "chat")
    refused(commands, names, saved_model, "lack the weights model.layers.2.", monkeypatch, capsys)


def test_a_tokenizer_of_another_model(commands, saved_model, model, monkeypatch, capsys):
    model.resize_token_embeddings(10)
    model.save_pretrained(saved_model)
    names = ("train", "pairs", "score", "chat")
    refused(commands, names, saved_model, "its tokenizer has tokens up to 42", monkeypatch, capsys)


def test_a_tokenizer_without_an_end(commands, saved_model, monkeypatch, capsys):
    tokenizer = AutoTokenizer.from_pretrained(saved_model)
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(saved_model)
    message = "its tokenizer has neither an eos_token nor a pad_token"
    refused(commands, ("train", "pairs", "score"), saved_model, message, monkeypatch, capsys)


def test_an_adapter_that_lacks_weights(commands, adapter, monkeypatch, capsys):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    first = min(tensors)
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, file)
    names = ("train", "train-lora", "pairs", "score", "chat", "merge")
    refused(commands, names, adapter, f"its adapter lacks {first}", monkeypatch, capsys)


def test_an_adapter_on_an_adapter(commands, adapter, tmp_path, monkeypatch, capsys):
    second = tmp_path / "second"
    shutil.copytree(adapter, second)
    changed(second / "adapter_config.json", base_model_name_or_path=str(adapter))
    names = ("train", "train-lora", "pairs", "score", "chat", "merge")
    refused(commands, names, second, f"its base {str(adapter)!r} is an adapter, too", monkeypatch, capsys)
