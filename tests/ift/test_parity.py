"""Numbers computed with the authors' released code (float64): see tests/assets/README.md."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import ift

ASSETS = Path(__file__).parents[1] / "assets"
IFT_CASES = json.loads((ASSETS / "ift_loss.json").read_text())
PAIR_CASES = json.loads((ASSETS / "preference_loss.json").read_text())


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def case_name(case):
    return "-".join(str(case[key]) for key in ("gamma", "source", "norm", "side"))


@pytest.mark.parametrize("case", IFT_CASES, ids=case_name)
def test_weights_loss_and_gradient_equal_the_released_codes(case):
    log_probs, mask = tensor(case["log_probs"]).requires_grad_(), tensor(case["mask"])
    options = {key: case[key] for key in ("source", "norm", "side")}
    close(ift.relation_weights(-log_probs, mask, case["gamma"], **options).detach(), case["weights"])
    loss = ift.ift_loss(log_probs, mask, case["gamma"], **options).mean()
    loss.backward()
    close(loss.detach(), case["loss"])
    if case["grad"] is not None:  # the released softmax over losses does not let gradients through
        close(log_probs.grad, case["grad"])


@pytest.mark.parametrize("case", PAIR_CASES, ids=lambda case: f"beta{case['beta']}-eps{case['label_smoothing']}")
def test_preference_losses_equal_the_released_codes(case):
    names = ("chosen_log_probs", "rejected_log_probs", "ref_chosen_log_probs", "ref_rejected_log_probs")
    sums = [tensor(case[name]) for name in names]
    close(ift.dpo_loss(*sums, case["beta"], case["label_smoothing"]).mean(), case["dpo"])
    close(ift.ipo_loss(*sums, case["beta"]).mean(), case["ipo"])
    means = sums[0] / tensor(case["chosen_lengths"]), sums[1] / tensor(case["rejected_lengths"])
    close(ift.orpo_loss(*means, case["beta"]).mean(), case["orpo"])


def test_a_whole_language_model_step_equals_the_released_codes():
    """Two passes through a small Mistral: predictions, mixed log-probs, weights, both losses, every gradient norm."""
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file

    case = json.loads((ASSETS / "ift_mistral.json").read_text())
    model = transformers.MistralForCausalLM(
        transformers.MistralConfig(**case["config"], attn_implementation="eager")  # other kernels round differently
    ).double()
    model.load_state_dict({name: w.double() for name, w in load_file(ASSETS / "ift_mistral.safetensors").items()})
    tokens, attention = torch.tensor(case["input_ids"]), torch.tensor(case["attention_mask"])
    labels = torch.tensor(case["labels"])
    targets, mask = labels[:, 1:].clamp(min=0), labels[:, 1:] >= 0

    def log_probs(embeddings):
        logits = model(inputs_embeds=embeddings, attention_mask=attention).logits[:, :-1]
        nll = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        return logits, -nll * mask

    embed = model.get_input_embeddings()
    states = embed(tokens).detach()  # the released code reads a frozen copy of the embedding
    with torch.no_grad():
        logits, plain = log_probs(states)
        predicted = torch.cat([tokens[:, :1], logits.argmax(-1)], dim=1)
        answer = labels >= 0
        assert (predicted[answer] == torch.tensor(case["predicted_ids"])[answer]).all()
        mixed = ift.temporal_residual(states, embed(predicted), case["lam"], answer)
    close(plain, case["log_probs_plain"])
    close(ift.sft_loss(plain, mask).mean(), case["sft_loss"])
    _, fused = log_probs(mixed)
    close(fused.detach(), case["log_probs_fused"])
    close(ift.relation_weights(-fused, mask, case["gamma"]).detach(), case["weights"])
    loss = ift.ift_loss(fused, mask, case["gamma"]).mean()
    loss.backward()
    close(loss.detach(), case["ift_loss"])
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    assert norms.keys() == case["grad_norms"].keys()
    for name, norm in norms.items():
        close(norm, case["grad_norms"][name])
