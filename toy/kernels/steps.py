"""One run's forward pass, backward pass and update, and training toward a table of probabilities."""

from functools import cache
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np

# Sums may be reordered (that is what vectorises them); nothing is assumed about NaN and infinity, which stop a run.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "arcp", "nsz"}}
# What only kernels call. It is compiled into each of them: a process that compiles would else call a copy of its own,
# whose sums have another order than those of the kernel that it keeps on the disk.
part = numba.njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)

ADAM, RMSPROP, SGD = range(3)


def compiled(function):
    """Compiles what Python calls, and keeps it on the disk where there is a folder that can be written.

    numba asks only whether the function's own file has changed, though it compiles what the function calls into it:
    so the folder is named by the sources of all kernels.
    """
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder(numba.config.CACHE_DIR))
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return numba.njit(**_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def cache_folder(root, folder=Path(__file__).parent):
    """Where the kernels of `folder` are kept: below `root` (`NUMBA_CACHE_DIR`), or beside their sources."""
    sources = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))
    return Path(root or folder / "__pycache__") / f"kernels-{sha256(sources).hexdigest()[:16]}"


@part
def forward(theta, i, hidden, probs, log_probs):
    """From W₁ᵀx in `hidden[i]`: the hidden units in its place, π in `probs[i]`, log π in `log_probs[i]`."""
    bias, width, zero = len(theta) - 6, theta.shape[1], theta.dtype.type(0)
    for j in range(width):
        x = hidden[i, j] + theta[bias, j]
        hidden[i, j] = x if x > zero else zero
    for a in range(4):
        logit, weights = theta[bias + 5, a], bias + 1 + a
        for j in range(width):
            logit += hidden[i, j] * theta[weights, j]
        log_probs[i, a] = logit
    top = max(max(log_probs[i, 0], log_probs[i, 1]), max(log_probs[i, 2], log_probs[i, 3]))
    total = zero
    for a in range(4):
        log_probs[i, a] -= top
        probs[i, a] = np.exp(log_probs[i, a])
        total += probs[i, a]
    log_total = np.log(total)
    for a in range(4):
        probs[i, a] /= total
        log_probs[i, a] -= log_total


@part
def backward(theta, grad, i, hidden, probs, of_log_probs, of_input):
    """Adds to `grad` what the gradient `of_log_probs[i]` gives, but for W₁, whose rows take x ⊗ `of_input [width]`."""
    bias, width, zero = len(theta) - 6, theta.shape[1], theta.dtype.type(0)
    w0, w1, w2, w3, last = bias + 1, bias + 2, bias + 3, bias + 4, bias + 5
    total = of_log_probs[i, 0] + of_log_probs[i, 1] + of_log_probs[i, 2] + of_log_probs[i, 3]
    g0 = of_log_probs[i, 0] - probs[i, 0] * total
    g1 = of_log_probs[i, 1] - probs[i, 1] * total
    g2 = of_log_probs[i, 2] - probs[i, 2] * total
    g3 = of_log_probs[i, 3] - probs[i, 3] * total
    for j in range(width):
        h = hidden[i, j]
        through = g0 * theta[w0, j] + g1 * theta[w1, j] + g2 * theta[w2, j] + g3 * theta[w3, j]
        through = through if h > zero else zero
        of_input[j] = through
        grad[bias, j] += through
        grad[w0, j] += g0 * h
        grad[w1, j] += g1 * h
        grad[w2, j] += g2 * h
        grad[w3, j] += g3 * h
    grad[last, 0] += g0
    grad[last, 1] += g1
    grad[last, 2] += g2
    grad[last, 3] += g3


@compiled
def update(theta, grad, first, second, optimizer, lr, step):
    """One step of PyTorch's Adam, RMSprop or SGD with their defaults; `step` counts from 0."""
    kind = theta.dtype.type
    rows, width = theta.shape
    if optimizer == SGD:
        size = kind(lr)
        for r in range(rows):
            for j in range(width):
                theta[r, j] -= size * grad[r, j]
    elif optimizer == ADAM:
        size, root = kind(lr / (1 - 0.9 ** (step + 1))), kind(1 / np.sqrt(1 - 0.999 ** (step + 1)))
        keep1, new1, keep2, new2, eps = kind(0.9), kind(1 - 0.9), kind(0.999), kind(1 - 0.999), kind(1e-8)
        for r in range(rows):
            for j in range(width):
                g = grad[r, j]
                first[r, j] = keep1 * first[r, j] + new1 * g
                second[r, j] = keep2 * second[r, j] + new2 * g * g
                theta[r, j] -= size * first[r, j] / (np.sqrt(second[r, j]) * root + eps)
    else:
        size, keep, new, eps = kind(lr), kind(0.99), kind(1 - 0.99), kind(1e-8)
        for r in range(rows):
            for j in range(width):
                g = grad[r, j]
                second[r, j] = keep * second[r, j] + new * g * g
                theta[r, j] -= size * g / (np.sqrt(second[r, j]) + eps)


@part
def fill(table, value):
    """Sets all of a table `[rows, columns]`; NumPy's own assignment takes seconds to compile."""
    for r in range(table.shape[0]):
        for j in range(table.shape[1]):
            table[r, j] = value


@part
def stop(theta, loss):
    """Whether a run is stopped, as its loss is no number: it then has no parameters."""
    if np.isfinite(loss):
        return False
    fill(theta, np.nan)
    return True


@compiled
def fit_tables(begin, end, theta, first, second, stopped, matched, done, updates, lr, aim, optimum, gap):
    """Adam on −Σ_{s,a} aim(s, a) log π(a | s) for runs `begin` to `end`; a run ends early where it matches `optimum`.

    It matches where no probability is farther than `gap` from π* in the cells that `aim [cells, 4]` has; a gap below 0
    never matches. `stopped [runs]` takes the update at which a run was stopped; those that have one are left alone, as
    those that match. `done` updates came before.
    """
    steps = (done, done + updates)
    for run in range(begin, end):
        if stopped[run] < 0 and not matched[run]:
            stopped[run], matched[run] = _fit_table(theta[run], first[run], second[run], steps, lr, aim, optimum, gap)


@part
def _fit_table(theta, first, second, steps, lr, aim, optimum, gap):
    cells, width = len(aim), theta.shape[1]
    of_log_probs, log_probs, probs = np.empty_like(aim), np.empty_like(aim), np.empty_like(aim)
    grad, hidden, of_input = np.empty_like(theta), np.empty((cells, width), theta.dtype), np.empty(width, theta.dtype)
    live = np.empty(cells, np.bool_)
    for c in range(cells):
        live[c] = False
        for a in range(4):
            of_log_probs[c, a] = -aim[c, a]
            live[c] = live[c] or aim[c, a] != 0
    for step in range(steps[0], steps[1] + 1):
        loss, farthest = theta.dtype.type(0), theta.dtype.type(0)
        for c in range(cells):
            if live[c]:
                for j in range(width):
                    hidden[c, j] = theta[c, j]
                forward(theta, c, hidden, probs, log_probs)
                for a in range(4):
                    loss -= aim[c, a] * log_probs[c, a]
                    farthest = max(farthest, abs(probs[c, a] - optimum[c, a]))
        if farthest <= gap:
            return -1, True
        if step == steps[1]:
            break
        fill(grad, 0)
        for c in range(cells):
            if live[c]:
                backward(theta, grad, c, hidden, probs, of_log_probs, of_input)
                for j in range(width):
                    grad[c, j] += of_input[j]
        update(theta, grad, first, second, ADAM, lr, step)
        if stop(theta, loss):
            return step, False
    return -1, False
