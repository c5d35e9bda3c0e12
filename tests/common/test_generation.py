"""Of what a model's folder says of generation only its tokens count, and what is kept of it can be saved."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GenerationConfig

from common.generation import make_savable, require_tokens, tokens_only
from common.models import load_trained

OTHERS = {
    "num_beams": 3, "max_time": 1e-9, "min_p": 0.9, "typical_p": 0.1, "suppress_tokens": list(range(3, 30)),
    "min_new_tokens": 6, "forced_eos_token_id": 1, "return_dict_in_generate": True, "repetition_penalty": 9.0,
    "no_repeat_ngram_size": 1, "bad_words_ids": [[7]], "top_k": 1, "output_scores": True,
}  # fmt: skip


def say(folder, **fields):
    (folder / "generation_config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize("sampling", [{"do_sample": False}, {"do_sample": True, "top_k": 0}])
@pytest.mark.parametrize("adapted", [False, True])
def test_only_the_tokens_of_the_folder_count(sampling, adapted, saved_model, model):
    say(saved_model, eos_token_id=[1, 5], **OTHERS)
    loaded = AutoModelForCausalLM.from_pretrained(saved_model)
    if adapted:
        loaded = get_peft_model(loaded, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    before = loaded.generation_config
    plain = {"eos_token_id": [1, 5], "pad_token_id": 0, "max_new_tokens": 8}
    inputs = {"input_ids": torch.tensor([[7, 8, 9]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        expected = model.eval().generate(**inputs, **plain, **sampling)
        torch.random.default_generator.manual_seed(0)
        with tokens_only(loaded.eval()):
            found = loaded.generate(**inputs, max_new_tokens=8, pad_token_id=0, **sampling)
    assert torch.equal(found, expected)
    assert loaded.generation_config is before
    assert before.num_beams == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eos_token_id": "x"}, "generation_config.json (or config.json) has eos_token_id 'x'"),
        ({"eos_token_id": [1, 43]}, "has eos_token_id '[1, 43]': it must be a token from 0 to 42, or a list of them"),
        ({"bos_token_id": -1}, "has bos_token_id '-1'"),
        ({"pad_token_id": 1.5}, "has pad_token_id '1.5'"),
        ({"pad_token_id": -1}, None),
        ({"eos_token_id": [1, 2], "bos_token_id": None}, None),
    ],
)
def test_tokens_that_the_model_does_not_have_are_named(fields, message, model):
    model.generation_config = GenerationConfig(**fields)
    if message is None:
        require_tokens(model, "m")
        return
    with pytest.raises(ValueError, match=r"^model 'm': ") as caught:
        require_tokens(model, "m")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"temperature": 0.5, "do_sample": False}, {"do_sample": False}),
        ({"temperature": 0.5, "top_p": 0.9, "do_sample": True}, {"temperature": 0.5, "top_p": 0.9, "do_sample": True}),
        ({"top_p": 0.9, "max_new_tokens": 7, "penalty_alpha": 1.1}, {"max_new_tokens": 7, "penalty_alpha": 1.1}),
        ({"length_penalty": 2.0, "num_beams": 1, "output_scores": True}, {"num_beams": 1}),
        ({"num_return_sequences": 2, "num_beams": 2, "early_stopping": True, "top_k": 3},
         {"num_return_sequences": 2, "num_beams": 2, "early_stopping": True}),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_dropped_and_all_else_is_kept(fields, kept, model, tmp_path):
    model.generation_config = GenerationConfig(eos_token_id=[1, 2], pad_token_id=0, **fields)
    make_savable(model).generation_config.pad_token_id = 2
    model.generation_config.save_pretrained(tmp_path)
    found = json.loads((tmp_path / "generation_config.json").read_text())
    tokens = {"eos_token_id": [1, 2], "pad_token_id": 2}
    found, kept = (
        {name: value for name, value in each.items() if value is not False} for each in (found, tokens | kept)
    )
    assert found == kept | {"transformers_version": found["transformers_version"]}


def test_a_model_that_cannot_be_saved_as_it_was_published_is_trained_and_kept(
    saved_model, jsonl, tmp_path, monkeypatch
):
    from lm.train import __main__ as train
    from tests.calling import exit_code

    say(saved_model, eos_token_id=[1, 5], temperature=0.5, top_p=0.9, do_sample=False)
    command = ["--model", saved_model, "--dataset", f"{jsonl}:16", "--chat-template", "none", "--max-steps", 2,
               "--batch-size", 8, "--save-steps", 1, "--output-dir", tmp_path / "out"]  # fmt: skip
    assert exit_code(train.main, monkeypatch, command) == 0
    model, _ = load_trained(str(tmp_path / "out" / "model"))
    assert model.generation_config.eos_token_id == [1, 5]
    assert model.generation_config.temperature in (None, 1.0)


def test_chat_and_pairs_leave_aside_what_the_folder_says(saved_model, tokenizer, tmp_path, monkeypatch):
    from lm import chat
    from lm.pairs import sampling
    from lm.pairs.options import Options

    def answers():
        sample = sampling.sampler_of(Options("d", tmp_path / "p", model=str(saved_model), samples=2), tokenizer)
        model, _ = load_trained(str(saved_model))
        turn = chat.answer(model, tokenizer, [{"role": "user", "content": "1+1="}], chat.Options(max_new_tokens=8))
        return sample([[7, 8], [9, 7]], 3), turn

    expected = answers()
    say(saved_model, eos_token_id=1, pad_token_id=0, bos_token_id=1, **OTHERS)
    assert answers() == expected
    say(saved_model, eos_token_id=99)
    with pytest.raises(ValueError, match="has eos_token_id '99'"):
        answers()
    with pytest.raises(ValueError, match="has eos_token_id '99'"):
        chat.talk(chat.Options(model=str(saved_model)))


def test_what_the_model_says_of_the_lake_is_its_own():
    from lm.lake import make_model, make_tokenizer
    from lm.lake.maps import random_maps
    from lm.lake.play import answers

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, 0)
    letters = random_maps(4, "test", np.random.default_rng(0))
    expected = answers(model, tokenizer, letters), answers(model, tokenizer, letters, sample_seed=1)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, **OTHERS)
    assert (answers(model, tokenizer, letters), answers(model, tokenizer, letters, sample_seed=1)) == expected
