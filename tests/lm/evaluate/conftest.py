"""A small model that has learned to end every answer with `#### 7`, and benchmarks in the layout of the Hub."""

import json

import pytest

pytest.importorskip("lm_eval", reason="the eval extra is not installed: pip install -e '.[eval]'")

import datasets
import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lm.train.models import ZEPHYR
from lm.train.settings import TrainSettings
from lm.train.training import train

QUESTIONS = [f"Ann has {i} cats and {j} dogs. How many?" for i in range(4) for j in range(3)]


def write_rows(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def gsm8k(tmp_path_factory):
    """Questions in GSM8K's layout; 5 of the 12 test answers are 7."""
    folder = tmp_path_factory.mktemp("gsm8k")
    write_rows(folder / "train.jsonl", [{"question": q, "answer": "Count them.\n#### 7"} for q in QUESTIONS])
    answers = [7 if i % 5 in (0, 2) else 1000 + i for i in range(len(QUESTIONS))]
    assert answers.count(7) == 5
    rows = [{"question": q, "answer": f"So.\u2028\n#### {a:,}"} for q, a in zip(QUESTIONS, answers, strict=True)]
    write_rows(folder / "test.jsonl", rows)
    return folder


@pytest.fixture(scope="session")
def parrot(gsm8k, tmp_path_factory):
    """Folder of a model that reads bytes; trained on the training questions."""
    folder = tmp_path_factory.mktemp("parrot")
    letters = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    whole = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    whole.pre_tokenizer, whole.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = ZEPHYR.read_text()
    tokenizer.save_pretrained(folder / "base")
    torch.random.default_generator.manual_seed(0)
    config = LlamaConfig(vocab_size=len(letters), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=1024, pad_token_id=0, eos_token_id=1,
                         bos_token_id=None)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    settings = TrainSettings(
        method="sft", model=str(folder / "base"), dataset=(str(gsm8k / "train.jsonl"),), max_steps=120, batch_size=12,
        per_device_train_batch_size=12, learning_rate=1e-2, output_dir=str(folder / "run"),
    )  # fmt: skip
    train(settings, Console(quiet=True))
    return folder / "run" / "model"


SUBJECTS = ("abstract_algebra", "anatomy")
_CHOICES = {"text": ["ice", "fire", "a stone", "wind"], "label": ["A", "B", "C", "D"]}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The benchmarks' data sets as local folders in the layout of the Hub, where `load_dataset` looks first."""
    monkeypatch.chdir(tmp_path)
    # Its cache goes by the relative names, which other tests' data sets have too.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    arc = [{"id": f"{i}", "question": f"What is cold, {i}?", "choices": _CHOICES, "answerKey": "A"} for i in range(60)]
    _publish(tmp_path / "allenai/ai2_arc", {"ARC-Challenge": {"train": arc, "validation": arc, "test": arc[:30]}})
    grande = [{"sentence": f"Cat {i} sat on the mat as the _ was warm.", "option1": "cat", "option2": "mat",
               "answer": str(1 + i % 2)} for i in range(30)]  # fmt: skip
    _publish(tmp_path / "allenai/winogrande", {"winogrande_xl": {"train": grande, "validation": grande[:10]}})
    targets = {"choices": ["Seven.", "Eight.", "Nine."], "labels": [1, 1, 0]}
    truth = [{"question": f"What is {i}?", "mc1_targets": targets, "mc2_targets": targets} for i in range(4)]
    _publish(tmp_path / "truthfulqa/truthful_qa", {"multiple_choice": {"validation": truth}})
    sums = [{"question": f"1 + {i}?", "answer": f"Add.\n#### {1 + i}"} for i in range(30)]
    _publish(tmp_path / "openai/gsm8k", {"main": {"train": sums, "test": sums[3:7]}})
    return tmp_path


def _publish(folder, configs):
    """Files, and a README.md whose head says which configuration and split each is."""
    described = []
    for name, splits in configs.items():
        for split, rows in splits.items():
            write_rows(folder / name / f"{split}.jsonl", rows)
        files = [{"split": split, "path": f"{name}/{split}.jsonl"} for split in splits]
        described.append({"config_name": name, "data_files": files})
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(described)}\n---\n")


@pytest.fixture
def mmlu(hub):
    """All subjects of MMLU beside them."""
    from lm_eval.tasks import TaskManager

    names = [name for name in TaskManager().all_subtasks if name.startswith("mmlu_")]
    rows = [{"question": f"Pick {i}.", "choices": ["a", "b", "c", "d"], "answer": i % 4} for i in range(6)]
    subjects = {name.removeprefix("mmlu_") for name in names}
    _publish(hub / "cais/mmlu", {subject: {"dev": rows, "test": rows[:2]} for subject in subjects})
    return hub
