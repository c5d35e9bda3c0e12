"""A loss that does not do what its value says is refused before anything is trained with it."""

import pytest
import torch

import ift
from ift.trying import try_method

K = ift.Number("k", "a number", 1.0, 1.0)


def method(loss, **changes):
    values = {"name": "bad", "title": "", "help": "", "learns_from": "targets", "loss": loss, **changes}
    return ift.Method(**values)


@pytest.mark.parametrize("name", ift.METHODS)
def test_every_method_of_this_project_passes(name):
    try_method(ift.METHODS[name])


def test_losses_that_read_more_pass():
    def held(log_probs, mask, policy, reference_policy, k=1.0):
        return -log_probs + k * (reference_policy.exp() * (reference_policy - policy)).sum(-1)

    def weighed(log_probs, mask, *, reference, k):
        return ift.masked_mean(-(log_probs - reference).detach().exp().clamp(max=k) * log_probs, mask)

    try_method(method(held, reads=("policy", "reference_policy"), numbers=(K,)))
    try_method(method(weighed, reads=("reference",), numbers=(K,)))
    assert method(weighed, reads=("reference",)).needs_reference


BAD = {
    "one number for all": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask).mean(),
        {},
        "gives the shape \\(\\)",
    ),
    "tokens": (lambda log_probs, mask: -log_probs, {}, r"gives the shape \(2, 3, 4\) where one value per sequence is"),
    "not a tensor": (lambda log_probs, mask: 1.0, {}, "gives a float, it must give a tensor"),
    "no gradient": (lambda log_probs, mask: ift.masked_mean(-log_probs.detach(), mask), {}, "has no gradient"),
    "gradient 0": (lambda log_probs, mask: ift.masked_mean(0 * log_probs, mask), {}, "has no gradient"),
    "nan": (lambda log_probs, mask: ift.masked_mean(log_probs.log(), mask), {}, "is not a finite number on a small"),
    "nan without tokens": (
        lambda log_probs, mask: -(log_probs * mask).sum(-1) / mask.sum(-1),
        {},
        "not a finite number for a sequence without any token: ift.masked_mean gives 0 there",
    ),
    "gradient nan": (
        lambda log_probs, mask: ift.masked_mean((log_probs - log_probs).sqrt() - log_probs, mask),
        {},
        "the gradient of its loss is not a finite number",
    ),
    "mask forgotten": (lambda log_probs, mask: -log_probs.mean(-1), {}, "tokens that the mask leaves out"),
    "batch mean": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask) + ift.masked_mean(-log_probs, mask).mean(),
        {},
        "depends on the others beside it",
    ),
    "reference not declared": (
        lambda log_probs, mask, reference: ift.masked_mean(reference - log_probs, mask),
        {},
        "takes 'reference', which its value does not declare: add it to reads",
    ),
    "reference with a default": (
        lambda log_probs, mask, reference=None: ift.masked_mean(-log_probs, mask),
        {},
        "takes 'reference', which its value does not declare",
    ),
    "rewards": (
        lambda log_probs, mask, rewards: ift.masked_mean(-rewards * log_probs, mask),
        {},
        "takes 'rewards', which its value does not declare: .*learns from targets is given",
    ),
    "declared in vain": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask),
        {"reads": ("reference",)},
        "declares 'reference', which its loss does not take",
    ),
    "number in vain": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask),
        {"numbers": (K,)},
        "declares 'k', which its loss does not take",
    ),
    "bad default": (
        lambda log_probs, mask, k: ift.masked_mean(-k * log_probs, mask),
        {"numbers": (ift.Number("k", "", 0.0, 1.0, above_low=True),)},
        "the default of k must be a finite number above 0, got 0.0",
    ),
    "too few arguments": (lambda log_probs: -log_probs.sum(-1), {}, r"must take \(log_probs, mask\) first"),
    "fails": (lambda log_probs, mask: torch.zeros(3) + torch.zeros(4), {}, "fails on a small example \\(RuntimeError"),
    "averages a policy": (
        lambda log_probs, mask, policy: ift.masked_mean(policy.sum(-1), mask),
        {"reads": ("policy",)},
        r"gives the shape \(2, 3\) where one value per token",
    ),
    "unknown read": (lambda log_probs, mask, critic: log_probs, {"reads": ("critic",)}, "reads names 'critic'"),
    "unknown source": (lambda log_probs, mask: log_probs, {"learns_from": "air"}, "learns_from must be one of"),
    "mixed without lam": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask),
        {"states": "mixed"},
        "needs a number 'lam'",
    ),
    "states of another kind": (
        lambda log_probs, mask: ift.masked_mean(-log_probs, mask),
        {"states": "own"},
        "its states must be target or mixed or replaced or noisy as it learns from targets",
    ),
    "pairs in noise": (
        lambda chosen, rejected, noise: rejected - chosen,
        {"learns_from": "pairs", "states": "noisy", "numbers": (ift.Number("noise", "", 1.0, 1.0),)},
        "its states must be target as it learns from pairs",
    ),
    "pairs": (lambda chosen, rejected: (rejected - chosen).mean(), {"learns_from": "pairs"}, "one value per pair"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_loss_is_refused_by_name(name):
    loss, changes, message = BAD[name]
    with pytest.raises(ValueError, match=f"^method 'bad': .*({message})"):
        try_method(method(loss, **changes))


def test_a_method_from_outside_is_tried_before_it_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("IFT_METHODS", "")
    file = tmp_path / "broken.py"
    file.write_text(
        "import ift\nbroken = ift.Method('broken', '', '', 'targets', lambda log_probs, mask: -log_probs.mean(-1))\n"
    )
    try:
        with pytest.raises(ValueError, match="method 'broken': its loss depends on tokens that the mask leaves out"):
            ift.method_names(f"{file}:broken")
    finally:
        ift.METHODS.pop("broken", None)
        ift.METHODS.origins.pop("broken", None)


@pytest.mark.parametrize(
    ("raised", "message"), [(SystemExit(7), r"\(SystemExit: 7\)"), (GeneratorExit(), r"\(GeneratorExit\)")]
)
def test_a_loss_that_ends_python_is_refused_by_name(raised, message):
    def ends(log_probs, mask):
        raise raised

    with pytest.raises(ValueError, match=f"^method 'bad': its loss fails on a small example {message}"):
        try_method(method(ends))


def test_an_interrupt_in_a_loss_is_an_interrupt():
    def interrupted(log_probs, mask):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_method(method(interrupted))
