"""Compiled training on pairs: negatives are sampled, compared and learned from within the kernel (see `toy.kernels`)."""

import numpy as np

from toy.kernels import backward, compiled, forward, stop, update

CHUNK = 6  # steps of noise drawn at a time: what `toy.rollout.simulate_moves` draws
CURRENT, START, FIXED = range(3)  # where negatives come from
DPO, ORPO = range(2)


@compiled
def _sample(theta, generator, starts, table, known, hidden, probs, log_probs, next_cell, below, terminal, horizon,
            cells, actions, lengths):  # fmt: skip
    """One episode from each start into `cells` and `actions [episodes, horizon]` and `lengths [episodes]`.

    Moves are those of `table [cells, 4]`, if it has rows, else of the policy θ, whose cells are computed where they are
    met and then `known`. The draws are those of `toy.rollout.simulate`, in the same order.
    """
    lanes, going, state = np.arange(len(starts)), len(starts), starts.copy()
    lengths[:] = 0
    for first_step in range(0, horizon, CHUNK):
        noise = generator.random((CHUNK, 2, going), dtype=np.float32)
        still = 0
        for lane in range(going):
            episode = lanes[lane]
            for step in range(first_step, min(first_step + CHUNK, horizon)):
                cell = state[episode]
                if terminal[cell]:
                    break
                if len(table):
                    policy = table
                else:
                    _look(theta, cell, known, hidden, probs, log_probs)
                    policy = probs
                action, edge = 0, policy[cell, 0]
                while action < 3 and noise[step - first_step, 0, lane] >= np.float32(edge):
                    action += 1
                    edge += policy[cell, action]
                outcome = 0
                while outcome < len(below) and noise[step - first_step, 1, lane] >= below[outcome]:
                    outcome += 1
                cells[episode, step], actions[episode, step] = cell, action
                lengths[episode] = step + 1
                state[episode] = next_cell[cell, action, outcome]
            if not terminal[state[episode]]:
                lanes[still] = episode
                still += 1
        going = still
        if going == 0:
            break


@compiled
def _look(theta, cell, known, hidden, probs, log_probs):
    """The policy in a cell, where it is not known yet."""
    if not known[cell]:
        for j in range(theta.shape[1]):
            hidden[cell, j] = theta[cell, j]
        forward(theta, cell, hidden, probs, log_probs)
        known[cell] = True


@compiled
def _log_odds(log_prob, largest):
    """log(p / (1 − p)) and its derivative, as `ift.orpo_loss` has them."""
    one = type(log_prob)(1)
    capped = min(log_prob, largest)
    rest = -np.expm1(capped)
    return capped - np.log(rest), (one / rest if log_prob <= largest else one - one)


@compiled
def _log_sigmoid(x):
    """log σ(x), and σ(−x), its derivative."""
    one = type(x)(1)
    small = np.exp(-abs(x))
    below = small / (one + small)
    return (-np.log1p(small), below) if x >= 0 else (x - np.log1p(small), one / (one + small))


