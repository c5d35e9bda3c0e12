"""A model's files have to be its own, its weights all there, and its tokenizer one that fits: else one line."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from common.models import load_trained, save_whole
from common.weights import files_of_model, require_end, require_fitting


def changed(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(folder, *parts):
    """It is refused, in one line with these parts."""
    with pytest.raises(ValueError, match=str(folder)) as caught:
        load_trained(str(folder))
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def rewrite(file, change):
    """Change the tensors of a safetensors file, by `change` of their dictionary."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def sharded(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path / "sharded")
    return tmp_path / "sharded"


@pytest.mark.parametrize("name", ["w.bin", "../outside.safetensors", "/outside.safetensors", "sub/w.safetensors"])
def test_only_safetensors_of_the_models_own_folder_are_read(name, sharded, model, monkeypatch):
    assert load_trained(str(sharded))
    index = sharded / "model.safetensors.index.json"
    shards = json.loads(index.read_text())["weight_map"]
    changed(index, weight_map=dict.fromkeys(shards, name))

    def read(*_, **__):
        raise AssertionError("something was read")

    monkeypatch.setattr("torch.load", read)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", read)
    refused(sharded, f"model.safetensors.index.json names {name!r}: only safetensors in its folder are read")


def test_an_index_that_names_what_is_not_there_or_is_spoiled_is_refused(sharded):
    index = sharded / "model.safetensors.index.json"
    shard = next(iter(json.loads(index.read_text())["weight_map"].values()))
    (sharded / shard).rename(sharded / "away")
    refused(sharded, f"it lacks {shard}, which model.safetensors.index.json names")
    for text, message in (("{", "cannot be read"), ("[]", "holds no object"), ("{}", "has no weight_map")):
        index.write_text(text)
        refused(sharded, message)


def test_other_weights_that_the_config_names_are_refused(saved_model):
    (saved_model / "model.safetensors").rename(saved_model / "adapter_model.bin")
    changed(saved_model / "config.json", transformers_weights="adapter_model.bin")
    refused(saved_model, "config.json names the weights 'adapter_model.bin': only safetensors are read")


def test_weights_that_are_missing_are_not_made_up(saved_model):
    file = saved_model / "model.safetensors"
    rewrite(file, lambda tensors: tensors.pop("lm_head.weight"))
    refused(saved_model, "its files lack the weights lm_head.weight, which config.json asks for")
    rewrite(file, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers.1." in name])
    refused(saved_model, "its files lack the weights lm_head.weight and 9 more")


def test_a_shard_that_lacks_what_the_index_says_is_refused(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(sharded / index[name], lambda tensors: tensors.pop(name) if len(tensors) > 1 else tensors.update(
        {f"{name}.renamed": tensors.pop(name)}))  # fmt: skip
    refused(sharded, f"its files lack the weights {name}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, "its files lack the weights model.layers.2."),
        ({"num_hidden_layers": 1}, "its files have the weights model.layers.1."),
        ({"vocab_size": 50}, "have the shape [43, 32], config.json makes it [50, 32]: take config.json and weights of"),
        ({"intermediate_size": 32}, "config.json makes it [32, 32]"),
    ],
)
def test_weights_and_config_of_two_models_are_refused(change, message, saved_model):
    changed(saved_model / "config.json", **change)
    refused(saved_model, message)


def test_layers_of_other_names_buffers_and_other_heads_are_known(tokenizer, tmp_path):
    """GPT-2 calls its layers `h`, and old files of it have a mask in each."""
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    save_whole(GPT2LMHeadModel(config), tokenizer, tmp_path / "gpt2")

    def more(tensors):
        tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
        tensors["transformer.h.0.attn.rotary_emb.inv_freq"] = torch.ones(4)
        tensors["v_head.summary.weight"] = torch.ones(1, 16)

    rewrite(tmp_path / "gpt2" / "model.safetensors", more)
    assert load_trained(str(tmp_path / "gpt2"))  # its head is tied, and in no file
    changed(tmp_path / "gpt2" / "config.json", n_layer=1)
    refused(tmp_path / "gpt2", "its files have the weights ", "h.1.attn.c_attn.weight and 10 more")


@pytest.fixture
def adapter(saved_model, tokenizer, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(saved_model)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_whose_weights_do_not_fit_is_refused(adapter):
    assert load_trained(str(adapter))
    file, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    whole, said = file.read_bytes(), config.read_text()
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    rewrite(file, lambda tensors: tensors.pop(first))
    refused(adapter, f"its adapter lacks {first}: take adapter_config.json")
    rewrite(file, lambda tensors: [tensors.update({f"other.{name}": tensors.pop(name)}) for name in list(tensors)])
    refused(adapter, f"its adapter lacks {first} and 7 more")
    file.write_bytes(whole)
    changed(config, target_modules=["q_proj"])
    refused(adapter, "its adapter has no place in the base for ", "layers.0.self_attn.v_proj.lora_A.weight and 3 more")
    config.write_text(said)
    assert load_trained(str(adapter))


def test_an_adapter_on_an_adapter_is_refused(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "second")
    changed(tmp_path / "second" / "adapter_config.json", base_model_name_or_path=str(adapter))
    refused(tmp_path / "second", f"its base {str(adapter)!r} is an adapter, too: merge that one first with lm.merge")


def test_what_an_adapter_says_depends_on_its_base_too(adapter, saved_model):
    files = [file.resolve() for file in files_of_model(adapter)]
    assert {file.parent for file in files} == {adapter.resolve(), saved_model.resolve()}
    assert saved_model.resolve() / "model.safetensors" in files
    assert len(files) == len(set(files))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(saved_model, model):
    model.resize_token_embeddings(64)  # more rows than tokens are usual
    model.save_pretrained(saved_model)
    assert load_trained(str(saved_model))
    model.resize_token_embeddings(10)
    model.save_pretrained(saved_model)
    refused(saved_model, "its tokenizer has tokens up to 42, its embedding only 10 rows: take the tokenizer that")


def test_an_added_token_counts_where_a_chat_has_it(saved_model, model):
    tokenizer = AutoTokenizer.from_pretrained(saved_model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    require_fitting(tokenizer, model, "m")
    tokenizer.chat_template = "<image>{{ messages }}"
    with pytest.raises(ValueError, match="'m': its tokenizer has tokens up to 43, its embedding only 43 rows"):
        require_fitting(tokenizer, model, "m")


def test_a_tokenizer_needs_an_end(saved_model):
    tokenizer = AutoTokenizer.from_pretrained(saved_model)
    tokenizer.pad_token = None
    require_end(tokenizer, "m")
    tokenizer.eos_token = None
    tokenizer.save_pretrained(saved_model)
    refused(saved_model, "its tokenizer has neither an eos_token nor a pad_token", "tokenizer_config.json")


def test_a_reward_model_without_its_head_is_refused(saved_model, tmp_path):
    from lm.pairs.options import Options
    from lm.pairs.scoring import scorer_of

    changed(saved_model / "config.json", num_labels=1)
    options = Options("d", tmp_path / "p.jsonl", scorer="reward", reward_model=str(saved_model))
    with pytest.raises(ValueError, match=r"^reward_model: model .* its files lack the weights score\.weight"):
        scorer_of(options)
