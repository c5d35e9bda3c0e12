"""Standing still beside the target for language models, against slow definitions."""

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

import ift
from lm import StillConfig, StillTrainer
from lm.lake import make_model, make_tokenizer
from lm.trainers.beside import SHARE, states_beside, with_states
from lm.trainers.forward import Residual, add_residual_forward

PAD, EOS = 0, 1


@pytest.fixture
def rows():
    """Four examples of 10 to 13 tokens, the answers of 5 to 8; the last token of each ends it."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for length in (10, 11, 12, 13):
        ids = [*torch.randint(6, 15, (length - 1,), generator=generator).tolist(), EOS]
        made.append({"input_ids": ids, "labels": [-100] * 5 + ids[5:]})
    return made


@pytest.fixture
def models():
    """A policy and a start policy, both random."""
    return make_model(make_tokenizer(), 1), make_model(make_tokenizer(), 2)


def make(model, rows, tmp_path, ref_model=None, peft_config=None, **options):
    defaults = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-3,
        "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no",
        "gradient_checkpointing": False, "disable_tqdm": True, "warmup_steps": 0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    return StillTrainer(
        copy.deepcopy(model), StillConfig(**(defaults | options)), ref_model, train_dataset=Dataset.from_list(rows),
        processing_class=make_tokenizer(), peft_config=peft_config,
    )  # fmt: skip


def log_policy(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)


def slow_beside(start, row, count):
    """(tokens before, token tried, chance) of the likeliest steps of the start policy's own, by the definition."""
    found = []
    for place in range(5, len(row["input_ids"])):
        said = log_policy(start, row["input_ids"][:place]).clone()
        said[[row["input_ids"][place], EOS]] = -torch.inf
        found.append((place, int(said.argmax()), float(said.max().exp())))
    kept = sorted(found, key=lambda each: -each[2])[:count]
    total = sum(chance for _, _, chance in kept)
    return [(place, token, chance / total) for place, token, chance in kept]


def slow_loss(policy, start, row, options, fitted):
    """The loss of one example, a row of the model per state."""
    sharpness, trust = fitted
    target = []
    for place in range(5, len(row["input_ids"])):
        token = row["input_ids"][place]
        log_pi, log_start = (log_policy(model, row["input_ids"][:place]) for model in (policy, start))
        sharp = (log_start * sharpness).softmax(-1)
        near = torch.exp(-(log_start - log_start[token]).abs() / options["ties"])
        mass = trust * (sharp * near).sum()
        wanted = mass * near / near.sum()
        wanted[token] += 1 - mass
        target.append(-(wanted * log_pi).sum())
    drift = 0.0
    for place, token, share in slow_beside(start, row, 2):
        log_pi, log_start = (log_policy(model, [*row["input_ids"][:place], token]) for model in (policy, start))
        sharp = (log_start * sharpness).log_softmax(-1)
        drift += share * float((sharp.exp() * (sharp - log_pi)).sum())
    return float(torch.stack(target).mean()) + options["hold"] * drift


def test_the_states_beside_the_target_are_those_of_rows_of_their_own(rows, models):
    """In one pass: what is said after a token that is tried, and in the target's own states, with padding behind."""
    model, start = models
    add_residual_forward(start)
    length = max(len(row["input_ids"]) for row in rows)
    pad = [length - len(row["input_ids"]) for row in rows]
    inputs = {
        "input_ids": torch.tensor([row["input_ids"] + [PAD] * n for row, n in zip(rows, pad, strict=True)]),
        "labels": torch.tensor([row["labels"] + [-100] * n for row, n in zip(rows, pad, strict=True)]),
        "attention_mask": torch.tensor(
            [[1] * len(row["input_ids"]) + [0] * n for row, n in zip(rows, pad, strict=True)]
        ),
    }
    head = start(**inputs, residual=Residual(0.0, as_reference=True)).reference
    beside = states_beside(head, inputs["labels"], [EOS])
    assert beside.tokens.shape == (4, round(SHARE * 8))
    longer = with_states(inputs, beside, torch.float32)
    longer.pop("labels")
    with torch.no_grad():
        said = model(**longer).logits.log_softmax(-1)
    for number, row in enumerate(rows):
        ids = row["input_ids"]
        torch.testing.assert_close(said[number, len(ids) - 1], log_policy(model, ids), rtol=1e-4, atol=1e-5)
        expected = slow_beside(start, row, 2)
        for state, (place, token, share) in enumerate(expected):
            assert (int(beside.places[number, state]), int(beside.tokens[number, state])) == (place, token)
            assert float(beside.visits[number, state]) == pytest.approx(share, rel=1e-4)
            own = log_policy(model, [*ids[:place], token])
            torch.testing.assert_close(said[number, length + state], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_loss_is_that_of_its_definition(chunk, attention, rows, models, tmp_path, monkeypatch):
    policy, start = models
    for model in models:
        model.set_attn_implementation(attention)
    trainer = make(policy, rows, tmp_path, start, hold=2.0, ties=0.3, sharpest=3.0, max_steps=1)
    monkeypatch.setattr(trainer, "_fit", lambda model: (1.7, 0.6))
    monkeypatch.setattr("ift.heads.CHUNK", chunk)
    trainer.train()
    losses = [slow_loss(policy, start, row, {"hold": 2.0, "ties": 0.3}, (1.7, 0.6)) for row in rows]
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(losses) / 4, rel=1e-4)


