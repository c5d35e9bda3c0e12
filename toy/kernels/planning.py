"""The optimal values of a large lake: relaxation of the greedy policy's equations, cell after cell."""

import numpy as np

from toy.kernels.steps import compiled

_SWEEPS = 300  # of one policy, at most
_ENOUGH = 0.03  # share of the last improvement's change at which a policy is improved again
_OVER = 1.5  # over-relaxation: each cell moves so many times as far as its equation says


@compiled
def relax(values, window, next_cell, weight, reward, target):
    """Improve `values[:window]` in place until a sweep of V ← max_a Q changes none by more than `target`; sweeps made.

    Between such sweeps the values move toward those of the policy that was greedy, by successive over-relaxation
    (Young 1950). Where that does not bring the sweeps' change down, it stops going over: without, each sweep contracts.
    `target` falls no lower than rounding allows.
    """
    actions, outcomes = np.empty(window, np.int64), next_cell.shape[2]
    over, smallest, sweeps = _OVER, np.inf, 0
    while True:
        change, highest = 0.0, 0.0
        for cell in range(window):
            best, action = -np.inf, 0
            for a in range(4):
                q = reward[cell, a]
                for k in range(outcomes):
                    q += weight[cell, a, k] * values[next_cell[cell, a, k]]
                if q > best:
                    best, action = q, a
            actions[cell] = action
            change, highest = max(change, abs(best - values[cell])), max(highest, abs(best))
            values[cell] = best
        sweeps += 1
        if change <= max(target, 4 * np.finfo(np.float64).eps * highest):
            return sweeps
        if change >= smallest:
            over = 1.0
        smallest = min(smallest, change)
        for _ in range(_SWEEPS):
            moved = 0.0
            for cell in range(window):
                a = actions[cell]
                q = reward[cell, a]
                for k in range(outcomes):
                    q += weight[cell, a, k] * values[next_cell[cell, a, k]]
                step = over * (q - values[cell])
                values[cell] += step
                moved = max(moved, abs(step))
            sweeps += 1
            if moved <= _ENOUGH * change or moved > 100 * change:  # near enough, or running away
                break
