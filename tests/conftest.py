"""Settings shared by all tests; a tiny Mistral and a tokenizer over characters, made here: nothing is from the Hub."""

import random

import matplotlib
import pytest
import torch
from hypothesis import settings

from ift import METHODS

matplotlib.use("agg")
torch.set_num_threads(1)  # the workers of a parallel run share the cores
settings.register_profile("project", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("project")


@pytest.fixture(autouse=True)
def no_method_of_another_test(monkeypatch):
    """A method of a file is known to its process and, by the environment, to later ones: not to another test's."""
    monkeypatch.setenv("IFT_METHODS", "")
    yield
    for name in list(METHODS.origins):
        del METHODS[name], METHODS.origins[name]


@pytest.fixture(scope="session")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<eos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz .=+0123456789"]
    whole = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture
def model(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return MistralForCausalLM(
            MistralConfig(
                vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, attn_implementation="eager",
            )
        )  # fmt: skip


@pytest.fixture
def saved_model(model, tokenizer, tmp_path):
    """The same model as a folder in Hub layout."""
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sums():
    """Prompts and completions of different lengths."""
    from datasets import Dataset

    rng = random.Random(0)
    rows = [(rng.randrange(1000), rng.randrange(100)) for _ in range(64)]
    return Dataset.from_list([{"prompt": f"{a}+{b}=", "completion": f"{a + b}"} for a, b in rows])


@pytest.fixture
def jsonl(sums, tmp_path):
    """The same data as a file."""
    file = tmp_path / "sums.jsonl"
    sums.to_json(file)
    return file
