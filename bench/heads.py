"""Losses that read the whole policy, by chunks beside all logits: `python -m bench.heads [--quick] [--json FILE]`.

The losses of ASFT (a divergence from a reference) and EAFT (an entropy), forward and backward, over 2,048 answer
positions of 256 features and a vocabulary of 32,000, float32 on CPU: `ift.heads.token_losses` holds 1,024 positions of
logits at a time, its peer all of them. Times are the best of some rounds taken in turns; memory is what a process of
its own takes beside what it has before. Last, a training step of standing still beside the target and its own SFT.
"""

import multiprocessing
from collections.abc import Callable, Iterator

import torch
import tyro
from torch import Tensor

from bench.report import Options, Row, run, seconds
from common.command import main
from common.memory import peak_gigabytes
from ift import METHODS
from ift.heads import ReferenceHead, token_losses

LOSSES = ("asft", "eaft")


def make_step(name: str, chunked: bool, positions: int = 2048, vocabulary: int = 32_000) -> Callable[[], None]:
    """The loss of a method with the gradients of hidden states and head."""
    generator = torch.Generator().manual_seed(0)
    hidden, other = (torch.randn(positions, 256, generator=generator) for _ in range(2))
    weight, start = (torch.randn(vocabulary, 256, generator=generator) / 16 for _ in range(2))
    targets = torch.randint(vocabulary, (positions,), generator=generator)
    hidden.requires_grad_()
    weight.requires_grad_()
    method = METHODS[name]
    numbers = {each: method.number(each).text for each in method.loss_numbers}

    def loss(log_probs: Tensor, tokens: Tensor, policy: Tensor, reference: Tensor | None) -> Tensor:
        reads = {"policy": policy, "reference_policy": reference}
        mask = torch.ones_like(log_probs, dtype=torch.bool)
        return method.loss(log_probs, mask, **{read: reads[read] for read in method.reads}, **numbers)

    def all_at_once() -> Tensor:
        policy = (hidden @ weight.T).log_softmax(-1)
        reference = (other @ start.T).log_softmax(-1) if method.needs_reference else None
        return loss(policy.gather(-1, targets[:, None])[:, 0], targets, policy, reference)

    def by_chunks() -> Tensor:
        reference = ReferenceHead(other, start, None) if method.needs_reference else None
        return token_losses(hidden, weight, None, targets, loss, reference=reference)[0]

    def step() -> None:
        (by_chunks if chunked else all_at_once)().mean().backward()
        hidden.grad = weight.grad = None

    return step


def policy_losses(quick: bool) -> Iterator[Row]:
    """Seconds and memory of both losses."""
    sizes = (1280, 8_000) if quick else (2048, 32_000)
    for name in LOSSES:
        ours, peer = seconds(*(make_step(name, chunked, *sizes) for chunked in (True, False)), rounds=2 if quick else 5)
        title = f"{name.upper()}'s loss by chunks"
        yield Row(title, f"{ours:.2f} s", f"all logits {peer:.2f} s", ours / peer, 1.5, at_most=True)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            ours, peer = (pool.apply(memory_of, (name, chunked, *sizes)) for chunked in (True, False))
        yield Row(f"{title}, memory", f"{ours:.2f} GB", f"all logits {peer:.2f} GB", ours / peer, 0.75, at_most=True)


def memory_of(name: str, chunked: bool, positions: int, vocabulary: int) -> float:
    """Gigabytes that a step takes at its peak, beside what stands before it."""
    step = make_step(name, chunked, positions, vocabulary)
    before = peak_gigabytes()
    step()
    return peak_gigabytes() - before


def standing_still(quick: bool) -> Row:
    """A step of `StillTrainer` once its examples are known, beside SFT through the same head; sizes of `bench.lm`."""
    from bench import lm as sizes
    from lm import IFTConfig, IFTTrainer, StillConfig, StillTrainer

    sizes.quiet()
    length, vocabulary = (128, 8_000) if quick else (256, 32_000)
    steps = []
    for kind, config, options in ((StillTrainer, StillConfig, {}), (IFTTrainer, IFTConfig, {"lam": 0.0, "gamma": 0.0})):
        model = sizes.make_model(vocabulary, length)
        trainer = sizes.make_trainer(kind, config, model, **options)
        trainer._example_ids = torch.arange(4)
        loss = sizes.trained(trainer, sizes.make_batch(4, length, vocabulary))
        loss()  # the start policy is asked about these examples
        steps.append(_with_update(loss, model))
    ours, peer = seconds(*steps, rounds=2 if quick else 4)
    # SFT's pass, back and forth, is three forward passes: one pass more is a third more.
    return Row("standing still, a step", f"{ours:.2f} s", f"own SFT {peer:.2f} s", ours / peer, 4 / 3, at_most=True)


def _with_update(loss: Callable[[], Tensor], model: torch.nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def bench_heads() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.heads", description=__doc__)
    run((policy_losses, standing_still), options)


if __name__ == "__main__":
    main(bench_heads)
