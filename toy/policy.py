"""The policy: a two-layer fully connected network on the one-hot cell, many independent runs as one set of tensors."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from toy.kernels import network as kernel
from toy.threads import split

LEAST_WIDTH = 4  # of the kernels, as a row of parameters holds the second bias


class Policy(NamedTuple):
    """Parameters of `runs` independent networks: softmax(relu(x W₁ + b₁) W₂ + b₂), x the state `[cells]`."""

    first_weight: Tensor  # [runs, cells, width]
    first_bias: Tensor  # [runs, 1, width]
    second_weight: Tensor  # [runs, width, 4]
    second_bias: Tensor  # [runs, 1, 4]


class Pass(NamedTuple):
    """What a loss has read of a network: where, and log π there, a leaf of autograd's graph `[runs, states, 4]`."""

    where: np.ndarray  # cells [states], or states as vectors [runs, states, cells]
    hidden: np.ndarray  # units of each state, [runs, states, width]
    log_probs: Tensor


class Packed(Policy):
    """A policy whose tensors are views of one array, as the kernels hold it.

    Attributes:
        theta: W₁, b₁, W₂ᵀ, and b₂ in the first places of the last row, `[runs, cells + 6, width]`.
        passes: in a training, what the loss has read since the last update; otherwise nothing is kept.
    """

    theta: np.ndarray
    passes: list[Pass] | None

    @classmethod
    def of(cls, theta: np.ndarray, passes: list[Pass] | None = None) -> "Packed":
        rows = torch.from_numpy(theta)
        packed = cls(rows[:, :-6], rows[:, -6:-5], rows[:, -5:-1].mT, rows[:, -1:, :4])
        packed.theta, packed.passes = theta, passes
        return packed

    @classmethod
    def _make(cls, parts: Iterable[Any]) -> Policy:  # type: ignore[override]
        return Policy(*parts)  # what `_replace` makes: other tensors are no views of this array

    def __reduce__(self) -> tuple[Any, ...]:
        return Policy, tuple(self)  # a copy, and what another process gets, has tensors of its own


def pack(policy: Policy) -> np.ndarray:
    """The parameters as the kernels hold them, `[runs, cells + 6, width]`, in an array of their own."""
    if isinstance(policy, Packed):
        return policy.theta.copy()
    last = pad(policy.second_bias, (0, policy.first_weight.shape[-1] - 4))
    rows = [policy.first_weight, policy.first_bias, policy.second_weight.mT, last]
    return np.ascontiguousarray(torch.cat([part.detach() for part in rows], 1).numpy())


def init_policy(cells: int, width: int, seeds: Sequence[int], dtype: torch.dtype, device: torch.device) -> Policy:
    """One network per seed, each entry uniform in ±1/√fan_in (torch.nn.Linear's bounds); a seed fixes its network."""
    shapes = ((cells, width), (1, width), (width, 4), (1, 4))
    bounds = (cells**-0.5, cells**-0.5, width**-0.5, width**-0.5)
    generators = [np.random.default_rng([seed, 0]) for seed in seeds]
    draws = [
        np.stack([generator.uniform(-bound, bound, shape) for generator in generators])
        for shape, bound in zip(shapes, bounds, strict=True)
    ]
    return Policy(*(torch.as_tensor(draw, dtype=dtype, device=device) for draw in draws))


def state_log_probs(policy: Policy, states: Tensor) -> Tensor:
    """log π(a | x) of states given as vectors over cells, `[runs, ..., cells]` to `[runs, ..., 4]`."""
    flat = states.detach().flatten(1, -2)
    log_probs = by_kernels(policy, vectors=flat) if _by_kernels(policy) else by_products(policy, flat)
    return log_probs.view(*states.shape[:-1], 4)


def cell_log_probs(policy: Policy, cells: Tensor | None = None) -> Tensor:
    """log π(a | s) of every cell, or of the given ones, `[runs, cells, 4]`: `state_log_probs` of one-hot states."""
    if cells is None:
        cells = torch.arange(policy.first_weight.shape[1], device=policy.first_weight.device)
    if _by_kernels(policy):
        return by_kernels(policy, cells=cells)
    return by_products(policy, policy.first_weight.index_select(1, cells), chosen=True)


def by_products(policy: Policy, states: Tensor, chosen: bool = False) -> Tensor:
    """The same in matrix products, the kernels' definition; with `chosen`, `states` are the rows of W₁ themselves."""
    hidden = states + policy.first_bias if chosen else torch.baddbmm(policy.first_bias, states, policy.first_weight)
    return torch.log_softmax(torch.baddbmm(policy.second_bias, torch.relu(hidden), policy.second_weight), -1)


def by_kernels(policy: Policy, cells: Tensor | None = None, vectors: Tensor | None = None) -> Tensor:
    """The same by a kernel, of cells `[states]` or of vectors `[runs, states, cells]`.

    Where a training keeps passes, the result is a leaf of autograd's graph: `toy.training` goes on from its gradient.
    """
    theta = policy.theta if isinstance(policy, Packed) else pack(policy)
    where = np.empty(0, np.int64) if cells is None else np.ascontiguousarray(cells.numpy())
    states = np.empty((0, 0, 0), theta.dtype) if vectors is None else np.ascontiguousarray(vectors.numpy())
    shape = (len(theta), len(where) or states.shape[1])
    hidden, out = np.empty((*shape, theta.shape[2]), theta.dtype), np.empty((*shape, 4), theta.dtype)
    split(lambda begin, end: kernel.log_probs_of(begin, end, theta, where, states, hidden, out), *shape)
    log_probs = torch.from_numpy(out)
    if isinstance(policy, Packed) and policy.passes is not None and torch.is_grad_enabled():
        policy.passes.append(Pass(states if cells is None else where, hidden, log_probs.requires_grad_()))
    return log_probs


def kernels_know(policy: Policy) -> bool:
    """Whether the kernels know networks of this kind: on the CPU, and not too narrow."""
    weight = policy.first_weight
    return weight.device.type == "cpu" and weight.shape[-1] >= LEAST_WIDTH


def _by_kernels(policy: Policy) -> bool:
    """Whether a pass may go by kernels: they know the network, and autograd is not to follow its parameters."""
    return kernels_know(policy) and not policy.first_weight.requires_grad


def parameter_mse(policy: Policy, other: Policy) -> Tensor:
    """Mean squared difference over all parameters of a run, `[runs]`."""
    return travelled(policy, other).square() / sum(p[0].numel() for p in policy)


def travelled(policy: Policy, start: Policy) -> Tensor:
    """Length of the difference over all parameters of a run, ‖θ − θ₀‖₂, `[runs]`."""
    lengths = [torch.linalg.vector_norm((a - b).flatten(1), dim=1) for a, b in zip(policy, start, strict=True)]
    return torch.linalg.vector_norm(torch.stack(lengths), dim=0)
