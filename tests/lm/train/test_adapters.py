"""An adapter as --model is trained further, merged under a new one, or merged and trained as a whole; never lost."""

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.models import load_trained
from lm import chat, merge
from lm.train import __main__ as train
from lm.train import data, methods, models, tokens
from lm.train.estimate import estimate
from lm.train.settings import TrainSettings
from tests.calling import exit_code

IDS = torch.tensor([[7, 8, 9, 10]])


def call(main, monkeypatch, *arguments):
    return exit_code(main, monkeypatch, arguments)


@pytest.fixture
def adapter(saved_model, tokenizer, tmp_path):
    """A LoRA adapter that says something else than its base, as a run leaves it."""
    torch.random.default_generator.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(saved_model), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    folder = tmp_path / "sft"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize(
    ("options", "kind"), [({"lora_r": 4}, "continued"), ({"lora_r": 8, "adapter": "new"}, "merged"), ({}, "merged")]
)
def test_the_model_that_is_trained_is_the_adapters(options, kind, adapter, saved_model):
    settings = TrainSettings(model=str(adapter), **options)
    base = AutoModelForCausalLM.from_pretrained(saved_model)
    before = logits(base)
    expected = logits(PeftModel.from_pretrained(base, adapter))
    assert (before - expected).abs().max() > 0.05
    model = models.load_model(settings, torch.float32)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    assert isinstance(model, PeftModel) == (kind == "continued")
    assert kind == "continued" or all(weight.requires_grad for weight in model.parameters())
    assert (models.adapters(settings) is None) == (kind == "continued" or not options)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    if kind == "continued":
        assert estimate(settings, model, 100, bytes_per_weight=4).trained == trained
        assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_r": 8}, "lora_r must be the adapter's, 4, to train it further, got 8: --adapter new merges it"),
        ({"lora_r": 4, "lora_alpha": 32}, "lora_alpha must be the adapter's, 16"),
        ({"lora_r": 4, "use_dora": True}, "use_dora must be the adapter's, False"),
        ({"lora_r": 4, "adapter": "new", "load_in_4bit": True}, "load_in_4bit: a model in 4 bits cannot take"),
    ],
)
def test_what_the_adapter_cannot_be_is_refused(options, message, adapter):
    with pytest.raises(ValueError, match=message):
        models.load_model(TrainSettings(model=str(adapter), **options), torch.float32)


def test_an_adapter_names_its_layers_in_order():
    """PEFT has them in a set, whose order differs between processes; the same run has to have the same bytes."""
    config = LoraConfig(target_modules=["v_proj", "up_proj", "q_proj", "k_proj", "o_proj"])
    models.note_base(SimpleNamespace(peft_config={"default": config}), TrainSettings(), Path("base"))
    assert config.to_dict()["target_modules"] == ["k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.mark.parametrize("change", [{"peft_type": "NOPE"}, {"lora_alpha": "x"}, {"peft_type": "IA3"}, "[]", ""])
def test_a_spoiled_adapter_is_one_line(change, adapter):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change) if isinstance(change, dict) else change)
    with pytest.raises(ValueError, match="adapter") as refused:
        models.load_model(TrainSettings(model=str(adapter)), torch.float32)
    assert str(adapter) in str(refused.value)


@pytest.mark.parametrize("method", ["dpo", "kto", "asft", "iwsft", "still"])
def test_the_reference_is_the_model_that_the_training_starts_from(method, adapter, saved_model, tokenizer, tmp_path):
    """Continued, a copy of the adapter is kept; its log-probabilities are the SFT model's, not the base's."""
    settings = TrainSettings(model=str(adapter), method=method, lora_r=4, output_dir=str(tmp_path / "out"))
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{i}+1=", "chosen": "2", "rejected": "3"}) + "\n" for i in range(8)))
    tokenizer.chat_template = None
    rows, _ = tokens.encode(data.load((str(file),), settings.learns_from_pairs, 0), tokenizer, tokens.Cut(32, 16))
    options = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none",
               "gradient_checkpointing": False, "per_device_train_batch_size": 4}  # fmt: skip
    model = models.load_model(settings, torch.float32)
    trainer = methods.make_trainer(
        settings, methods.make_arguments(settings, options), model, None, rows, None, processing_class=tokenizer
    )
    assert trainer.ref_model is None
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad:
                weight.add_(0.3)
                assert ".ref." not in name
    trained = logits(trainer.model)
    if not settings.learns_from_pairs:
        said = trainer.ask_reference(trainer.model, {"input_ids": IDS, "labels": IDS}).log_probs
    trainer.model.set_adapter("ref")
    reference = logits(trainer.model)
    if not settings.learns_from_pairs:
        wanted = reference[:, :-1].log_softmax(-1).gather(-1, IDS[:, 1:, None])[..., 0]
        torch.testing.assert_close(said, wanted, atol=1e-5, rtol=0)
    expected = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(saved_model), adapter))
    torch.testing.assert_close(reference, expected, atol=1e-5, rtol=0)
    assert (trained - expected).abs().max() > 0.05


