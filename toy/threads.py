"""Work in pieces on all cores, by threads that run compiled kernels."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numba
import torch

_SMALL = 2**12  # rows of a network below which a second thread costs more than it brings


def split(work: Callable[[int, int], None], runs: int, states: int) -> None:
    """Call `work(begin, end)` for all runs, in pieces on all cores where there is enough to do."""
    if runs * states < _SMALL:
        work(0, runs)
        return
    each_piece(work, runs, 2)


def each_piece(work: Callable[[int, int], None], count: int, per_core: int = 8) -> None:
    """Call `work(begin, end)` for pieces of `count` things, on all cores that this process may use."""
    workers = min(_cores(), count)
    size = max(1, count // (per_core * workers))  # small enough that no core waits long for another one at the end
    begins = iter(range(0, count, size))

    def work_on() -> None:
        for begin in begins:
            work(begin, min(begin + size, count))

    helpers = [_threads().submit(work_on) for _ in range(workers - 1)]
    work_on()
    for helper in helpers:
        if not helper.cancel():  # a core that is busy elsewhere may not have begun: there is nothing left to do
            helper.result()


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
