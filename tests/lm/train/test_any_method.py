"""A method that stands in `ift.METHODS` alone is trained by the command; one that cannot be is refused by name."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import ift
from lm.train import __main__ as train
from lm.train import data, tokens
from lm.train.settings import TrainSettings


def cpo_loss(chosen, rejected, beta):
    """−log σ(β(ℓ_c − ℓ_r)) − ℓ_c (CPO 2401.08417), summed log-probabilities."""
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)) - chosen


def margin_loss(chosen, rejected, ref_chosen, ref_rejected, beta, slack):
    return torch.relu(slack - beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


def power_loss(log_probs, mask, power):
    """−p^k, mean over the answer's tokens (2510.00526)."""
    return ift.masked_mean(-(power * log_probs).exp(), mask)


BETA = ift.Number("beta", "β of the methods that learn from pairs", 1.0, 0.3, above_low=True)
CPO = ift.Method("cpo", "Contrastive preference optimisation", "", "pairs", cpo_loss, (BETA,))
MARGIN = ift.Method(
    "hinge", "A margin to a reference", "", "pairs", margin_loss,
    (BETA, ift.Number("slack", "what is to be reached", 1.0, 0.7)), needs_reference=True, answer="mean",
)  # fmt: skip
POWER = ift.Method(
    "power", "Powers of the probability", "", "targets", power_loss, (ift.Number("power", "k", 1.0, 0.5),)
)


@pytest.fixture
def pairs(sums, tmp_path):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": f"{i} = 7"} for i, r in enumerate(sums)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def call(monkeypatch, saved_model, pairs, tmp_path):
    """Train with a method for one update of 8, one at a time; the folder."""

    def called(method, *arguments, folder="out"):
        monkeypatch.setitem(ift.METHODS, method.name, method)
        words = ["--model", saved_model, "--dataset", f"{pairs}:8", "--output-dir", tmp_path / folder, "--method",
                 method.name, "--max-length", 64, "--max-prompt-length", 32, "--batch-size", 8,
                 "--per-device-train-batch-size", 4, "--learning-rate", 1e-2, "--logging-steps", 1, "--max-steps", 2,
                 "--chat-template", "none", *arguments]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
        train.main()
        return tmp_path / folder

    return called


def answer_log_probs(folder, pairs, seed=0):
    """Log-probabilities of each answer's tokens by the plain definition: (chosen, rejected) of each of the pairs."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    rows, _ = tokens.encode(data.load((f"{pairs}:8",), True, seed), tokenizer, tokens.Cut(64, 32))
    said = []
    for row in rows:
        for name in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([row["prompt_ids"] + row[name]])
            with torch.no_grad():
                log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            said.append(log_probs[len(row["prompt_ids"]) - 1 :])
    return list(zip(said[::2], said[1::2], strict=True))


def first_loss(folder):
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])["loss"]


def moved(folder, saved_model):
    trained, start = (load_file(path / "model.safetensors") for path in (folder / "model", saved_model))
    return any(not torch.equal(trained[name], start[name]) for name in start)


@pytest.mark.parametrize("arguments", [[], ["--beta", "0.9"]])
def test_a_method_of_pairs_without_reference(arguments, call, saved_model, pairs):
    folder = call(CPO, *arguments)
    beta = float(arguments[1]) if arguments else 0.3
    losses = [cpo_loss(c.sum(), r.sum(), beta) for c, r in answer_log_probs(saved_model, pairs)]
    assert first_loss(folder) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert moved(folder, saved_model)
    card = (folder / "model" / "README.md").read_text()
    assert "fine-tuned with CPO" in card
    assert "method: cpo" in card


@pytest.mark.parametrize("arguments", [[], ["--trainer", "precompute_ref_log_probs=true"], ["--lora-r", "4"]])
def test_a_method_of_pairs_with_a_reference(arguments, call, saved_model, pairs):
    """At first policy and reference are one, so the loss is the slack; it is the reference's afterwards, too."""
    folder = call(MARGIN, *arguments, "--lr-scheduler-type", "constant", "--warmup-steps", 0)
    assert first_loss(folder) == pytest.approx(0.7, rel=1e-5)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[1]["loss"] < 0.7
    assert rows[1]["rewards/margins"] > 0