def test_a_run_that_continues_an_adapter_resumes_with_the_same_reference(adapter, jsonl, monkeypatch, tmp_path):
    words = ["--method", "asft", "--model", adapter, "--lora-r", 4, "--dataset", f"{jsonl}:16", "--max-length", 64,
             "--batch-size", 8, "--max-steps", 4, "--save-steps", 2, "--chat-template", "none", "--logging-steps", 1,
             "--method-numbers", "kl_weight=5", "--learning-rate", "1e-2"]  # fmt: skip
    for name in ("whole", "stopped"):
        assert call(train.main, monkeypatch, *words, "--out", tmp_path / name) == 0
    weights = load_file(tmp_path / "whole" / "model" / "adapter_model.safetensors")
    for name in ("model", "checkpoint-4"):
        shutil.rmtree(tmp_path / "stopped" / name)
    assert call(train.main, monkeypatch, *words, "--out", tmp_path / "stopped", "--resume") == 0
    assert not (tmp_path / "stopped" / "model" / "ref").exists()
    again = load_file(tmp_path / "stopped" / "model" / "adapter_model.safetensors")
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_dora_rslora_and_whole_modules_are_pefts():
    config = models.adapters(
        TrainSettings(lora_r=4, use_dora=True, use_rslora=True, modules_to_save="embed_tokens, lm_head")
    )
    assert (config.use_dora, config.use_rslora, config.modules_to_save) == (True, True, ["embed_tokens", "lm_head"])


def test_an_attention_that_is_not_there_is_named(saved_model):
    settings = TrainSettings(model=str(saved_model), attention="flash_attention_9")
    with pytest.raises(ValueError, match="attention 'flash_attention_9' cannot be had here"):
        models.load_model(settings, torch.float32)
    model = models.load_model(TrainSettings(model=str(saved_model), attention="sdpa"), torch.float32)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.slow
@pytest.mark.parametrize("second", [["--lora-r", "4"], ["--lora-r", "8", "--adapter", "new"], []])
@pytest.mark.parametrize("method", ["ift", "dpo"])
def test_the_whole_chain(method, second, saved_model, jsonl, sums, tmp_path, monkeypatch, capsys):
    """SFT with LoRA, IFT or DPO on it, chat, merge, and the same model in plain transformers."""
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "7"} for row in sums]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--max-length", "64", "--batch-size", "8", "--learning-rate", "1e-2", "--logging-steps", "1",
               "--chat-template", "none", "--max-steps", "4", "--warmup-steps", "0"]  # fmt: skip
    sft, out = tmp_path / "sft", tmp_path / "out"
    data_of = {"ift": f"{jsonl}", "dpo": f"{pairs}"}[method]
    assert call(train.main, monkeypatch, *options, "--model", saved_model, "--method", "sft", "--lora-r", "4",
                "--dataset", jsonl, "--eval-dataset", f"{jsonl}:16", "--output-dir", sft) == 0  # fmt: skip
    after = [json.loads(line) for line in (sft / "log.jsonl").read_text().splitlines()][-1]["eval_loss"]
    assert call(train.main, monkeypatch, *options, "--model", sft / "model", "--method", method, *second,
                "--dataset", data_of, "--eval-dataset", f"{data_of}:16", "--output-dir", out) == 0  # fmt: skip
    told = capsys.readouterr().out
    assert ("is trained further" if second == ["--lora-r", "4"] else "is merged into its base") in told
    start = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    assert start["step"] == 0
    if method == "ift":  # both evaluate with SFT's loss
        assert start["eval_loss"] == pytest.approx(after, rel=1e-4)
    else:  # policy and reference are one at first
        assert start["eval_loss"] == pytest.approx(0.6931, abs=1e-3)
    kept = out / "model"
    assert not (kept / "ref").exists()
    model, tokenizer = load_trained(str(kept))
    expected = logits(model)
    assert (expected - logits(load_trained(str(sft / "model"))[0])).abs().max() > 1e-3
    if second:
        assert load_file(kept / "adapter_model.safetensors").keys()
        torch.testing.assert_close(logits(AutoPeftModelForCausalLM.from_pretrained(kept)), expected)
        assert call(merge.main, monkeypatch, "--model", kept, "--out", tmp_path / "merged", "--dtype", "float32") == 0
        kept = tmp_path / "merged"
    found = AutoModelForCausalLM.from_pretrained(kept)
    torch.testing.assert_close(logits(found), expected, atol=1e-4, rtol=0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1+2=\n"))
    assert call(chat.main, monkeypatch, "--model", out / "model", "--max-new-tokens", 4) == 0
    said = capsys.readouterr().out.splitlines()[-1].strip()
    ids = AutoTokenizer.from_pretrained(kept)("1+2=", return_tensors="pt")
    generated = found.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert said == tokenizer.decode(generated, skip_special_tokens=True).strip()