def test_sharpness_and_trust_are_those_of_the_data(rows, models, tmp_path):
    policy, start = models
    trainer = make(policy, rows, tmp_path, start)
    trainer.train()
    said, every = [], []
    for row in rows:
        for place in range(5, len(row["input_ids"])):
            every.append(log_policy(start, row["input_ids"][:place]))
            said.append(every[-1][row["input_ids"][place]])
    said, every = torch.stack(said), torch.stack(every)
    scores = {t / 100: float((t / 100 * said - (t / 100 * every).logsumexp(-1)).mean()) for t in range(801)}
    best = max(scores, key=scores.get)
    logged = trainer.state.log_history[0]
    assert logged["sharpness"] == pytest.approx(best, abs=0.02)
    trust = max(0, 1 + scores[best] / torch.tensor(float(every.shape[-1])).log().item())
    assert logged["trust"] == pytest.approx(trust, abs=0.01)


def test_examples_are_asked_about_once(rows, models, tmp_path, monkeypatch):
    policy, start = models
    trainer = make(policy, rows, tmp_path, start, max_steps=4)
    asked = []
    plain = trainer.ask_reference

    def counting(model, inputs):
        asked.append(inputs["input_ids"].shape)
        return plain(model, inputs)

    monkeypatch.setattr(trainer, "ask_reference", counting)
    trainer.train()
    longer = [shape for shape in asked if shape[1] > 13]
    assert len(longer) == 4
    assert len(asked) - len(longer) == 2  # for sharpness and trust, and for the steps of the only batch


@pytest.mark.parametrize("adapter", [False, True])
def test_a_policy_that_is_its_own_start_is_held_where_it_is(adapter, rows, models, tmp_path):
    """Without sharpening there is no drift at first; the model moves, its start does not, and then there is some."""
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None
    trainer = make(models[0], rows, tmp_path, peft_config=lora, learning_rate=1e-2, max_steps=6)
    trainer._fitted = (1.0, 0.0)
    trainer.train()
    drifts = [row["drift"] for row in trainer.state.log_history if "drift" in row]
    assert drifts[0] == pytest.approx(0, abs=1e-5)
    assert drifts[-1] > 1e-3
    losses = [row["sft_loss"] for row in trainer.state.log_history if "sft_loss" in row]
    assert losses[-1] < losses[0]


def test_no_hold_and_no_ties_is_sft(rows, models, tmp_path):
    trainer = make(models[0], rows, tmp_path, models[1], hold=0.0, ties=0.0, max_steps=1)
    trainer.train()
    losses = []
    for row in rows:
        said = [-log_policy(models[0], row["input_ids"][:i])[row["input_ids"][i]] for i in range(5, len(row["labels"]))]
        losses.append(torch.stack(said).mean())
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    logits, start = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    start = start.log_softmax(-1)
    wanted = torch.randint(5, (6, 1), generator=generator)
    beside = torch.tensor([False, True] * 3)

    def loss(logits):
        policy = logits.log_softmax(-1)
        said, before = (table.gather(-1, wanted)[:, 0] for table in (policy, start))
        return ift.still_token_loss(said, policy, before, start, beside, 1.5, 0.7, 0.4)

    assert torch.autograd.gradcheck(loss, (logits,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hold": -1.0}, "hold must be a finite number of at least 0, got -1"),
        ({"packing": True}, "packing and padding_free must be off with still"),
    ],
)
def test_bad_options_are_refused_by_name(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        StillConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)
