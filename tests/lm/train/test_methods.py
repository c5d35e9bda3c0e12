"""TRL's losses and the core's are the same numbers, on the same rows."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl.experimental.orpo import ORPOTrainer

import ift
from lm.train import methods, tokens
from lm.train.command_line import parse
from lm.trainers.forward import Residual, add_residual_forward

CUT = tokens.Cut(64, 32)


@pytest.fixture
def pairs(sums, tokenizer):
    rows = [
        {"prompt": [{"role": "user", "content": row["prompt"]}],
         "chosen": [{"role": "assistant", "content": row["completion"]}],
         "rejected": [{"role": "assistant", "content": f"{i} = 7"}]}
        for i, row in enumerate(sums)
    ]  # fmt: skip
    return tokens.encode(Dataset.from_list(rows), tokenizer, CUT)[0]


def trainer_of(method, model, reference, tokenizer, rows, tmp_path, *arguments):
    settings = parse(["--method", method, "--output-dir", str(tmp_path), *arguments])
    options = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none", "seed": 0,
               "per_device_train_batch_size": 8, "gradient_checkpointing": False, "disable_tqdm": True}  # fmt: skip
    args = methods.make_arguments(settings, options)
    return methods.make_trainer(settings, args, model, reference, rows, None, processing_class=tokenizer)


def answer_log_probs(model, inputs):
    """Log-probabilities `[2 × pairs, tokens]` of the answers by the plain definition, and where they are."""
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    mask = inputs["completion_mask"][:, 1:].bool()
    return logits.log_softmax(-1).gather(-1, inputs["input_ids"][:, 1:, None])[..., 0] * mask, mask


@pytest.mark.parametrize("method", ["dpo", "ipo", "orpo", "simpo"])
def test_a_trainers_loss_is_the_cores(method, model, saved_model, tokenizer, pairs, tmp_path):
    reference = AutoModelForCausalLM.from_pretrained(saved_model)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    plain, plain_reference = copy.deepcopy(model), copy.deepcopy(reference)
    given = reference if method in ("dpo", "ipo") else None
    trainer = trainer_of(method, model, given, tokenizer, pairs, tmp_path, "--beta", "0.7", "--margin", "0.3")
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(6)])
    inputs.pop("example_id")
    trainer.model.train()
    found = trainer.compute_loss(trainer.model, dict(inputs))
    log_probs, mask = answer_log_probs(plain, inputs)
    (chosen, rejected), (mean_chosen, mean_rejected) = (
        log_probs.sum(-1).chunk(2),
        ift.masked_mean(log_probs, mask).chunk(2),
    )
    reference_log_probs, _ = answer_log_probs(plain_reference, inputs)
    sums, means = (part.chunk(2) for part in (reference_log_probs.sum(-1), ift.masked_mean(reference_log_probs, mask)))
    expected = {
        "dpo": lambda: ift.dpo_loss(chosen, rejected, *sums, 0.7),
        # TRL averages IPO's log-probabilities over their tokens, as its authors do.
        "ipo": lambda: ift.ipo_loss(mean_chosen, mean_rejected, *means, 0.7),
        "orpo": lambda: ift.orpo_loss(mean_chosen, mean_rejected, 0.7),
        "simpo": lambda: ift.simpo_loss(mean_chosen, mean_rejected, 0.7, 0.3),
    }[method]()
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_trls_orpo_agrees_with_the_cores():
    """Its odds-ratio term; its likelihood term also counts the prompt, ours the answer alone, as the paper."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected = -torch.rand(2, 10, generator=generator) * 3 - 0.01
    fake = type("Fake", (), {"beta": 0.25, "odds_ratio_loss": ORPOTrainer.odds_ratio_loss,
                             "accelerator": type("A", (), {"device": "cpu"})()})()  # fmt: skip
    losses = ORPOTrainer.odds_ratio_loss(fake, chosen, rejected)[0]
    torch.testing.assert_close(-chosen - losses, ift.orpo_loss(chosen, rejected, 0.25))


def test_no_reference_model_is_kept_where_none_is_needed(model, tokenizer, pairs, tmp_path):
    trainer = trainer_of("orpo", model, None, tokenizer, pairs, tmp_path)
    assert trainer.ref_model is None
    assert "ref_chosen_logps" not in trainer.train_dataset.column_names


@pytest.mark.parametrize("batch", [2, 4, 8])
def test_kto_sees_every_answer_and_no_prompt_with_its_own_for_the_kl(pairs, saved_model, tokenizer, tmp_path, batch):
    rows = methods.unpaired(pairs)
    assert rows["label"][:4] == [True, False, True, False]
    own = {(*row["prompt_ids"], -1, *row[name]) for row in pairs for name in ("chosen_ids", "rejected_ids")}
    assert {(*row["prompt_ids"], -1, *row["completion_ids"]) for row in rows} == own
    options = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none",
               "per_device_train_batch_size": batch}  # fmt: skip
    settings = parse(["--method", "kto", "--output-dir", str(tmp_path)])
    models = [AutoModelForCausalLM.from_pretrained(saved_model) for _ in range(2)]
    args = methods.make_arguments(settings, options)
    trainer = methods.make_trainer(settings, args, *models, pairs, None, processing_class=tokenizer)
    paired = trainer.train_dataset
    assert not [row for row in paired if (*row["prompt_ids"], -1, *row["KL_completion_ids"]) in own]


def test_lam_0_in_one_pass_is_the_plain_forward(model, saved_model, tokenizer, pairs):
    add_residual_forward(model)
    row = torch.tensor([pairs[0]["prompt_ids"] + pairs[0]["chosen_ids"]])
    labels = row.clone()
    labels[:, : len(pairs[0]["prompt_ids"])] = -100
    with torch.no_grad():
        outputs = model(input_ids=row, labels=labels, residual=Residual(0.0))
        logits = AutoModelForCausalLM.from_pretrained(saved_model, attn_implementation="eager")(input_ids=row).logits
    expected = logits[:, :-1].log_softmax(-1).gather(-1, row[:, 1:, None])[..., 0]
    mask = labels[:, 1:] >= 0
    torch.testing.assert_close(outputs.log_probs[mask], expected[mask])
    assert outputs.plain_log_probs is None
