"""What comes after a training: merging an adapter, talking to the model."""

import io
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.models import load_trained
from lm import chat, lake, merge
from tests.calling import exit_code


@pytest.fixture
def adapter(saved_model, tokenizer, tmp_path):
    """An adapter of the saved model whose weights do something."""
    base = AutoModelForCausalLM.from_pretrained(saved_model)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1, generator=generator)
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def call(main, monkeypatch, *arguments):
    return exit_code(main, monkeypatch, arguments)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_is_one_that_transformers_loads_and_says_the_same(
    dtype, adapter, saved_model, tmp_path, monkeypatch
):
    out = tmp_path / "merged"
    assert call(merge.main, monkeypatch, "--model", adapter, "--out", out, "--dtype", dtype) == 0
    merged = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert merged.dtype == getattr(torch, dtype)
    assert not [path for path in out.iterdir() if "adapter" in path.name]
    ids = AutoTokenizer.from_pretrained(out)("1+2=", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(saved_model)
        before = base(ids).logits
        expected = PeftModel.from_pretrained(base, adapter)(ids).logits
        found = merged.float()(ids).logits
    assert (before - expected).abs().max() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-5 if dtype == "float32" else 3e-2, rtol=0)


def test_what_cannot_be_merged_is_one_line(adapter, saved_model, tmp_path, monkeypatch, capsys):
    cases = [
        ((saved_model, tmp_path / "new"), "holds no adapter (adapter_config.json): there is nothing to merge"),
        ((adapter / "adapter_config.json", tmp_path / "new"), "is a file: an adapter is a folder"),
        ((adapter, tmp_path), "exists already: give a new name"),
    ]
    for (model, out), message in cases:
        assert call(merge.main, monkeypatch, "--model", model, "--out", out) == 2
        assert message in capsys.readouterr().err
    arguments = ("--model", adapter, "--out", tmp_path / "new", "--gguf", tmp_path / "nowhere.py")
    assert call(merge.main, monkeypatch, *arguments) == 2
    assert "nowhere.py' is not there: git clone https://github.com/ggml-org/llama.cpp" in capsys.readouterr().err
    (adapter / "adapter_model.safetensors").write_bytes(b"no")
    assert call(merge.main, monkeypatch, "--model", adapter, "--out", tmp_path / "new") == 2
    assert "its adapter could not be loaded" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


_SCRIPT = """
import argparse, pathlib
options = argparse.ArgumentParser()
options.add_argument("model"), options.add_argument("--outfile"), options.add_argument("--outtype")
given = options.parse_args()
assert pathlib.Path(given.model, "model.safetensors").is_file()
pathlib.Path(given.outfile).write_text(given.outtype)
"""


@pytest.mark.parametrize(("script", "code"), [(_SCRIPT, 0), ("raise SystemExit('no such architecture')", 1), ("", 1)])
def test_a_script_of_llama_cpp_writes_the_gguf_file_or_fails_in_a_line(
    script, code, adapter, tmp_path, monkeypatch, capsys
):
    converter, out = tmp_path / "convert_hf_to_gguf.py", tmp_path / "merged"
    converter.write_text(script)
    assert call(merge.main, monkeypatch, "--model", adapter, "--out", out, "--gguf", converter) == code
    assert (out / "model.safetensors").is_file()
    if code == 0:
        assert (tmp_path / "merged.gguf").read_text() == "bf16"
        return
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ("no such architecture" if script else "it wrote no file") in error
    assert {path.name for path in tmp_path.glob("*merged*")} == {"merged"}


@pytest.fixture
def player(tmp_path):
    folder = tmp_path / "player"
    lake.make_model(lake.make_tokenizer(), 0).save_pretrained(folder)
    lake.make_tokenizer().save_pretrained(folder)
    return folder


def test_it_answers_every_line_with_what_the_model_says(player, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("S F G /\n\nF S G /\n"))
    assert call(chat.main, monkeypatch, "--model", player, "--max-new-tokens", 6) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    model, tokenizer = load_trained(str(player))
    talk = [{"role": "user", "content": "S F G /"}]
    options = chat.Options(max_new_tokens=6)
    first = chat.answer(model, tokenizer, talk, options)
    assert lines[0].strip() == first
    talk += [{"role": "assistant", "content": first}, {"role": "user", "content": "F S G /"}]
    assert lines[1].strip() == chat.answer(model, tokenizer, talk, options)


def test_samples_follow_the_seed(player, monkeypatch, capsys):
    said = []
    for seed in (1, 1, 2):
        monkeypatch.setattr(sys, "stdin", io.StringIO("S F G /\n"))
        call(chat.main, monkeypatch, "--model", player, "--temperature", 2, "--seed", seed, "--max-new-tokens", 20)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens must be at least 1, got 0"),
        (["--temperature", "-1"], "temperature must be 0, or at least 0.01 and finite; got -1.0"),
        (["--seed", str(10**20)], f"seed must be in [0, 2**32 − 1], got {10**20}"),
        (["--system", "caf\udce9"], "argument 2, 'caf\\udce9', is not UTF-8 text"),
        (["--model", "./nowhere"], "model './nowhere': there is no such folder"),
    ],
)
def test_bad_options_of_the_chat_are_one_line(arguments, message, monkeypatch, capsys):
    assert call(chat.main, monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_template_that_refuses_is_one_line(player, monkeypatch, capsys):
    tokenizer = AutoTokenizer.from_pretrained(player)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    tokenizer.save_pretrained(player)
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert call(chat.main, monkeypatch, "--model", player, "--system", "Be brief.") == 2
    assert "chat template refuses the chat (System role not supported)" in capsys.readouterr().err


def test_a_chat_beyond_the_context_is_one_line(player, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("F " * 300 + "\n"))
    assert call(chat.main, monkeypatch, "--model", player) == 2
    assert "the chat has 302 tokens, the model's context 256: begin a new one" in capsys.readouterr().err
