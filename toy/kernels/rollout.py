"""Episodes on a lake, with the random numbers of NumPy's generators."""

import numpy as np

from toy.kernels.steps import compiled, forward, part
from toy.kernels.streams import random32

CHUNK = 6  # steps of noise drawn at a time for all episodes of a run that are under way


@part
def look(theta, cell, known, hidden, probs, log_probs):
    """The policy θ in a cell, where it is not `known` yet."""
    if not known[cell]:
        for j in range(theta.shape[1]):
            hidden[cell, j] = theta[cell, j]
        forward(theta, cell, hidden, probs, log_probs)
        known[cell] = True


@part
def sample(streams, run, starts, theta, known, hidden, probs, log_probs, next_cell, below, terminal, horizon,
           moves, outcomes, lengths, noise, lanes, state):  # fmt: skip
    """One episode of a run from each of `starts [episodes]`: `moves [episodes, horizon]`, cell * 4 + action.

    The policy is `probs [cells, 4]`; where a cell is not `known`, θ says it. `outcomes`, if it has rows, takes which
    outcome each move had, `lengths [episodes]` the number of steps. The rest is room to work in: `noise [CHUNK, 2,
    episodes]`, `lanes` and `state [episodes]`.
    """
    going = len(starts)
    for lane in range(going):
        lanes[lane], state[lane], lengths[lane] = lane, starts[lane], 0
    for first_step in range(0, horizon, CHUNK):
        for step in range(CHUNK):
            for which in range(2):
                for lane in range(going):
                    noise[step, which, lane] = random32(streams, run)
        still = 0
        for lane in range(going):
            episode = lanes[lane]
            cell, step = state[episode], first_step
            while step < min(first_step + CHUNK, horizon) and not terminal[cell]:
                look(theta, cell, known, hidden, probs, log_probs)
                action, edge = 0, probs[cell, 0]
                while action < 3 and noise[step - first_step, 0, lane] >= np.float32(edge):
                    action += 1
                    edge += probs[cell, action]
                outcome = 0
                while outcome < len(below) and noise[step - first_step, 1, lane] >= below[outcome]:
                    outcome += 1
                moves[episode, step] = cell * 4 + action
                if len(outcomes):
                    outcomes[episode, step] = outcome
                cell = next_cell[cell, action, outcome]
                step += 1
            state[episode], lengths[episode] = cell, step
            if not terminal[cell]:
                lanes[still] = episode
                still += 1
        going = still
        if going == 0:
            break


@compiled
def play(begin, end, streams, starts, table, next_cell, below, terminal, horizon, moves, outcomes, lengths):
    """Episodes of runs `begin` to `end` by policies `table [runs, cells, 4]`, from `starts [runs, episodes]`."""
    episodes, cells = starts.shape[1], table.shape[1]
    noise, lanes = np.empty((CHUNK, 2, episodes), np.float32), np.empty(episodes, np.int64)
    state, known, nothing = np.empty(episodes, np.int64), np.ones(cells, np.bool_), table[0, :0]
    for run in range(begin, end):
        sample(streams, run, starts[run], nothing, known, nothing, table[run], nothing, next_cell, below, terminal,
               horizon, moves[run], outcomes[run], lengths[run], noise, lanes, state)  # fmt: skip


@compiled
def unfold(begin, end, moves, outcomes, lengths, reward, cells, actions, mask, rewards):
    """The moves of runs `begin` to `end` into arrays of zeros `[runs, episodes, steps]`; what is behind stays 0."""
    for run in range(begin, end):
        for episode in range(lengths.shape[1]):
            for step in range(lengths[run, episode]):
                move = moves[run, episode, step]
                cells[run, episode, step] = move >> 2
                actions[run, episode, step] = move & 3
                mask[run, episode, step] = True
                rewards[run, episode, step] = reward[move >> 2, move & 3, outcomes[run, episode, step]]
