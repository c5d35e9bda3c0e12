"""Training on pairs, DPO and ORPO: negatives are sampled, compared and learned from."""

import numpy as np

from toy.kernels.rollout import CHUNK, look, sample
from toy.kernels.steps import backward, compiled, fill, part, stop, update

DPO, ORPO = range(2)


@part
def _log_odds(log_prob, largest):
    """log(p / (1 − p)) and its derivative, as `ift.orpo_loss` has them."""
    one = type(log_prob)(1)
    capped = min(log_prob, largest)
    rest = -np.expm1(capped)
    return capped - np.log(rest), (one / rest if log_prob <= largest else one - one)


@part
def _log_sigmoid(x):
    """log σ(x), and σ(−x), its derivative."""
    one = type(x)(1)
    small = np.exp(-abs(x))
    below = small / (one + small)
    return (-np.log1p(small), below) if x >= 0 else (x - np.log1p(small), one / (one + small))


@compiled
def fit_pairs(begin, end, theta, first, second, stopped, sampled, done, updates, optimizer, lr, streams, begins, cells,
              actions, next_cell, below, terminal, reference, of_reference, fixed_moves, fixed_lengths, repeats,
              horizon, loss_of, beta, smoothing):  # fmt: skip
    """DPO's or ORPO's updates `done` to `done + updates` of runs `begin` to `end`; `stopped` as in `fit_tables`.

    Targets are as in `fit_targets`; each has `repeats` negatives, sampled from the policy as it is, or from the
    reference with `of_reference`, or the fixed ones if `fixed_moves` (cell * 4 + action, `[targets, steps]`) has rows.
    `reference` is the start's log π `[runs, cells, 4]`; `sampled [runs]` counts the steps that were sampled.
    """
    for run in range(begin, end):
        if stopped[run] < 0:
            stopped[run], steps = _fit_pairs(
                theta[run], first[run], second[run], done, updates, optimizer, lr, streams, run, begins, cells,
                actions, next_cell, below, terminal, reference[run], of_reference, fixed_moves, fixed_lengths,
                repeats, horizon, loss_of, beta[run], smoothing[run],
            )  # fmt: skip
            sampled[run] += steps


@part
def _differs(moves, length, cells, actions, begin, end):
    """Whether a trajectory is not the target `begin` to `end`."""
    same = length == end - begin
    t = 0
    while same and t < length:
        same = moves[t] == cells[begin + t] * 4 + actions[begin + t]
        t += 1
    return not same


@part
def _fit_pairs(theta, first, second, done, updates, optimizer, lr, streams, run, begins, cells, actions, next_cell,
               below, terminal, reference, of_reference, fixed_moves, fixed_lengths, repeats, horizon, loss_of, beta,
               smoothing):  # fmt: skip
    kind, count, targets, width = theta.dtype.type, len(terminal), len(begins) - 1, theta.shape[1]
    pairs, sampled, samples = targets * repeats, 0, len(fixed_moves) == 0
    grad, hidden, of_input = np.empty_like(theta), np.empty((count, width), theta.dtype), np.empty(width, theta.dtype)
    probs, log_probs = np.empty((count, 4), theta.dtype), np.empty((count, 4), theta.dtype)
    of_log_probs, known, all_known = np.empty_like(probs), np.empty(count, np.bool_), np.ones(count, np.bool_)
    moves, lengths = fixed_moves, fixed_lengths
    if samples:
        moves, lengths = np.empty((pairs, horizon), np.int32), np.empty(pairs, np.int64)
    starts, differs = np.empty(pairs, np.int64), np.empty(pairs, np.bool_)
    noise, lanes, state = np.empty((CHUNK, 2, pairs), np.float32), np.empty_like(starts), np.empty_like(starts)
    no_outcomes, table = np.empty((0, 0), np.int8), np.empty_like(reference)
    for pair in range(pairs):
        starts[pair] = cells[begins[pair // repeats]]
    for c in range(count):
        for a in range(4):
            table[c, a] = np.exp(reference[c, a])
    largest = -kind(np.finfo(theta.dtype).eps)
    for step in range(done, done + updates):
        for c in range(count):
            known[c] = False
        if samples and of_reference:
            sample(streams, run, starts, theta, all_known, hidden, table, log_probs, next_cell, below, terminal,
                   horizon, moves, no_outcomes, lengths, noise, lanes, state)  # fmt: skip
        elif samples:
            sample(streams, run, starts, theta, known, hidden, probs, log_probs, next_cell, below, terminal, horizon,
                   moves, no_outcomes, lengths, noise, lanes, state)  # fmt: skip
        true_pairs = 0
        for pair in range(pairs):
            sampled += lengths[pair] if samples else 0
            n = pair // repeats
            differs[pair] = _differs(moves[pair], lengths[pair], cells, actions, begins[n], begins[n + 1])
            true_pairs += differs[pair]
        fill(of_log_probs, 0)
        loss = kind(0)
        share = kind(1 / max(true_pairs, 1)) if loss_of == DPO else kind(1 / pairs)
        for n in range(targets):
            begin, end = begins[n], begins[n + 1]
            chosen, of_start, of_chosen = kind(0), kind(0), kind(0)
            for i in range(begin, end):
                look(theta, cells[i], known, hidden, probs, log_probs)
                chosen += log_probs[cells[i], actions[i]]
                of_start += reference[cells[i], actions[i]]
            mean = kind(1) if loss_of == DPO else kind(1 / (end - begin))
            for pair in range(n * repeats, (n + 1) * repeats):
                if loss_of == ORPO:
                    loss -= chosen * mean * share
                    of_chosen -= share
                if not differs[pair]:
                    continue
                rejected, ratio = kind(0), chosen - of_start
                for t in range(lengths[pair]):
                    c, a = moves[pair, t] >> 2, moves[pair, t] & 3
                    look(theta, c, known, hidden, probs, log_probs)
                    rejected += log_probs[c, a]
                    ratio -= log_probs[c, a] - reference[c, a]
                if loss_of == DPO:
                    likes, of_likes = _log_sigmoid(beta * ratio)
                    dislikes, of_dislikes = _log_sigmoid(-beta * ratio)
                    loss -= ((kind(1) - smoothing) * likes + smoothing * dislikes) * share
                    of_rejected = beta * ((kind(1) - smoothing) * of_likes - smoothing * of_dislikes) * share
                    of_chosen -= of_rejected
                else:
                    rejected_mean = kind(1 / lengths[pair])
                    odds, of_odds = _log_odds(chosen * mean, largest)
                    other_odds, of_other = _log_odds(rejected * rejected_mean, largest)
                    likes, of_likes = _log_sigmoid(odds - other_odds)
                    loss -= beta * likes * share
                    of_chosen -= beta * of_likes * of_odds * share
                    of_rejected = beta * of_likes * of_other * rejected_mean * share
                for t in range(lengths[pair]):
                    of_log_probs[moves[pair, t] >> 2, moves[pair, t] & 3] += of_rejected
            for i in range(begin, end):
                of_log_probs[cells[i], actions[i]] += of_chosen * mean
        fill(grad, 0)
        for c in range(count):
            if known[c]:
                backward(theta, grad, c, hidden, probs, of_log_probs, of_input)
                for j in range(width):
                    grad[c, j] += of_input[j]
        update(theta, grad, first, second, optimizer, lr, step)
        if stop(theta, loss):
            return step, sampled
    return -1, sampled
