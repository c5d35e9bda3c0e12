"""What a careful person would write for episodes and for planning: one program of JAX, and a loop compiled by numba."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from toy import Lake


def jax_episodes(lake: Lake, episodes: int, horizon: int) -> Callable[[], int]:
    """Plays so many episodes of the uniform policy side by side, a `scan` over steps; returns the steps made."""
    import jax
    import jax.numpy as jnp

    next_cell, terminal = jnp.array(lake.next_cell), jnp.array(lake.terminal)
    outcomes, start = lake.next_cell.shape[2], int(lake.starts[0])

    @jax.jit
    def play(key: Any) -> Any:
        def step(state: Any, key: Any) -> tuple[Any, Any]:
            cell, going = state
            action, outcome = jax.random.randint(key, (2, episodes), 0, 4 * outcomes)
            after = jnp.where(going, next_cell[cell, action % 4, outcome % outcomes], cell)
            return (after, going & ~terminal[after]), (cell, action % 4, going)

        begin = (jnp.full(episodes, start), jnp.ones(episodes, bool))
        return jax.lax.scan(step, begin, jax.random.split(key, horizon))[1]

    return lambda: int(play(jax.random.PRNGKey(0))[2].sum())


@numba.njit
def _play(next_cell, terminal, start, episodes, horizon, cells, actions, mask):  # type: ignore[no-untyped-def]
    steps = 0
    for episode in range(episodes):
        cell, step = start, 0
        while step < horizon and not terminal[cell]:
            action = np.random.randint(4)
            cells[episode, step], actions[episode, step], mask[episode, step] = cell, action, True
            cell = next_cell[cell, action, np.random.randint(next_cell.shape[2])]
            step += 1
            steps += 1
    return steps


def numba_episodes(lake: Lake, episodes: int, horizon: int) -> Callable[[], int]:
    """The same as a loop, one episode after the other, into padded arrays."""

    def play() -> int:
        shape = (episodes, horizon)
        padded = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
        return int(_play(lake.next_cell, lake.terminal, int(lake.starts[0]), episodes, horizon, *padded))

    return play


def jax_planning(lake: Lake, discount: float, tolerance: float) -> Callable[[], Any]:
    """Value iteration in double precision until ‖TV − V‖∞ proves the tolerance, as one program."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    next_cell, weight, reward = _tables(lake, discount)
    next_cells, weights, rewards = jnp.array(next_cell), jnp.array(weight), jnp.array(reward)

    def backup(values: Any) -> Any:
        return (rewards + (weights * values[next_cells]).sum(-1)).max(-1)

    @jax.jit
    def plan() -> Any:
        def goes_on(state: Any) -> Any:
            return state[1] > tolerance * (1 - discount)

        def sweep(state: Any) -> tuple[Any, Any]:
            values = backup(state[0])
            return values, jnp.abs(values - state[0]).max()

        return jax.lax.while_loop(goes_on, sweep, (jnp.zeros(len(next_cells)), jnp.inf))[0]

    return lambda: jax.block_until_ready(plan())


@numba.njit(fastmath=True)
def _sweeps(values, next_cell, weight, reward, target):  # type: ignore[no-untyped-def]
    change = np.inf
    while change > target:
        change = 0.0
        for cell in range(len(values)):
            best = -np.inf
            for action in range(4):
                value = reward[cell, action]
                for k in range(next_cell.shape[2]):
                    value += weight[cell, action, k] * values[next_cell[cell, action, k]]
                best = max(best, value)
            change = max(change, abs(best - values[cell]))
            values[cell] = best
    return values


def numba_planning(lake: Lake, discount: float, tolerance: float) -> Callable[[], Any]:
    """Value iteration in place (Gauss-Seidel), as a loop."""
    tables = _tables(lake, discount)
    return lambda: _sweeps(np.zeros(len(lake.next_cell)), *tables, tolerance * (1 - discount))


def _tables(lake: Lake, discount: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight = discount * lake.probability * ~lake.terminal[lake.next_cell]
    return lake.next_cell, weight, lake.expected_reward