@compiled
def fit_pairs(theta, first, second, done, updates, optimizer, lr, generator, begins, cells, actions, next_cell, below,
              terminal, table, reference, fixed_cells, fixed_actions, fixed_lengths, repeats, horizon, loss_of, beta,
              smoothing):  # fmt: skip
    """DPO's or ORPO's updates `done` to `done + updates` of a run; where it was stopped or −1, and sampled steps.

    Targets are as in `fit_targets`; each has `repeats` negatives, sampled from θ, or from `table` if that has rows, or
    the fixed ones if these have. `reference` is the start's log π. A negative that equals its target is none.
    """
    kind, count, targets = theta.dtype.type, len(terminal), len(begins) - 1
    pairs, width, sampled = targets * repeats, theta.shape[1], 0
    grad, hidden, of_input = np.empty_like(theta), np.empty((count, width), theta.dtype), np.empty(width, theta.dtype)
    probs, log_probs = np.empty((count, 4), theta.dtype), np.empty((count, 4), theta.dtype)
    of_log_probs, known = np.empty_like(probs), np.empty(count, np.bool_)
    negative_cells, negative_actions, lengths = fixed_cells, fixed_actions, fixed_lengths
    samples = len(fixed_cells) == 0
    if samples:
        negative_cells, negative_actions = np.empty((pairs, horizon), np.int64), np.empty((pairs, horizon), np.int64)
        lengths = np.empty(pairs, np.int64)
    starts, differs = np.repeat(cells[begins[:-1]], repeats), np.empty(pairs, np.bool_)
    largest = -kind(np.finfo(theta.dtype).eps)
    for step in range(done, done + updates):
        known[:] = False
        if samples:
            _sample(theta, generator, starts, table, known, hidden, probs, log_probs, next_cell, below, terminal,
                    horizon, negative_cells, negative_actions, lengths)  # fmt: skip
            sampled += lengths.sum()
        true_pairs = 0
        for pair in range(pairs):
            begin, length = begins[pair // repeats], lengths[pair]
            same = length == begins[pair // repeats + 1] - begin
            t = 0
            while same and t < length:
                same = (negative_cells[pair, t] == cells[begin + t]) and (
                    negative_actions[pair, t] == actions[begin + t]
                )
                t += 1
            differs[pair] = not same
            true_pairs += differs[pair]
        of_log_probs[:] = 0
        loss = kind(0)
        share = kind(1 / max(true_pairs, 1)) if loss_of == DPO else kind(1 / pairs)
        for n in range(targets):
            begin, end = begins[n], begins[n + 1]
            chosen, of_reference, of_chosen = kind(0), kind(0), kind(0)
            for i in range(begin, end):
                _look(theta, cells[i], known, hidden, probs, log_probs)
                chosen += log_probs[cells[i], actions[i]]
                of_reference += reference[cells[i], actions[i]]
            mean = kind(1) if loss_of == DPO else kind(1 / (end - begin))
            for pair in range(n * repeats, (n + 1) * repeats):
                if loss_of == ORPO:
                    loss -= chosen * mean * share
                    of_chosen -= share
                if not differs[pair]:
                    continue
                rejected, ratio = kind(0), chosen - of_reference
                for t in range(lengths[pair]):
                    c, a = negative_cells[pair, t], negative_actions[pair, t]
                    _look(theta, c, known, hidden, probs, log_probs)
                    rejected += log_probs[c, a]
                    ratio -= log_probs[c, a] - reference[c, a]
                if loss_of == DPO:
                    likes, of_likes = _log_sigmoid(beta * ratio)
                    dislikes, of_dislikes = _log_sigmoid(-beta * ratio)
                    loss -= ((kind(1) - smoothing) * likes + smoothing * dislikes) * share
                    through = -beta * ((kind(1) - smoothing) * of_likes - smoothing * of_dislikes) * share
                    of_chosen += through
                    of_rejected = -through
                else:
                    part = kind(1 / lengths[pair])
                    odds, of_odds = _log_odds(chosen * mean, largest)
                    other_odds, of_other = _log_odds(rejected * part, largest)
                    likes, of_likes = _log_sigmoid(odds - other_odds)
                    loss -= beta * likes * share
                    of_chosen -= beta * of_likes * of_odds * share
                    of_rejected = beta * of_likes * of_other * part * share
                for t in range(lengths[pair]):
                    of_log_probs[negative_cells[pair, t], negative_actions[pair, t]] += of_rejected
            for i in range(begin, end):
                of_log_probs[cells[i], actions[i]] += of_chosen * mean
        grad[:] = 0
        for c in range(count):
            if known[c]:
                backward(theta, grad, c, hidden, probs, of_log_probs, of_input)
                for j in range(width):
                    grad[c, j] += of_input[j]
        update(theta, grad, first, second, optimizer, lr, step)
        if stop(theta, loss):
            return step, sampled
    return -1, sampled
