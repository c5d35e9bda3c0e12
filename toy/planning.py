"""The optimum and the worth of any policy, from the lake's tables: what reinforcement learning would have to find."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import bicgstab, spsolve

from toy.lake import Lake

LEAK = 1e-12  # chance per step that an episode ends by itself: keeps a policy that walks in circles solvable

_FIRST_WINDOW = 4096  # cells solved first on a large lake, those nearest to a reward
_RELAXED = 2**14  # cells of a window up to which sweeps are faster than a linear solver
_SMALL = 1024  # cells; up to here policies are evaluated by direct solves, many at once with dense matrices


@dataclass(frozen=True, eq=False)
class Plan:
    """The optimum of a lake.

    Attributes:
        values: V*(s), expected discounted return, `[cells]`.
        q_values: Q*(s, a), `[cells, 4]`.
        policy: π*(a | s), uniform over the optimal actions of a cell, `[cells, 4]`; uniform where the episode is over.
        error_bound: no entry of `values` is farther from V* than this.
        backups: sweeps over a window, and Bellman backups of all cells, that it took.
    """

    values: np.ndarray
    q_values: np.ndarray
    policy: np.ndarray
    error_bound: float
    backups: int


def check_discount(discount: float) -> None:
    """Raise unless 0 < discount < 1: at 1 no error bound exists, and every way to the goal is as good as any other."""
    if not 0 < discount < 1:
        raise ValueError(f"discount must lie strictly between 0 and 1, got {discount}")


def value_iteration(lake: Lake, discount: float = 0.99, tolerance: float = 1e-10) -> Plan:
    """V* to within `tolerance`, by value iteration helped along; the bound is that of value iteration.

    The bound: ‖V − V*‖∞ ≤ ‖TV − V‖∞ / (1 − discount), T the Bellman backup of *all* cells (Puterman 1994, §6.3).
    Lakes of up to 1024 cells are solved to rounding by policy iteration with direct solves (Howard 1960), which is
    right also where values are tiny. Larger ones get two helps.
    Help one, inexact policy iteration: between two sweeps V ← TV, cell after cell from the reward outward, V moves to
    the value of the greedy policy, roughly solved by over-relaxation, or in large windows by BiCGSTAB.
    Where nothing slips there is a better one: shortest paths say V* in closed form (`_walked_values`), and nothing is
    left to do but the backup of all cells that proves it.
    Help two, windows: away from rewards V* sinks below the tolerance, so the solver works on the cells nearest to a
    reward (V = 0 beyond) and widens this window until the backup of all cells meets the bound.

    Ties are kept: an action is optimal if its value is within 1e-9 of the best, relatively, on lakes of up to 1024
    cells, and within 4 error bounds on larger ones. So where a large lake's values sink below the bound, far from any
    reward, all actions count as optimal.
    """
    check_discount(discount)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    order = np.argsort(_distance(lake, lake.expected_reward != 0), kind="stable")
    backup = _Backup(lake, order, discount)
    small = len(order) <= _SMALL
    walked = not small and bool((lake.probability.max(-1) == 1).all())
    guess = (_walked_values(lake, discount) if walked else _first_guess(lake))[order]
    target = tolerance * (1 - discount)
    values = np.zeros(len(order))
    first = len(order) if walked or small else max(_FIRST_WINDOW, backup.last_reward + 1)
    solved, window, backups = 0, min(first, len(order)), 0
    while True:
        values[solved:window] = guess[solved:window]
        backups += 1 + (
            _solve_exactly(backup, values, target) if small else _solve_window(backup, values, window, target)
        )
        residual = np.abs(backup(values, len(order)).max(1) - values).max()
        if window == len(order) or residual <= target:
            break
        solved, window = window, min(4 * window, len(order))
    rounding = 8 * np.finfo(float).eps * np.abs(values).max()
    error_bound = float((residual + rounding) / (1 - discount))
    cell_values, q_values = np.empty_like(values), np.empty((len(order), 4))
    cell_values[order], q_values[order] = values, backup(values, len(order))
    top = q_values.max(1, keepdims=True)
    best = q_values >= top - (1e-9 * np.abs(top) if small else 4 * error_bound)
    return Plan(cell_values, q_values, best / best.sum(1, keepdims=True), error_bound, backups)


def _distance(lake: Lake, rewarding: np.ndarray) -> np.ndarray:
    """Steps, holes and walls ignored, to the nearest cell with a `rewarding [cells, 4]` action, `[cells]`."""
    far = np.where(rewarding.any(1), 0, 1)
    return ndimage.distance_transform_cdt(far.reshape(lake.shape), "taxicab").ravel() if not far.all() else 0 * far


def _first_guess(lake: Lake) -> np.ndarray:
    """Values that fall by a tenth a step from the best reward, `[cells]`: any would do, these make the first policy
    walk toward it, which saves most of the sweeps that carry a reward across the lake."""
    reward = lake.expected_reward
    return np.where(lake.terminal, 0, max(reward.max(), 0) * 0.9 ** _distance(lake, reward == reward.max()))


def _walked_values(lake: Lake, discount: float) -> np.ndarray:
    """V* of a lake where every action leads to one cell, `[cells]`, without sweeps.

    Whoever enters a goal or a hole (reward r) at step d has F + γ^(d−1) (r − F), F the worth of frozen ice for ever. So
    each is best entered by a shortest path if r > F, and put off for ever if not, which a cell with a neighbour that
    does not end the episode allows: one can walk back.
    """
    goal_reward, hole_reward, frozen_reward = lake.reward_schedule
    next_cell = np.take_along_axis(lake.next_cell, lake.probability.argmax(-1)[..., None], -1)[..., 0]
    for_ever = frozen_reward / (1 - discount)
    lives = ~lake.terminal
    values = np.where(lives & lives[next_cell].any(1), for_ever, -np.inf)
    for reward, end in ((goal_reward, lake.goal), (hole_reward, lake.terminal & ~lake.goal)):
        steps = _steps_to(end, next_cell, lives)
        entered = for_ever + discount ** np.maximum(steps - 1.0, 0) * (reward - for_ever)
        values = np.maximum(values, np.where(steps > 0, entered, -np.inf))
    return np.where(lives, values, 0)


def _steps_to(end: np.ndarray, next_cell: np.ndarray, lives: np.ndarray) -> np.ndarray:
    """Length of the shortest path into an `end [cells]`, `[cells]`; 0 where there is none, and at ends."""
    steps = np.zeros(len(end), np.int64)
    frontier, length = np.flatnonzero(lives & end[next_cell].any(1)), 1
    while len(frontier):
        steps[frontier] = length
        length += 1
        reached = next_cell[frontier].ravel()  # a neighbour's neighbours: moves on ice can be walked back
        frontier = np.unique(reached[lives[reached] & (steps[reached] == 0)])
    return steps


class _Backup:
    """Q(s, a) = R(s, a) + discount Σ_s' P(s' | s, a) V(s') for the first `window` cells of an order."""

    def __init__(self, lake: Lake, order: np.ndarray, discount: float):
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        self.next_cell = rank[lake.next_cell[order]]
        terminal = lake.terminal[order]
        self.weight = discount * lake.probability[order] * ~terminal[self.next_cell]
        self.reward = lake.expected_reward[order]
        self.last_reward = int(np.flatnonzero((self.reward != 0).any(1))[-1]) if self.reward.any() else 0

    def __call__(self, values: np.ndarray, window: int) -> np.ndarray:
        next_cell, weight = self.next_cell[:window], self.weight[:window]
        return self.reward[:window] + _rows(weight, next_cell, len(values)).dot(values).reshape(window, 4)

    def greedy_system(self, actions: np.ndarray, window: int) -> csr_array:
        """I − discount · P of the policy that takes `actions [window]`, within the window, `[window, window]`."""
        cell = np.arange(window)
        next_cell, weight = self.next_cell[cell, actions], self.weight[cell, actions]
        inside = next_cell < window
        return _rows(
            np.column_stack([np.ones(window), -weight * inside]), np.column_stack([cell, next_cell * inside]), window
        )


def _rows(weight: np.ndarray, column: np.ndarray, columns: int) -> csr_array:
    """Sparse matrix whose row i holds `weight[i, k]` at `column[i, k]`, over the flattened leading dimensions."""
    k = weight.shape[-1]
    bounds = np.arange(0, weight.size + 1, k, dtype=np.int32)
    return csr_array((weight.ravel(), column.ravel(), bounds), shape=(weight.size // k, columns))


def _solve_exactly(backup: _Backup, values: np.ndarray, target: float) -> int:
    """Policy iteration in place, from the policy that is greedy for `values`; the number of backups that it took.

    Moves that are equal to 1e-12 count as equally good, so that the iteration ends; sweeps then bring ‖TV − V‖∞ down to
    `target`, or to what rounding allows.
    """
    cell, backups = np.arange(len(values)), 1
    actions = backup(values, len(values)).argmax(1)
    while True:
        values[:] = spsolve(backup.greedy_system(actions, len(values)).tocsc(), backup.reward[cell, actions])
        q_values = backup(values, len(values))
        backups += 1
        better = q_values.max(1) > q_values[cell, actions] + 1e-12 * np.abs(q_values).max(1)
        if not better.any():
            break
        actions = np.where(better, q_values.argmax(1), actions)
    while np.abs(q_values.max(1) - values).max() > max(target, 4 * np.finfo(float).eps * np.abs(values).max()):
        values[:] = q_values.max(1)
        q_values = backup(values, len(values))
        backups += 1
    return backups


def _solve_window(backup: _Backup, values: np.ndarray, window: int, target: float) -> int:
    """Improve `values[:window]` in place until ‖TV − V‖∞ ≤ target there; the number of sweeps that it took."""
    if window > _RELAXED:
        return _solve_large_window(backup, values, window, target)
    from toy.kernels.planning import relax  # small lakes need no compiler, and commands start without it

    return int(relax(values, window, backup.next_cell, backup.weight, backup.reward, target))


def _solve_large_window(backup: _Backup, values: np.ndarray, window: int, target: float) -> int:
    """`_solve_window` by inexact policy iteration, as a value crosses a large window faster by BiCGSTAB.

    If moving to the value of the greedy policy did not shrink ‖TV − V‖∞, the ordinary sweep V ← TV is taken, which
    always does: it contracts.
    """
    smallest, after_sweep = np.inf, values[:window].copy()
    backups = 0
    while True:
        backups += 1
        q_values = backup(values, window)
        actions = q_values.argmax(1)
        swept = q_values[np.arange(window), actions]
        change = swept - values[:window]
        residual = np.abs(change).max()
        if residual <= max(target, 4 * np.finfo(float).eps * np.abs(swept).max()):
            return backups
        if residual < smallest:
            smallest, after_sweep = residual, swept
            system = backup.greedy_system(actions, window)
            rewards = backup.reward[np.arange(window), actions]
            enough = max(0.01 * float(np.linalg.norm(change)), 0.1 * target)
            values[:window], _ = bicgstab(system, rewards, x0=swept, rtol=0, atol=enough, maxiter=200)
        else:
            values[:window] = after_sweep


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What policies are worth, exactly (no sampling); `...` are the leading dimensions of the policies.

    Attributes:
        values: V^π(s), expected discounted return, `[..., cells]`.
        returns: V^π at the start, the mean over start cells, `[...]`.
        success: probability that an episode ends in a goal, `[...]`.
    """

    values: np.ndarray
    returns: np.ndarray
    success: np.ndarray


def evaluate(
    lake: Lake, policy: np.ndarray, discount: float = 0.99, max_episode_steps: int | None = None
) -> Evaluation:
    """Exact evaluation of policies `[..., cells, 4]` by linear solves: (I − γP)V = R, and (I − P)x = P(goal).

    Where episodes are cut after `max_episode_steps`, by backward induction from the last step: V₀ = 0 and
    V_{t+1} = R + γ P V_t, t steps before the end.

    Raises:
        ValueError: policies of another shape, or whose probabilities do not sum to 1 in every cell.
    """
    check_discount(discount)
    cells = len(lake.next_cell)
    if policy.shape[-2:] != (cells, 4) or not np.allclose(policy.sum(-1), 1, atol=1e-6):
        raise ValueError(
            f"policy must be probabilities [..., {cells}, 4] that sum to 1 over actions, got {policy.shape}"
        )
    solve = _evaluate_dense if cells <= _SMALL else _evaluate_sparse
    solved = [solve(lake, piece, discount, max_episode_steps) for piece in _pieces(policy)]
    values, reached = (np.concatenate(part).reshape(policy.shape[:-1]) for part in zip(*solved, strict=True))
    return Evaluation(values, values[..., lake.starts].mean(-1), reached[..., lake.starts].mean(-1))


def _pieces(policy: np.ndarray) -> list[np.ndarray]:
    """Policies `[..., cells, 4]` as a list of `[policies, cells, 4]`, few enough at a time for dense matrices."""
    cells = policy.shape[-2]
    flat = np.asarray(policy, float).reshape(-1, cells, 4)
    return np.array_split(flat, max(1, len(flat) * min(cells, _SMALL) ** 2 // 2**24))


def _evaluate_dense(
    lake: Lake, policy: np.ndarray, discount: float, steps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    live = ~lake.terminal
    moves = _moves_of_live(lake, policy, live)
    rewards, into_goal = ((policy * part).sum(-1)[:, live] for part in (lake.expected_reward, _goal_chance(lake)))
    everywhere = np.zeros((2, *policy.shape[:-1]))
    if steps is not None:
        backward = np.ascontiguousarray(moves.swapaxes(1, 2))
        everywhere[..., live] = _induced(backward, np.stack([rewards, into_goal], 1), discount, steps)
    else:
        for i, (now, factor) in enumerate(((rewards, discount), (into_goal, 1 - LEAK))):
            everywhere[i][:, live] = np.linalg.solve(np.eye(live.sum()) - factor * moves, now[..., None])[..., 0]
    return everywhere[0], np.clip(everywhere[1], 0, 1)


def _moves_of_live(lake: Lake, policy: np.ndarray, to: np.ndarray) -> np.ndarray:
    """P^π(s → s') from the cells where the episode goes on to the cells `to`, `[policies, live cells, those cells]`."""
    live = ~lake.terminal
    transition = np.ascontiguousarray(lake.transition_matrix()[live][..., to])
    return (policy[:, live].swapaxes(0, 1) @ transition).swapaxes(0, 1)


def _induced(backward: Any, now: np.ndarray, discount: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and goals in so many steps, from those of one step, `now [..., 2, cells]`, and the moves transposed."""
    now = np.ascontiguousarray(now)
    factor, total = np.array([[discount], [1]]), np.zeros_like(now)
    for _ in range(steps):  # both in one product, as reading the moves is what takes the time
        total = now + factor * (total @ backward)
    return total[..., 0, :], total[..., 1, :]


def _evaluate_sparse(
    lake: Lake, policy: np.ndarray, discount: float, steps: int | None
) -> tuple[np.ndarray, np.ndarray]:
    cells = len(lake.next_cell)
    goes_on = lake.probability * ~lake.terminal[lake.next_cell]
    column = lake.next_cell.reshape(cells, -1)
    eye = eye_array(cells, format="csr")
    values, reached = np.empty((2, len(policy), cells))
    for i, one in enumerate(policy):
        live = _rows((one[..., None] * goes_on).reshape(cells, -1), column, cells)
        rewards, into_goal = ((one * now).sum(-1) for now in (lake.expected_reward, _goal_chance(lake)))
        if steps is not None:
            values[i], reached[i] = _induced(live.T, np.stack([rewards, into_goal]), discount, steps)
            continue
        values[i] = spsolve((eye - discount * live).tocsc(), rewards)
        reached[i] = spsolve((eye - (1 - LEAK) * live).tocsc(), into_goal)
    return values, np.clip(reached, 0, 1)


def _goal_chance(lake: Lake) -> np.ndarray:
    """Probability that an action steps into a goal, `[cells, 4]`; 0 from a goal itself."""
    return (lake.probability * lake.goal[lake.next_cell]).sum(-1) * ~lake.terminal[:, None]


def visit_probability(lake: Lake, policy: np.ndarray) -> np.ndarray:
    """Probability that an episode ever enters a cell, `[..., cells]` for policies `[..., cells, 4]`, exactly.

    P(visit s') = Σ_s N(s, s')/N(s', s') over starts s, N = (I − P)⁻¹ the expected visits (Kemeny & Snell 1960, §3.5).
    Summed over cells it is the expected number of distinct cells of an episode. Dense: small lakes only.
    """
    live = ~lake.terminal
    starts = np.searchsorted(np.flatnonzero(live), lake.starts)
    chances = []
    for piece in _pieces(policy):
        on, into_ends = (_moves_of_live(lake, piece, to) for to in (live, ~live))
        visits = np.linalg.inv(np.eye(live.sum()) - (1 - LEAK) * on)  # among cells where the episode goes on
        entered = np.empty((len(piece), len(starts), len(live)))
        entered[..., live] = visits[:, starts] / np.diagonal(visits, axis1=-2, axis2=-1)[:, None]
        entered[..., ~live] = visits[:, starts] @ into_ends  # an episode enters a goal or a hole once
        chances.append(np.clip(entered.mean(1), 0, 1))
    return np.concatenate(chances).reshape(policy.shape[:-1])
