"""Passes through the networks of many runs, for losses whose gradient autograd finds."""

import numpy as np

from toy.kernels.steps import backward, compiled, fill, forward, part, update

# A view of an array, or a cell that is looked up anew for each unit, costs as much as a state's products.


@compiled
def log_probs_of(begin, end, theta, cells, vectors, hidden, log_probs):
    """Hidden units `[runs, states, width]` and log π `[runs, states, 4]` of runs `begin` to `end`.

    The states are `cells [states]`, or `vectors [runs, states, cells]` where no cells are given.
    """
    probs = np.empty((log_probs.shape[1], 4), theta.dtype)
    for run in range(begin, end):
        of_run, units, row = theta[run], hidden[run], log_probs[run]
        if len(cells):
            for i in range(len(cells)):
                cell = cells[i]
                for j in range(units.shape[1]):
                    units[i, j] = of_run[cell, j]
        else:
            _products(of_run, vectors[run], units)
        for i in range(len(units)):
            forward(of_run, i, units, probs, row)


@part
def _products(theta, vectors, hidden):
    """W₁ᵀx of states `[states, cells]`."""
    fill(hidden, 0)
    for i in range(vectors.shape[0]):
        for c in range(vectors.shape[1]):
            x = vectors[i, c]
            if x != 0:
                for j in range(hidden.shape[1]):
                    hidden[i, j] += x * theta[c, j]


@compiled
def learn(begin, end, theta, first, second, cells, of_cells, vectors, of_vectors, optimizer, lr, step):
    """One update of runs `begin` to `end`, which reads and writes each parameter once.

    `of_cells` and `of_vectors` are what was read there: hidden units and log π of `log_probs_of`, and the gradient of
    the loss by log π, `[runs, states, 4]`.
    """
    grad, of_input = np.empty(theta.shape[1:], theta.dtype), np.empty(theta.shape[2], theta.dtype)
    probs = np.empty((max(len(cells), vectors.shape[1]), 4), theta.dtype)
    for run in range(begin, end):
        of_run = theta[run]
        fill(grad, 0)
        if len(cells):
            hidden, of_log_probs = of_cells[0][run], of_cells[2][run]
            _exp(of_cells[1][run], probs)
            for i in range(len(cells)):
                if _counts(of_log_probs, i):
                    backward(of_run, grad, i, hidden, probs, of_log_probs, of_input)
                    cell = cells[i]
                    for j in range(len(of_input)):
                        grad[cell, j] += of_input[j]
        if vectors.shape[1]:
            states, hidden, of_log_probs = vectors[run], of_vectors[0][run], of_vectors[2][run]
            _exp(of_vectors[1][run], probs)
            for i in range(states.shape[0]):
                if _counts(of_log_probs, i):
                    backward(of_run, grad, i, hidden, probs, of_log_probs, of_input)
                    for c in range(states.shape[1]):
                        x = states[i, c]
                        if x != 0:
                            for j in range(len(of_input)):
                                grad[c, j] += x * of_input[j]
        update(of_run, grad, first[run], second[run], optimizer, lr, step)


@part
def _exp(log_probs, probs):
    for i in range(log_probs.shape[0]):
        for a in range(4):
            probs[i, a] = np.exp(log_probs[i, a])


@part
def _counts(of_log_probs, i):
    """Whether the loss depends on state i."""
    needed = False
    for a in range(4):
        needed = needed or of_log_probs[i, a] != 0
    return needed
