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


# transformers computes three places of a Mistral in float32, whatever the model's type is: the rotary tables (angle,
# cosine, sine), the norms, and the softmax of attention. How they round depends on the CPU's instructions, so the
# recorded numbers of the model's pass are those of one kind of CPU: with AVX2 they come out to 1e-14, with others to
# 1e-6. In float64 throughout, the pass is the same on every CPU to 1e-14, and all that lies between it and the recorded
# numbers is the rounding of those places. Their relative error is taken as one unit in the last place of float32, which
# is what the vectorised elementary functions (SLEEF) promise.
ALLOWED_ROUNDING = torch.finfo(torch.float32).eps


def compute_in_float64(monkeypatch, rounded=lambda x: x):
    """Let a Mistral compute in float64 throughout; `rounded` is applied wherever transformers rounds to float32."""
    from transformers.models.mistral import modeling_mistral as mistral

    def norm(self, states):
        scale = torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * rounded(states * scale)

    def tables(self, states, position_ids):
        exponents = torch.arange(0, self.config.head_dim, 2, dtype=torch.float64) / self.config.head_dim
        angles = rounded(position_ids[..., None] * self.config.rope_parameters["rope_theta"] ** -exponents)
        angles = torch.cat([angles, angles], dim=-1)
        return rounded(angles.cos()), rounded(angles.sin())

    def attention(module, query, key, value, attention_mask, scaling, **options):
        key, value = (mistral.repeat_kv(states, module.num_key_value_groups) for states in (key, value))
        weights = rounded((query @ key.transpose(2, 3) * scaling + attention_mask).softmax(-1))
        return (weights @ value).transpose(1, 2).contiguous(), weights

    monkeypatch.setattr(mistral.MistralRMSNorm, "forward", norm)
    monkeypatch.setattr(mistral.MistralRotaryEmbedding, "forward", tables)
    monkeypatch.setattr(mistral, "eager_attention_forward", attention)


def random_rounding(seed):
    """Relative errors of at most ALLOWED_ROUNDING, uniform, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)

    def rounded(x):
        errors = 2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1
        return x * (1 + ALLOWED_ROUNDING * errors)

    return rounded


def two_passes(model, case):
    """The released code's step, by hand: what the recorded file holds, from the model's own passes."""
    tokens, attention = torch.tensor(case["input_ids"]), torch.tensor(case["attention_mask"])
    labels = torch.tensor(case["labels"])
    answer, targets, mask = labels >= 0, labels[:, 1:].clamp(min=0), labels[:, 1:] >= 0

    def log_probs(embeddings):
        logits = model(inputs_embeds=embeddings, attention_mask=attention).logits[:, :-1]
        nll = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        return logits, -nll * mask

    model.zero_grad()
    embed = model.get_input_embeddings()
    states = embed(tokens).detach()  # the released code reads a frozen copy of the embedding
    with torch.no_grad():
        logits, plain = log_probs(states)
        predicted = torch.cat([tokens[:, :1], logits.argmax(-1)], dim=1)
        mixed = ift.temporal_residual(states, embed(predicted), case["lam"], answer)
    _, fused = log_probs(mixed)
    loss = ift.ift_loss(fused, mask, case["gamma"]).mean()
    loss.backward()
    assert torch.equal(predicted[answer], torch.tensor(case["predicted_ids"])[answer])
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == case["grad_norms"].keys()
    return {
        "log_probs_plain": plain,
        "log_probs_fused": fused.detach(),
        "sft_loss": ift.sft_loss(plain, mask).mean(),
        "ift_loss": loss.detach(),
        "weights": ift.relation_weights(-fused, mask, case["gamma"]).detach(),
        "log_grad_norms": torch.stack([gradients[name].norm() for name in case["grad_norms"]]).log(),
    }


def distances(one, other):
    """The largest difference of each quantity; of a logarithm of a norm, that is the norm's relative difference."""
    return {name: (one[name] - other[name]).abs().max().item() for name in one}


def test_losses_of_the_recorded_language_model_step_equal_the_released_codes():
    """Only our code lies between recorded log-probabilities and recorded weights and losses: to 1e-9 on every CPU."""
    case = json.loads((ASSETS / "ift_mistral.json").read_text())
    mask = torch.tensor(case["labels"])[:, 1:] >= 0
    plain, fused = tensor(case["log_probs_plain"]), tensor(case["log_probs_fused"])
    close(ift.sft_loss(plain, mask).mean(), case["sft_loss"])
    close(ift.relation_weights(-fused, mask, case["gamma"]), case["weights"])
    close(ift.ift_loss(fused, mask, case["gamma"]).mean(), case["ift_loss"])


def test_a_whole_language_model_step_equals_the_released_codes(monkeypatch):
    """Two passes through a small Mistral: predictions, log-probabilities, weights, both losses, every gradient norm.

    In float64 throughout, they differ from the recorded ones by what rounding three places to float32 makes of them:
    by no more than the largest of ten draws of such rounding, which is 3e-6 for log-probabilities, 4e-7 of a norm.
    """
    import transformers
    from safetensors.torch import load_file

    case = json.loads((ASSETS / "ift_mistral.json").read_text())
    names = ("log_probs_plain", "log_probs_fused", "sft_loss", "ift_loss", "weights")
    recorded = {name: tensor(case[name]) for name in names}
    recorded["log_grad_norms"] = tensor(list(case["grad_norms"].values())).log()
    model = transformers.MistralForCausalLM(
        transformers.MistralConfig(**case["config"], attn_implementation="eager")
    ).double()
    model.load_state_dict({name: w.double() for name, w in load_file(ASSETS / "ift_mistral.safetensors").items()})

    as_transformers_computes_it = two_passes(model, case)
    compute_in_float64(monkeypatch)
    exact = two_passes(model, case)
    draws = []
    for seed in range(10):
        compute_in_float64(monkeypatch, random_rounding(seed))
        draws.append(distances(two_passes(model, case), exact))
    allowed = {name: max(draw[name] for draw in draws) for name in exact}
    assert allowed["log_probs_plain"] < 5e-6  # small: a λ that is 0.001 off moves a thousand times as far
    for step in (recorded, as_transformers_computes_it):
        for name, distance in distances(exact, step).items():
            assert distance <= allowed[name], f"{name}: {distance:.2e} where float32 allows {allowed[name]:.2e}"
