"""Compiled training and episodes: many updates of a run at a time, while its parameters stay in a core's first caches.

The definition is `toy.policy.by_products`, `toy.training.train` and `toy.objectives`, where PyTorch's products and
autograd do the work; tests hold the kernels to it. Gradients are written out for the losses that the studies of this
project train most (`targets`, `pairs`); of any other loss autograd finds the gradient by log-probabilities, and
`network` takes it from there to the parameters.

A run's parameters are one table θ `[cells + 6, width]`: the first weight, the first bias, the second weight transposed,
and a row whose first four entries are the second bias. Numbers have the type of θ, as a Python literal would turn
single precision into double: hence `kind(...)`. What is called with `begin` and `end` does the runs of that range.
"""

import os

_threads = os.environ.get("NUMBA_NUM_THREADS")
if _threads is not None and not (_threads.strip().isdecimal() and int(_threads) > 0):  # numba would print a traceback
    raise ValueError(f"NUMBA_NUM_THREADS in the environment must be a whole number above 0, got {_threads!r}: unset it")
