"""The network's pass as one operation of autograd, by compiled kernels: what a loss of anyone's own is trained with."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from toy.kernels import network as kernel
from toy.kernels.steps import update as update_kernel

LEAST_WIDTH = 4  # of the kernels, as a row of parameters holds the second bias
_SMALL = 2**14  # states times runs below which a second thread costs more than it brings


class LogProbs(torch.autograd.Function):
    """log π `[runs, states, 4]` of the cells `[states]`, or of states `[runs, states, cells]`, given as vectors."""

    @staticmethod
    def forward(ctx: Any, where: Tensor, *parameters: Tensor) -> Tensor:
        arrays = [np.ascontiguousarray(p.detach().numpy()) for p in parameters]
        runs, cells, _ = arrays[0].shape
        chosen, states = np.empty(0, np.int64), np.empty((0, 0, cells), arrays[0].dtype)
        if where.ndim == 1:
            chosen = np.ascontiguousarray(where.numpy())
        else:
            states = np.ascontiguousarray(where.detach().numpy())
        ctx.arguments = (*arrays, chosen, states)
        out = np.empty((runs, where.shape[0] if where.ndim == 1 else where.shape[1], 4), arrays[0].dtype)
        split(lambda begin, end: kernel.log_probs_of(*ctx.arguments, begin, end, out), runs, out.shape[1])
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *of_log_probs: Tensor) -> tuple[Tensor | None, ...]:
        through = np.ascontiguousarray(of_log_probs[0].numpy())
        gradients = [np.empty_like(array) for array in ctx.arguments[:4]]

        def some(begin: int, end: int) -> None:
            kernel.gradients_of(*ctx.arguments, begin, end, through, *gradients)

        split(some, *through.shape[:2])
        return None, *(torch.from_numpy(gradient) for gradient in gradients)


def split(work: Callable[[int, int], None], runs: int, states: int) -> None:
    """Call `work(begin, end)` for all runs, in pieces on all cores where there is enough to do."""
    if runs * states < _SMALL:
        work(0, runs)
        return
    each_piece(work, runs)


def each_piece(work: Callable[[int, int], None], count: int) -> None:
    """Call `work(begin, end)` for pieces of `count` things, on all cores that this process may use."""
    workers = min(_cores(), count)
    if workers <= 1:
        work(0, count)
        return
    size = max(1, count // (8 * workers))  # small enough that no core waits long for another one at the end
    begins = range(0, count, size)
    for _ in _threads().map(work, begins, (min(begin + size, count) for begin in begins)):
        pass


def _cores() -> int:
    """How many threads this process may use: what `NUMBA_NUM_THREADS` says (joblib's workers are told 1), or all."""
    return int(numba.config.NUMBA_NUM_THREADS)


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that live as long as the process: a training asks for them at each update."""
    return ThreadPoolExecutor(_cores())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked process has none of them


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on one thread: in small operations two would wait for each other, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def update(
    optimizer: int, parameters: Sequence[Tensor], gradients: Sequence[Tensor], moments: Sequence[np.ndarray], lr: float,
    step: int,
) -> None:  # fmt: skip
    """One step of an optimiser of `toy.kernels.steps` on parameters `[runs, ...]`, in place; two moments for each."""
    tables = [p.detach().numpy().reshape(len(p), -1) for p in parameters]
    slopes = [np.ascontiguousarray(g.numpy()).reshape(len(g), -1) for g in gradients]

    def some(begin: int, end: int) -> None:
        for i, (table, slope) in enumerate(zip(tables, slopes, strict=True)):
            parts = (part[begin:end] for part in (table, slope, *moments[2 * i : 2 * i + 2]))
            update_kernel(*parts, optimizer, lr, step)

    split(some, len(tables[0]), tables[0].shape[1] // 8)


def computes(parameters: Sequence[Tensor]) -> bool:
    """Whether the kernels know networks of this kind: on the CPU, and not too narrow."""
    weight = parameters[0]
    return weight.device.type == "cpu" and weight.shape[-1] >= LEAST_WIDTH
