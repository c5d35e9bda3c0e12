"""The peer of the toolkit's trainings: the same methods as one jitted program of JAX, in the way of PureJaxRL.

`vmap` over runs of a `scan` over updates, gradients by `jax.grad`, optimisers from optax, single precision. Negatives
are sampled from the policy as it is at each update, as the toolkit does; lakes do not slip.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from toy.stages import Problem

LAM, GAMMA = 0.2, 0.95
OPTIMIZERS = {"adam": optax.adam(3e-3), "sgd": optax.sgd(0.03)}
BLOCK = 128  # runs of one call: the fastest of 64, 128, 256 and all at once


def program(problem: Problem, method: str, optimizer: str, updates: int) -> Callable[[int], Any]:
    """A function that trains so many runs, in blocks, and waits for the last of them."""
    loss, optimiser = _loss(problem, method), OPTIMIZERS[optimizer]
    sizes = (len(problem.live), problem.settings.width)

    def run(key: Any) -> Any:
        start = _start(key, *sizes)
        reference = _table(start)

        def update(state: Any, key: Any) -> tuple[Any, None]:
            parameters, moments = state
            gradient = jax.grad(loss)(parameters, reference, key)
            change, moments = optimiser.update(gradient, moments)
            return (optax.apply_updates(parameters, change), moments), None

        state, _ = jax.lax.scan(update, (start, optimiser.init(start)), jax.random.split(key, updates))
        return state[0]

    train = jax.jit(jax.vmap(run))

    def trained(runs: int) -> None:
        keys = jax.random.split(jax.random.PRNGKey(0), runs)
        for first in range(0, runs, BLOCK):
            jax.block_until_ready(train(keys[first : first + BLOCK]))

    return trained


def _start(key: Any, cells: int, width: int) -> dict[str, Any]:
    shapes = {"first": (cells, width), "bias": (width,), "second": (width, 4), "last": (4,)}
    bounds = (cells**-0.5, cells**-0.5, width**-0.5, width**-0.5)
    keys = jax.random.split(key, 4)
    return {
        name: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        for (name, shape), key, bound in zip(shapes.items(), keys, bounds, strict=True)
    }


def _log_probs(parameters: dict[str, Any], rows: Any) -> Any:
    hidden = jax.nn.relu(rows + parameters["bias"])
    return jax.nn.log_softmax(hidden @ parameters["second"] + parameters["last"])


def _table(parameters: dict[str, Any]) -> Any:
    return _log_probs(parameters, parameters["first"])


def _loss(problem: Problem, method: str) -> Callable[..., Any]:
    target = problem.target_trajectories
    cells, actions = jnp.array(target.cells[0].numpy()), jnp.array(target.actions[0].numpy())
    next_cell, terminal = jnp.array(problem.lake.next_cell[:, :, 0]), jnp.array(problem.lake.terminal)
    steps, count, horizon = len(cells), len(terminal), 4 * len(cells)
    episodes = problem.settings.negatives_per_step

    def sft(parameters: Any, reference: Any, key: Any) -> Any:
        return -_log_probs(parameters, parameters["first"][cells])[jnp.arange(steps), actions].mean()

    def ift(parameters: Any, reference: Any, key: Any) -> Any:
        greedy = _log_probs(parameters, parameters["first"][cells]).argmax(1)
        own, reached = jax.nn.one_hot(cells, count), jax.nn.one_hot(next_cell[cells, greedy], count)
        states = jax.lax.stop_gradient((1 - LAM) * own + LAM * jnp.concatenate([own[:1], reached[:-1]]))
        losses = -_log_probs(parameters, states @ parameters["first"])[jnp.arange(steps), actions]
        power = GAMMA ** jnp.arange(steps)
        suffix = jnp.cumsum((losses * power)[::-1])[::-1] / power
        return (suffix / suffix.sum() * losses).sum()

    def negatives(table: Any, key: Any) -> tuple[Any, Any, Any, Any]:
        def step(state: Any, noise: Any) -> tuple[Any, Any]:
            cell, going = state
            action = (table[cell] + noise).argmax(1)
            after = jnp.where(going, next_cell[cell, action], cell)
            return (after, going & ~terminal[after]), (cell, action, going)

        begin = (jnp.full(episodes, cells[0]), jnp.ones(episodes, bool))
        _, (at, taken, mask) = jax.lax.scan(step, begin, jax.random.gumbel(key, (horizon, episodes, 4)))
        same = mask[:steps] & (at[:steps] == cells[:, None]) & (taken[:steps] == actions[:, None])
        same = same.all(0) & ~mask[steps:].any(0)
        return at, taken, mask, ~same

    def dpo(parameters: Any, reference: Any, key: Any) -> Any:
        table = _table(parameters)
        at, taken, mask, differs = negatives(jax.lax.stop_gradient(table), key)
        chosen = (table - reference)[cells, actions].sum()
        rejected = ((table - reference)[at, taken] * mask).sum(0)
        losses = -jax.nn.log_sigmoid(2.0 * (chosen - rejected))
        return (losses * differs).sum() / jnp.maximum(differs.sum(), 1)

    def orpo(parameters: Any, reference: Any, key: Any) -> Any:
        table = _table(parameters)
        at, taken, mask, differs = negatives(jax.lax.stop_gradient(table), key)
        chosen = table[cells, actions].mean()
        rejected = (table[at, taken] * mask).sum(0) / mask.sum(0)
        ratio = _log_odds(chosen) - _log_odds(rejected)
        return (-chosen - jnp.where(differs, 0.1 * jax.nn.log_sigmoid(ratio), 0)).mean()

    return {"sft": sft, "ift": ift, "dpo": dpo, "orpo": orpo}[method]


def _log_odds(log_prob: Any) -> Any:
    log_prob = jnp.minimum(log_prob, -jnp.finfo(log_prob.dtype).eps)
    return log_prob - jnp.log(-jnp.expm1(log_prob))
