"""What the scaling page rests on, against torch's own counter of FLOPs, and against what runs here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import MistralConfig, MistralForCausalLM, MixtralConfig

from lm import scaling
from lm.train.dry_run import show_estimate
from lm.train.estimate import estimate, without_weights
from lm.train.models import adapters
from lm.train.settings import TrainSettings
from lm.train.training import train

DOCS = Path(__file__).parents[2] / "docs"


def counted_flops(settings):
    """FLOPs of the linear layers in a training, without attention scores, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        train(settings, Console(quiet=True))
    counts = counter.get_flop_counts()["Global"]
    return sum(count for op, count in counts.items() if op in (torch.ops.aten.mm, torch.ops.aten.addmm))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sft", {}),
        ("sft", {"gradient_checkpointing": True}),
        ("ift", {}),
        ("ift", {"gradient_checkpointing": True}),
        ("ift", {"prediction": "lagged", "max_steps": 4}),  # two epochs, the first with a pass more
        ("ift", {"prediction": "lagged", "first_predictions": "none", "max_steps": 4}),
        ("orpo", {}),
        ("dpo", {}),
        ("sft", {"lora_r": 2, "gradient_checkpointing": True}),
        ("sft", {"lora_r": 2, "gradient_checkpointing": True, "lora_target_modules": "q_proj,v_proj"}),
    ],
)
def test_flops_are_those_that_torch_counts(method, options, tokenizer, tmp_path):
    """Answers fill nearly all of each row, so that what counts answer tokens alone counts nearly all."""
    torch.random.default_generator.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=256, num_hidden_layers=2,
                      num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)
    )  # fmt: skip
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = "".join(f'{{"prompt": "a", "chosen": "{"b" * 62}", "rejected": "{"c" * 62}"}}\n' for _ in range(16))
    (tmp_path / "rows.jsonl").write_text(rows)
    settings = TrainSettings(
        method=method, model=str(tmp_path / "model"), dataset=(str(tmp_path / "rows.jsonl"),), max_length=64,
        max_prompt_length=8, batch_size=8, chat_template="none", output_dir=str(tmp_path / "out"),
        **{"max_steps": 1} | options,
    )  # fmt: skip
    found = estimate(settings, model, 16, bytes_per_weight=4)
    assert counted_flops(settings) == pytest.approx(
        found.flops_per_token * found.tokens_per_update * found.updates, rel=0.05
    )


def test_the_page_is_what_the_command_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scaling", "--out", str(tmp_path / "scaling.md")])
    scaling.main()
    assert (tmp_path / "scaling.md").read_text() == (DOCS / "scaling.md").read_text()


def test_adapters_are_reckoned_as_peft_makes_them():
    config = MistralConfig(vocab_size=99, hidden_size=64, intermediate_size=256, num_hidden_layers=2,
                           num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    for modules in ("all-linear", "q_proj, v_proj", "mlp.down_proj"):
        settings = TrainSettings(lora_r=4, lora_target_modules=modules)
        model = get_peft_model(MistralForCausalLM(config), adapters(settings))
        found = estimate(settings, MistralForCausalLM(config), 8, bytes_per_weight=2)
        assert found.trained == model.get_nb_trainable_parameters()[0]


def test_only_inner_weights_have_4_bits():
    model = without_weights(MistralConfig(), trust_remote_code=False)
    found = estimate(TrainSettings(lora_r=16, load_in_4bit=True), model, 8, bytes_per_weight=2)
    embedded = 2 * 32_000 * 4096
    adapters_bytes = found.trained * (4 + 4 + 8)
    assert found.state_bytes - adapters_bytes == pytest.approx(
        0.56 * (found.parameters - embedded) + 2 * embedded, rel=1e-3
    )


def test_experts_are_not_reckoned(tmp_path):
    MixtralConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has experts"):
        show_estimate(TrainSettings(model=str(tmp_path)), Console(quiet=True))


def test_more_devices_need_less_each_and_less_time():
    model = without_weights(scaling.MODELS["13B"](), trust_remote_code=False)
    found = [scaling.needs("IFT", model, devices) for devices in scaling.DEVICES]
    assert [f.sharded for f in found] == sorted((f.sharded for f in found), reverse=True)
    assert found[0].a100_hours == pytest.approx(512 * found[3].a100_hours)
    assert scaling.needs("IFT, lagged", model, 8).flops_per_token < found[1].flops_per_token
    assert scaling.engine(found[0]) == ""
    assert scaling.engine(found[1]) == "FSDP2 or ZeRO-3"


def test_what_is_advised_fits_and_its_hours_are_its_own():
    model = without_weights(scaling.MODELS["70B"](), trust_remote_code=False)
    whole, lora = (scaling.needs("IFT", model, 8, **changed) for changed in ({}, {"lora_r": 16}))
    row = scaling._row("IFT", model, 8)
    assert f"LoRA, FSDP2 or ZeRO-3 ({lora.sharded / 2**30:,.0f} GiB)" == row[4]
    assert lora.sharded < scaling.FILLED * scaling.DEVICE_BYTES < whole.sharded
    assert row[-1] == f"{lora.a100_hours:,.1f}" != f"{whole.a100_hours:,.1f}"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "ift", "dpo"])
def test_memory_grows_with_the_model_as_reckoned(method, tokenizer, tmp_path):
    """Of two models, so that what the libraries themselves take is left out."""
    rows = "".join(f'{{"prompt": "a", "chosen": "{"b" * 62}", "rejected": "{"c" * 62}"}}\n' for _ in range(8))
    (tmp_path / "rows.jsonl").write_text(rows)
    measured, reckoned = [], []
    for width in (512, 1024):
        folder = tmp_path / f"{width}"
        config = MistralConfig(vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width,
                               num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8)  # fmt: skip
        model = MistralForCausalLM(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        options = {
            "method": method, "model": str(folder), "dataset": f"{tmp_path}/rows.jsonl", "max_length": 64,
            "max_prompt_length": 8, "batch_size": 4, "per_device_train_batch_size": 4, "max_steps": 2,
            "chat_template": "none", "logging_steps": 1, "output_dir": str(folder / "out"),
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        subprocess.run([sys.executable, "-m", "lm.train", *words], check=True, capture_output=True)
        lines = (folder / "out" / "log.jsonl").read_text().splitlines()
        measured.append(max(json.loads(line).get("peak_gigabytes", 0) for line in lines))
        found = estimate(TrainSettings(**options | {"dataset": (options["dataset"],)}), model, 8, bytes_per_weight=4)
        reckoned.append((found.state_bytes + found.activation_bytes) / 1e9)
    assert measured[1] - measured[0] == pytest.approx(reckoned[1] - reckoned[0], rel=0.25)
