"""Passes through the networks of many runs, for losses whose gradient autograd finds."""

import numpy as np

from toy.kernels.steps import backward, compiled, fill, forward, part


@part
def _head(first_bias, second_weight, second_bias, run, head):
    """All parameters of a run but W₁, as the kernels hold them: `[6, width]`."""
    for j in range(head.shape[1]):
        head[0, j] = first_bias[run, 0, j]
        for a in range(4):
            head[1 + a, j] = second_weight[run, j, a]
    for a in range(4):
        head[5, a] = second_bias[run, 0, a]


@part
def _hidden(first_weight, cells, states, run, i, hidden):
    """W₁ᵀx of state i into `hidden[0]`: of a cell, or of `states [runs, states, cells]` where no cells are given."""
    width = hidden.shape[1]
    if len(cells):
        for j in range(width):
            hidden[0, j] = first_weight[run, cells[i], j]
        return
    fill(hidden, 0)
    for c in range(states.shape[2]):
        x = states[run, i, c]
        if x != 0:
            for j in range(width):
                hidden[0, j] += x * first_weight[run, c, j]


@compiled
def log_probs_of(first_weight, first_bias, second_weight, second_bias, cells, states, begin, end, log_probs):
    """log π of runs `begin` to `end` into `log_probs [runs, states, 4]`."""
    width = first_weight.shape[2]
    head, hidden = np.empty((6, width), first_weight.dtype), np.empty((1, width), first_weight.dtype)
    row, probs = np.empty((1, 4), first_weight.dtype), np.empty((1, 4), first_weight.dtype)
    for run in range(begin, end):
        _head(first_bias, second_weight, second_bias, run, head)
        for i in range(log_probs.shape[1]):
            _hidden(first_weight, cells, states, run, i, hidden)
            forward(head, 0, hidden, probs, row)
            for a in range(4):
                log_probs[run, i, a] = row[0, a]


@compiled
def gradients_of(first_weight, first_bias, second_weight, second_bias, cells, states, begin, end, of_log_probs,
                 of_first_weight, of_first_bias, of_second_weight, of_second_bias):  # fmt: skip
    """What the gradient `of_log_probs [runs, states, 4]` gives for the parameters of runs `begin` to `end`."""
    kind, width = first_weight.dtype, first_weight.shape[2]
    head, grad, hidden = np.empty((6, width), kind), np.empty((6, width), kind), np.empty((1, width), kind)
    of_input, through = np.empty(width, kind), np.empty((1, 4), kind)
    row, probs = np.empty((1, 4), kind), np.empty((1, 4), kind)
    for run in range(begin, end):
        _head(first_bias, second_weight, second_bias, run, head)
        fill(grad, 0)
        fill(of_first_weight[run], 0)
        for i in range(of_log_probs.shape[1]):
            needed = False
            for a in range(4):
                needed = needed or of_log_probs[run, i, a] != 0
            if not needed:
                continue
            _hidden(first_weight, cells, states, run, i, hidden)
            forward(head, 0, hidden, probs, row)
            for a in range(4):
                through[0, a] = of_log_probs[run, i, a]
            backward(head, grad, 0, hidden, probs, through, of_input)
            if len(cells):
                for j in range(width):
                    of_first_weight[run, cells[i], j] += of_input[j]
            else:
                for c in range(states.shape[2]):
                    x = states[run, i, c]
                    if x != 0:
                        for j in range(width):
                            of_first_weight[run, c, j] += x * of_input[j]
        for j in range(width):
            of_first_bias[run, 0, j] = grad[0, j]
            for a in range(4):
                of_second_weight[run, j, a] = grad[1 + a, j]
        for a in range(4):
            of_second_bias[run, 0, a] = grad[5, a]
