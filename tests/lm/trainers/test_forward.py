"""The two passes in one call of the model, beside two passes by hand."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

import ift
from lm.trainers.forward import Residual, add_residual_forward
from lm.trainers.packing import split_sequences

ASSETS = Path(__file__).parents[2] / "assets"


def test_one_forward_call_equals_the_released_codes_two_passes():
    """Two passes by hand with the same model on the same CPU: log-probabilities, loss and every gradient, to 1e-9.

    The model's own pass rounds to float32 in places, as each CPU does it, so no recorded number stands here:
    tests/ift/test_parity.py compares the same two passes by hand with the numbers of the released code.
    """
    case = json.loads((ASSETS / "ift_mistral.json").read_text())
    model = MistralForCausalLM(MistralConfig(**case["config"], attn_implementation="eager")).double()
    model.load_state_dict({name: w.double() for name, w in load_file(ASSETS / "ift_mistral.safetensors").items()})
    ids, attention, labels = (torch.tensor(case[name]) for name in ("input_ids", "attention_mask", "labels"))
    answer, mask = labels >= 0, labels[:, 1:] >= 0

    def log_probs_and_likeliest(states):
        logits = model(inputs_embeds=states, attention_mask=attention).logits[:, :-1]
        scores = logits.log_softmax(-1).gather(-1, labels[:, 1:, None].clamp(min=0))[..., 0]
        return scores * mask, logits.argmax(-1)

    embed = model.get_input_embeddings()
    with torch.no_grad():  # the released code reads a frozen copy of the embedding
        states = embed(ids)
        plain, likeliest = log_probs_and_likeliest(states)
        predicted = torch.cat([ids[:, :1], likeliest], dim=1)
        mixed = torch.where(answer[..., None], (1 - case["lam"]) * states + case["lam"] * embed(predicted), states)
    fused, _ = log_probs_and_likeliest(mixed)
    loss = ift.ift_loss(fused, mask, case["gamma"]).mean()
    loss.backward()
    by_hand = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    add_residual_forward(model)
    residual = Residual(case["lam"], freeze_embedding=True)
    outputs = model(input_ids=ids, attention_mask=attention, labels=labels, residual=residual)
    torch.testing.assert_close(outputs.plain_log_probs, plain, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(outputs.log_probs, fused, rtol=1e-9, atol=1e-9)
    one_call_loss = ift.ift_loss(outputs.log_probs, mask, case["gamma"]).mean()
    one_call_loss.backward()
    assert one_call_loss.item() == pytest.approx(loss.item(), rel=1e-9)
    one_call = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert one_call.keys() == by_hand.keys() == case["grad_norms"].keys()
    for name, gradient in one_call.items():
        assert (gradient - by_hand[name]).norm() <= 1e-9 * by_hand[name].norm(), name


def test_split_sequences():
    log_probs = torch.tensor([[-1.0, -2.0, -3.0, -4.0, -5.0]])
    mask = torch.tensor([[True, True, False, True, True]])
    positions = torch.tensor([[1, 2, 0, 1, 2]])  # the first token of all has been shifted away
    split, split_mask = split_sequences((log_probs, mask), positions)
    assert split.tolist() == [[-1, -2, 0], [-3, -4, -5]]
    assert split_mask.tolist() == [[True, True, False], [False, True, True]]