def test_the_references_log_probabilities_are_summed_or_averaged_as_the_method_says(call, saved_model, pairs, tmp_path):
    seen = []

    def spying(chosen, rejected, ref_chosen, ref_rejected, beta):
        seen.append(torch.stack([chosen, rejected, ref_chosen, ref_rejected]).detach())
        return chosen - rejected

    for answer in ("sum", "mean"):
        method = ift.Method(f"spy{answer}", "", "", "pairs", spying, (BETA,), needs_reference=True, answer=answer)
        call(method, "--max-steps", 1, folder=answer)
        values = torch.cat(seen, 1)
        seen.clear()
        reduce = torch.sum if answer == "sum" else torch.mean
        expected = [[reduce(part).item() for part in pair] for pair in answer_log_probs(saved_model, pairs)]
        torch.testing.assert_close(values[0].sort()[0], torch.tensor(expected)[:, 0].sort()[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values[:2], values[2:], rtol=1e-4, atol=1e-5)


def test_a_method_of_targets(call, saved_model, pairs):
    folder = call(POWER)
    losses = []
    for chosen, _ in answer_log_probs(saved_model, pairs):
        losses.append(power_loss(chosen, torch.ones_like(chosen), 0.5))
    assert first_loss(folder) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert moved(folder, saved_model)
    assert "fine-tuned with POWER" in (folder / "model" / "README.md").read_text()


def all_log_probs(folder, pairs):
    """log π(· | s) of every answer token, `[tokens, vocabulary]` for each chosen answer, by the plain definition."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    rows, _ = tokens.encode(data.load((f"{pairs}:8",), True, 0), tokenizer, tokens.Cut(64, 32))
    for row in rows:
        ids = torch.tensor([row["prompt_ids"] + row["chosen_ids"]])
        with torch.no_grad():
            yield model(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize("arguments", [[], ["--lora-r", "4"], ["--packing", "--batch-size", "4"]])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_a_method_that_reads_policies(arguments, chunk, call, saved_model, pairs, monkeypatch):
    """Its loss is that of all logits at once; the reference is the start, and stays it while the model learns."""
    monkeypatch.setattr("ift.heads.CHUNK", chunk)
    folder = call(HELD, *arguments, "--lr-scheduler-type", "constant", "--warmup-steps", 0)
    entropies = [-(p.exp() * p).sum(-1).mean() for p in all_log_probs(saved_model, pairs)]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(torch.stack(entropies).mean().item(), rel=1e-4)
    assert rows[0]["sft_loss"] > rows[0]["loss"]
    assert moved(folder, saved_model) if "--lora-r" not in arguments else (folder / "model").is_dir()


def held_loss(log_probs, mask, policy, reference, reference_policy, pull):
    """The cross-entropy to the start policy, and nothing of the target but a trace: at first its entropy."""
    ratio = (log_probs - reference).exp()
    return -(reference_policy.exp() * policy).sum(-1) - pull * (ratio - 1)


HELD = ift.Method(
    "held", "Held", "", "targets", held_loss, (ift.Number("pull", "", 0.5, 0.5),),
    reads=("policy", "reference", "reference_policy"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["asft", "eaft", "gem", "iwsft", "psft", "power"])
def test_a_cousins_first_loss_is_that_of_all_logits_at_once(name, call, saved_model, pairs, monkeypatch):
    monkeypatch.setattr("ift.heads.CHUNK", 5)
    method = ift.METHODS[name]
    losses = []
    for (chosen, _), policy in zip(
        answer_log_probs(saved_model, pairs), all_log_probs(saved_model, pairs), strict=True
    ):
        reads = {"policy": policy, "reference": chosen, "reference_policy": policy}  # the reference is the start
        numbers = {number: method.number(number).text for number in method.loss_numbers}
        mask = torch.ones_like(chosen)
        losses.append(method.loss(chosen, mask, **{key: reads[key] for key in method.reads}, **numbers).mean())
    folder = call(method, "--max-steps", 1)
    assert first_loss(folder) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_psfts_reference_is_the_model_a_few_updates_ago(call):
    """Ratios are 1 at the update after a refresh and not at others; a batch is read again with its own numbers."""
    arguments = ["--max-steps", 4, "--lr-scheduler-type", "constant", "--warmup-steps", 0, "--batch-size", 4]
    losses = {}
    for refresh in (1, 2):
        folder = call(ift.METHODS["psft"], *arguments, "--refresh", refresh, folder=f"every-{refresh}")
        losses[refresh] = [json.loads(row).get("loss") for row in (folder / "log.jsonl").read_text().splitlines()][:4]
    assert losses[1] == pytest.approx([-1] * 4, abs=1e-5)
    assert losses[2][::2] == pytest.approx([-1] * 2, abs=1e-5)
    assert abs(losses[2][1] + 1) > 1e-4
    assert abs(losses[2][3] + 1) > 1e-4


def test_neftunes_noise_and_scheduled_samplings_tokens_are_trls_and_ifts_trainers(call, saved_model, pairs):
    """Without noise, and without replaced tokens, both are SFT; with them, they are not."""
    expected = torch.stack([-chosen.mean() for chosen, _ in answer_log_probs(saved_model, pairs)]).mean().item()
    for name, option in (("neftune", "--noise"), ("scheduled", "--lam")):
        with_none, with_much = (
            first_loss(call(ift.METHODS[name], "--max-steps", 1, option, value, folder=f"{name}-{value}"))
            for value in (0, 1)
        )
        assert with_none == pytest.approx(expected, rel=1e-4), name
        assert with_much != pytest.approx(expected, rel=1e-4), name


def weighed_loss(log_probs, mask, reference):
    return ift.masked_mean(-(log_probs - reference).exp(), mask)


WEIGHED = ift.Method("weighed", "Weighed", "", "targets", weighed_loss, reads=("reference",))


@pytest.mark.parametrize("arguments", [[], ["--lora-r", "4"], ["--packing", "--batch-size", "4"]])
def test_a_method_that_reads_the_references_log_probabilities(arguments, call):
    """At first policy and reference are one, so every ratio is 1; then the policy leaves the reference behind."""
    folder = call(WEIGHED, *arguments, "--lr-scheduler-type", "constant", "--warmup-steps", 0)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(-1, rel=1e-5)
    assert rows[-2]["loss"] < -1


def test_a_method_of_targets_takes_packed_rows_apart(call, saved_model, pairs):
    """Sequences count alike wherever they stand; so the loss of packed rows is that of rows of their own."""
    plain, packed = call(POWER), call(POWER, "--packing", "--batch-size", "4", folder="packed")
    assert first_loss(packed) == pytest.approx(first_loss(plain), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (ift.METHODS["ppo"], "it learns from rollouts; take one of"),
        (ift.Method("lone", "", "", "pairs", cpo_loss, unpaired=True), "its loss takes single answers"),
        (ift.Method("stir", "", "", "targets", power_loss, states="mixed"), "it is trained in mixed states"),
        (ift.METHODS["spin"], "it draws its negatives anew"),
        (ift.METHODS["dagger"], "it learns from the optimal policy, which only a lake has"),
        (ift.Method("aside", "", "", "targets", power_loss, reads=("beside",)), "it reads states beside the target"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_method_that_cannot_be_trained_is_refused_by_name(method, message, monkeypatch):
    monkeypatch.setitem(ift.METHODS, method.name, method)
    with pytest.raises(ValueError, match=f"method '{method.name}' cannot be trained on a language model: {message}"):
        TrainSettings(method=method.name)


def test_numbers_are_as_given_or_the_methods_own(monkeypatch):
    monkeypatch.setitem(ift.METHODS, "hinge", MARGIN)
    assert TrainSettings(method="hinge").numbers == {"beta": 0.3, "slack": 0.7}
    assert TrainSettings(method="hinge", beta=2.0).numbers == {"beta": 2.0, "slack": 0.7}
    assert TrainSettings(method="simpo").numbers == {"beta": 2.0, "margin": 0.5}
    focal = ift.Method("focal", "", "", "targets", power_loss, (ift.Number("gamma", "the focus", 2.0, 0.5),))
    monkeypatch.setitem(ift.METHODS, "focal", focal)
    assert TrainSettings(method="focal").numbers == {"gamma": 0.5}
    assert TrainSettings(method="ift").numbers == {"lam": 0.2, "gamma": 0.95}
    with pytest.raises(ValueError, match="beta must be a finite number above 0, got 0"):
        TrainSettings(method="hinge", beta=0.0)
