"""Training on targets: SFT, and IFT with its residual and both forms of propagation."""

import numpy as np

from toy.kernels.steps import backward, compiled, fill, forward, part, stop, update
from toy.kernels.streams import random64

PLAIN, SUM, PRODUCT, PRODUCT_OF_MASK = range(4)  # losses
GREEDY, SAMPLED, EXPECTED = range(3)  # predictions


@part
def _mix(i, draw, lam, probs, next_cell, probability, prediction, cells, reached, weight):
    """The mixed state of step i + 1 as cells and weights, in that row of `reached` and `weight`; returns how many.

    It is (1 − λ) of the target's cell and λ of where the policy's own action leads from step i, whose policy is
    `probs[i]`; `next_cell` and `probability` are `[cells, 4, K]`.
    """
    outcomes, own, c = next_cell.shape[2], type(lam)(1) - lam, cells[i]
    reached[i + 1, 0], weight[i + 1, 0] = cells[i + 1], own
    if prediction == EXPECTED:
        for a in range(4):
            for k in range(outcomes):
                reached[i + 1, 1 + a * outcomes + k] = next_cell[c, a, k]
                weight[i + 1, 1 + a * outcomes + k] = lam * probs[i, a] * probability[c, a, k]
        return 1 + 4 * outcomes
    action = 0
    if prediction == GREEDY:
        for a in range(1, 4):
            if probs[i, a] > probs[i, action]:
                action = a
    else:
        below = probs[i, 0]
        while action < 3 and draw >= below:
            action += 1
            below += probs[i, action]
    for k in range(outcomes):
        reached[i + 1, 1 + k] = next_cell[c, action, k]
        weight[i + 1, 1 + k] = lam * probability[c, action, k]
    return 1 + outcomes


@part
def _terms(losses, begin, end, gamma, form, of_losses):
    """The loss of one sequence, tokens `begin` to `end`, from its token losses, whose gradient goes to `of_losses`.

    The mean negative log-probability, `sum`, or `product` (norm L1, side left) of `ift.ift_loss`.
    """
    kind = losses.dtype.type
    value, share = kind(0), kind(1 / max(end - begin, 1))
    if form >= PRODUCT:
        # Σ_i c_i ℓ_i / Σ_k c_k with c the suffix sum of ℓ, or of 1: the scale of the source cancels.
        suffix, total = kind(0), kind(0)
        for t in range(end - 1, begin - 1, -1):
            suffix = gamma * suffix + (losses[t] if form == PRODUCT else kind(1))
            of_losses[t] = suffix
            total += suffix
            value += suffix * losses[t]
        if gamma > 0 and total != 0:
            value /= total
            weighted, plain = kind(0), kind(0)  # Σ_{i ≤ j} γ^(j−i) of ℓ_i, and of 1
            for t in range(begin, end):
                if form == PRODUCT:
                    weighted, plain = gamma * weighted + losses[t], gamma * plain + kind(1)
                of_losses[t] = (of_losses[t] + weighted - value * plain) / total
            return value
        form, value = PLAIN, kind(0)
    weight = kind(0)
    for t in range(begin, end):
        weight = kind(1) + (gamma * weight if form == SUM else kind(0))  # Σ_{n ≤ t} γ^(t−n)
        of_losses[t] = weight * share
        value += of_losses[t] * losses[t]
    return value


@compiled
def fit_targets(begin, end, theta, first, second, stopped, done, updates, optimizer, lr, streams, begins, cells,
                actions, next_cell, probability, lam, gamma, form, prediction):  # fmt: skip
    """SFT's or IFT's updates `done` to `done + updates` of runs `begin` to `end`; `stopped` as in `fit_tables`.

    Target n is made of the steps `begins[n]` to `begins[n + 1]` of `cells` and `actions`. `lam` and `gamma` are
    `[runs]`, and λ = 0 is the target's own state. Draws are those of `objectives.predicted_states`.
    """
    for run in range(begin, end):
        if stopped[run] < 0:
            stopped[run] = _fit_targets(
                theta[run], first[run], second[run], done, updates, optimizer, lr, streams, run, begins, cells,
                actions, next_cell, probability, lam[run], gamma[run], form, prediction,
            )  # fmt: skip


@part
def _fit_targets(theta, first, second, done, updates, optimizer, lr, streams, run, begins, cells, actions, next_cell,
                 probability, lam, gamma, form, prediction):  # fmt: skip
    kind, steps, width, targets = theta.dtype.type, len(cells), theta.shape[1], len(begins) - 1
    grad, hidden, of_input = np.empty_like(theta), np.empty((steps, width), theta.dtype), np.empty(width, theta.dtype)
    probs, log_probs = np.empty((steps, 4), theta.dtype), np.empty((steps, 4), theta.dtype)
    of_log_probs, losses, of_losses = np.zeros_like(probs), np.empty(steps, theta.dtype), np.empty(steps, theta.dtype)
    reached, many = np.empty((steps, 1 + 4 * next_cell.shape[2]), np.int64), np.empty(steps, np.int64)
    weight, longest, mixes, share = np.empty(reached.shape, theta.dtype), 0, lam > 0, kind(1 / targets)
    for i in range(steps):
        reached[i, 0], weight[i, 0], many[i] = cells[i], kind(1), 1
    for n in range(targets):
        longest = max(longest, begins[n + 1] - begins[n])
    draws = np.zeros((targets, longest))
    for step in range(done, done + updates):
        if mixes and prediction == SAMPLED:
            for n in range(targets):
                for t in range(longest):
                    draws[n, t] = random64(streams, run)
        for scores in range(0 if mixes else 1, 2):  # first predict from the targets' own states, then score the mixed
            for n in range(targets):
                for i in range(begins[n], begins[n + 1] - (1 - scores)):
                    w, c = weight[i, 0] if scores else kind(1), cells[i]
                    for j in range(width):
                        hidden[i, j] = w * theta[c, j]
                    for k in range(1, many[i] if scores else 1):
                        row, w = reached[i, k], weight[i, k]
                        for j in range(width):
                            hidden[i, j] += w * theta[row, j]
                    forward(theta, i, hidden, probs, log_probs)
                    losses[i] = -log_probs[i, actions[i]]
                    if not scores:
                        draw = kind(draws[n, i - begins[n]])
                        many[i + 1] = _mix(i, draw, lam, probs, next_cell, probability, prediction, cells,
                                           reached, weight)  # fmt: skip
        fill(grad, 0)
        loss = kind(0)
        for n in range(targets):
            loss += _terms(losses, begins[n], begins[n + 1], gamma, form, of_losses) * share
            for i in range(begins[n], begins[n + 1]):
                of_log_probs[i, actions[i]] = -of_losses[i] * share
                backward(theta, grad, i, hidden, probs, of_log_probs, of_input)
                for k in range(many[i]):
                    row, w = reached[i, k], weight[i, k]
                    for j in range(width):
                        grad[row, j] += w * of_input[j]
        update(theta, grad, first, second, optimizer, lr, step)
        if stop(theta, loss):
            return step
    return -1
