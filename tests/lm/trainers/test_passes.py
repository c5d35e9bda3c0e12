"""The prompt that both passes share: the same numbers as two whole passes, and whole passes where it would not be."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from lm.trainers import forward, passes
from lm.trainers.forward import Residual, add_residual_forward

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 97}  # fmt: skip


def mistral(**options):
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None, **options))


MODELS = {
    "mistral": mistral,
    "mistral, eager": lambda: mistral(attn_implementation="eager"),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=97,
            n_embd=32,
            n_layer=2,
            n_head=4,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
            summary_first_dropout=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    ),
}


@pytest.fixture
def batch():
    """Three sequences with prompts of 9, 14 and 9 tokens, the last with padding behind it."""
    ids = torch.randint(97, (3, 24), generator=torch.Generator().manual_seed(0))
    labels, attention = ids.clone(), torch.ones_like(ids)
    labels[:, :9], labels[1, :14], labels[2, 20:] = -100, -100, -100
    attention[2, 20:] = 0
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


@pytest.fixture
def calls(monkeypatch):
    """How many tokens of the prompt were shared, one entry a forward call that did so; any saving is worth it."""
    seen = []

    def watched(model, states, mask):
        seen.append(states.shape[1])
        return passes.run_prompt(model, states, mask)

    monkeypatch.setattr(passes, "LEAST_WORK", 0)
    monkeypatch.setattr(forward, "run_prompt", watched)
    return seen


def outputs_and_gradients(model, batch, **options):
    model.zero_grad()
    residual = Residual(0.3, generator=torch.Generator().manual_seed(1), **options)
    outputs = model(**batch, residual=residual)
    (outputs.log_probs * torch.linspace(1, 2, outputs.log_probs.shape[1])).sum().backward()
    return outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [{}, {"prediction": "expected"}, {"freeze_embedding": True}, {"replaced": True}])
def test_a_shared_prompt_gives_the_numbers_of_two_whole_passes(name, options, batch, calls, monkeypatch):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        model = MODELS[name]().double().train()
    add_residual_forward(model)
    shared, gradients = outputs_and_gradients(model, batch, **options)
    assert calls == [8]  # position 8 predicts the first answer token
    monkeypatch.setattr(passes, "SHARED_ON", ())
    whole, expected = outputs_and_gradients(model, batch, **options)
    assert calls == [8]
    # Models round to float32 in places (norms, rotations), so that a digit of it may differ.
    for part in ("log_probs", "entropy", "plain_log_probs"):
        torch.testing.assert_close(getattr(shared, part), getattr(whole, part), rtol=1e-6, atol=1e-6)
    assert torch.equal(shared.predicted, whole.predicted)
    assert gradients.keys() == expected.keys()
    for weight, gradient in gradients.items():
        assert (gradient - expected[weight]).norm() <= 1e-6 * expected[weight].norm() + 1e-12, weight


@pytest.mark.parametrize(
    "change",
    [
        lambda model, batch: setattr(model.config, "attention_dropout", 0.1),
        lambda model, batch: model.get_input_embeddings().register_forward_hook(lambda *_: None),
        lambda model, batch: model.gradient_checkpointing_enable(),
        lambda model, batch: setattr(model.config, "sliding_window", 23),
        lambda model, batch: model.model.layers.append(torch.nn.Dropout(0.1)),
        lambda model, batch: batch.update(position_ids=torch.arange(24)[None].expand(3, -1)),
        lambda model, batch: batch["labels"][0].copy_(batch["input_ids"][0]),  # no prompt
        lambda model, batch: batch["labels"].fill_(-100),  # no answer
    ],
    ids=[
        "attention dropout",
        "noise",
        "checkpointing",
        "short window",
        "dropout",
        "positions",
        "no prompt",
        "no answer",
    ],
)
def test_whole_passes_run_where_they_could_differ_or_nothing_is_shared(change, batch, calls):
    model = mistral().train()
    add_residual_forward(model)
    change(model, batch)
    model(**batch, residual=Residual(0.3))
    assert calls == []


def test_a_prompt_that_saves_less_than_the_calls_cost_is_not_shared(batch, calls, monkeypatch):
    monkeypatch.setattr(passes, "LEAST_WORK", 1e9)
    model = mistral().train()
    add_residual_forward(model)
    model(**batch, residual=Residual(0.3))
    assert calls == []


def test_lagged_predictions_and_sft_have_one_pass_and_share_nothing(batch, calls):
    model = mistral().train()
    add_residual_forward(model)
    model(**batch, residual=Residual(0.0))
    model(**batch, residual=Residual(0.3, predicted=batch["input_ids"][:, 1:]))
    assert calls == []
