"""Compiled training, one run after the other: all updates of a run, while its parameters stay in a core's first caches.

The definition is `toy.policy.train` with `toy.objectives`, where autograd finds the gradients; tests hold these kernels
to it. Here the gradients are written out, for the losses that the studies of this project train most.

A run's parameters are one table θ `[cells + 6, width]`: the first weight, the first bias, the second weight transposed,
and a row whose first four entries are the second bias. Numbers have the type of θ, as a Python literal would turn
single precision into double: hence `kind(...)`.
"""

import numba
import numpy as np

from toy.streams import random64

# Sums may be reordered (that is what vectorises them); nothing is assumed about NaN and infinity, which stop a run.
compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})

ADAM, RMSPROP, SGD = range(3)
PLAIN, SUM, PRODUCT, PRODUCT_OF_MASK = range(4)  # losses of targets
GREEDY, SAMPLED, EXPECTED = range(3)  # predictions


@compiled
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


@compiled
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


@compiled
def stop(theta, loss):
    """Whether a run is stopped, as its loss is no number: it then has no parameters."""
    if np.isfinite(loss):
        return False
    theta[:] = np.nan
    return True


@compiled
def fit_tables(begin, end, theta, first, second, stopped, matched, updates, lr, aim, optimum, gap):
    """Adam on −Σ_{s,a} aim(s, a) log π(a | s) for runs `begin` to `end`; a run ends early where it matches `optimum`.

    It matches where no probability is farther than `gap` from π* in the cells that `aim [cells, 4]` has; a gap below 0
    never matches. `stopped [runs]` takes the update at which a run was stopped; those that have one are left alone.
    """
    for run in range(begin, end):
        if stopped[run] < 0:
            stopped[run], matched[run] = _fit_table(theta[run], first[run], second[run], updates, lr, aim, optimum, gap)


@compiled
def _fit_table(theta, first, second, updates, lr, aim, optimum, gap):
    cells, width = len(aim), theta.shape[1]
    of_log_probs, log_probs, probs = -aim, np.empty_like(aim), np.empty_like(aim)
    grad, hidden, of_input = np.empty_like(theta), np.empty((cells, width), theta.dtype), np.empty(width, theta.dtype)
    live = np.empty(cells, np.bool_)
    for c in range(cells):
        live[c] = aim[c].any()
    for step in range(updates + 1):
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
        if step == updates:
            break
        grad[:] = 0
        for c in range(cells):
            if live[c]:
                backward(theta, grad, c, hidden, probs, of_log_probs, of_input)
                for j in range(width):
                    grad[c, j] += of_input[j]
        update(theta, grad, first, second, ADAM, lr, step)
        if stop(theta, loss):
            return step, False
    return -1, False


@compiled
def _reached(i, draw, probs, next_cell, probability, prediction, reached, weight):
    """Where the policy's own action leads from `next_cell [4, K]`'s cell: into `reached[i]` and `weight[i]`, how many.

    `probs[i]` is the policy there; the next state's entry is `i + 1`.
    """
    outcomes = next_cell.shape[1]
    if prediction == EXPECTED:
        for a in range(4):
            for k in range(outcomes):
                reached[i + 1, a * outcomes + k] = next_cell[a, k]
                weight[i + 1, a * outcomes + k] = probs[i, a] * probability[a, k]
        return 4 * outcomes
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
        reached[i + 1, k] = next_cell[action, k]
        weight[i + 1, k] = probability[action, k]
    return outcomes


@compiled
def _terms(losses, begin, end, gamma, form, of_losses):
    """The loss of one sequence, tokens `begin` to `end`, from its token losses, whose gradient goes to `of_losses`.

    The mean negative log-probability, `sum`, or `product` (norm L1, side left) of `ift.ift_loss`.
    """
    kind = losses.dtype.type
    value, share = kind(0), kind(1 / max(end - begin, 1))
    if form == PRODUCT or form == PRODUCT_OF_MASK:
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


@compiled
def _fit_targets(theta, first, second, done, updates, optimizer, lr, streams, run, begins, cells, actions, next_cell,
                 probability, lam, gamma, form, prediction):  # fmt: skip
    kind, steps, width, targets = theta.dtype.type, len(cells), theta.shape[1], len(begins) - 1
    grad, hidden, of_input = np.empty_like(theta), np.empty((steps, width), theta.dtype), np.empty(width, theta.dtype)
    probs, log_probs = np.empty((steps, 4), theta.dtype), np.empty((steps, 4), theta.dtype)
    of_log_probs, losses, of_losses = np.zeros_like(probs), np.empty(steps, theta.dtype), np.empty(steps, theta.dtype)
    reached = np.empty((steps + 1, 4 * next_cell.shape[2]), np.int64)
    weight, many = np.empty(reached.shape, theta.dtype), np.zeros(steps + 1, np.int64)
    longest, mixes, share = np.diff(begins).max(), lam > 0, kind(1 / targets)
    draws = np.zeros((targets, longest))
    for step in range(done, done + updates):
        if mixes and prediction == SAMPLED:
            for n in range(targets):
                for t in range(longest):
                    draws[n, t] = random64(streams, run)
        loss = kind(0)
        for n in range(targets):
            for i in range(begins[n], begins[n + 1]):
                c = cells[i]
                if mixes and i + 1 < begins[n + 1]:
                    for j in range(width):
                        hidden[i, j] = theta[c, j]
                    forward(theta, i, hidden, probs, log_probs)
                    draw = kind(draws[n, i - begins[n]])
                    many[i + 1] = _reached(i, draw, probs, next_cell[c], probability[c], prediction, reached, weight)
                own = kind(1) - lam if mixes and i > begins[n] else kind(1)
                for j in range(width):
                    hidden[i, j] = own * theta[c, j]
                if i > begins[n]:
                    for k in range(many[i]):
                        row, part = reached[i, k], lam * weight[i, k]
                        for j in range(width):
                            hidden[i, j] += part * theta[row, j]
                forward(theta, i, hidden, probs, log_probs)
                losses[i] = -log_probs[i, actions[i]]
            loss += _terms(losses, begins[n], begins[n + 1], gamma, form, of_losses) * share
        grad[:] = 0
        for n in range(targets):
            for i in range(begins[n], begins[n + 1]):
                of_log_probs[i, actions[i]] = -of_losses[i] * share
                backward(theta, grad, i, hidden, probs, of_log_probs, of_input)
                row, own = cells[i], kind(1) - lam if mixes and i > begins[n] else kind(1)
                for j in range(width):
                    grad[row, j] += own * of_input[j]
                if i > begins[n]:
                    for k in range(many[i]):
                        row, part = reached[i, k], lam * weight[i, k]
                        for j in range(width):
                            grad[row, j] += part * of_input[j]
        update(theta, grad, first, second, optimizer, lr, step)
        if stop(theta, loss):
            return step
    return -1
