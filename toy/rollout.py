"""Episodes: many at once from the lake's tables, and one at a time in the real Gymnasium environment."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from toy.lake import Lake
from toy.trajectories import Trajectories

_CHUNK = 6  # steps between two clearances of finished episodes, and steps of noise drawn at a time


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A lake's tables as tensors on a device. A move is one number: `(cell * 4 + action) * K + outcome`."""

    next_cell: Tensor  # [moves]
    cell_of_move: Tensor  # [moves]
    action_of_move: Tensor  # [moves]
    reward: Tensor  # [moves]
    terminal: Tensor  # [cells] bool
    outcome_below: tuple[float, ...]  # cumulative probability of the K outcomes, but for the last
    transition: Tensor  # P(s' | s, a) `[cells, 4, cells]`

    @classmethod
    def of(cls, lake: Lake, dtype: torch.dtype, device: torch.device) -> "Dynamics":
        # Outcomes have the same chances wherever the episode goes on; where it is over, all lead to the cell itself.
        chances = lake.probability[lake.starts[0], 0].cumsum()
        cell, action, _ = np.indices(lake.next_cell.shape)
        return cls(
            torch.as_tensor(lake.next_cell.ravel(), dtype=torch.long, device=device),
            torch.as_tensor(cell.ravel(), device=device),
            torch.as_tensor(action.ravel(), device=device),
            torch.as_tensor(lake.reward.ravel(), dtype=dtype, device=device),
            torch.as_tensor(lake.terminal, device=device),
            tuple(chances[:-1].tolist()),
            torch.as_tensor(lake.transition_matrix(), dtype=dtype, device=device),
        )


@dataclass(frozen=True, eq=False)
class Episodes(Trajectories):
    """Sampled trajectories `[runs, episodes, steps]` with the reward of each step, 0 where mask is false."""

    rewards: Tensor


def simulate(
    dynamics: Dynamics, policy: Tensor, starts: Tensor, horizon: int, generators: Sequence[np.random.Generator]
) -> Episodes:
    """Play one episode from each start, cut after `horizon` steps.

    Every run draws from a generator of its own, and only while it has an episode under way: what a run sees does not
    depend on the runs beside it.

    Args:
        dynamics: of the lake.
        policy: action probabilities `[runs, cells, 4]`.
        starts: start cell of each episode `[runs, episodes]`.
        horizon: longest episode, in steps.
        generators: one per run.

    Returns:
        Episodes `[runs, episodes, steps]`, padded to the length of the longest one.
    """
    moves = torch.full((horizon, starts.numel()), -1, dtype=torch.int32, device=policy.device)
    for first_step, lane, taken in simulate_moves(dynamics, policy, starts, horizon, generators):
        moves[first_step : first_step + len(taken), lane] = taken
    moves = moves[(moves >= 0).any(1)].T.contiguous().view(*starts.shape, -1)
    mask = moves >= 0
    flat = moves.clamp_(min=0).flatten()
    cells, actions, rewards = (
        table.index_select(0, flat).view_as(moves) * mask
        for table in (dynamics.cell_of_move, dynamics.action_of_move, dynamics.reward)
    )
    return Episodes(cells, actions, mask, rewards)


def simulate_moves(
    dynamics: Dynamics, policy: Tensor, starts: Tensor, horizon: int, generators: Sequence[np.random.Generator]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The moves of all episodes as they are made, a few steps at a time; arguments as in `simulate`.

    Yields (first step, lanes, moves `[steps, lanes]`): lane `run * episodes + episode` made these moves from that step
    on, −1 once its episode is over. A table look-up says all of a move, so nothing else is computed or kept.
    """
    n_cells, episodes = policy.shape[1], starts.shape[1]
    outcomes = len(dynamics.outcome_below) + 1
    moves_per_run = n_cells * 4 * outcomes
    runs = torch.arange(len(policy), device=policy.device, dtype=torch.int32)
    # Every run has its own copy of the cells, so that a state `run * cells + cell` finds its policy in one look-up.
    action_below = policy.detach().cumsum(-1)[..., :3].reshape(-1, 3).T.float().contiguous()  # [3, states]
    next_state = (dynamics.next_cell.int() + runs[:, None] * n_cells).flatten()
    terminal = dynamics.terminal.repeat(len(runs))
    is_over = terminal.repeat_interleave(4 * outcomes)  # [runs * moves]
    lane = torch.arange(starts.numel(), device=policy.device)
    state = (starts.int() + runs[:, None] * n_cells).flatten()
    buffer = np.empty((_CHUNK, 2, len(lane)), np.float32)
    for first_step in range(0, horizon, _CHUNK):
        run = torch.div(lane, episodes, rounding_mode="floor")
        noise = _noise(generators, run, buffer)[: horizon - first_step].to(policy.device)
        moves = torch.empty(len(noise), len(lane), dtype=torch.int32, device=policy.device)
        for move, (action_noise, outcome_noise) in zip(moves, noise, strict=True):
            action = _count(action_noise >= below.index_select(0, state) for below in action_below)
            torch.add(action, state, alpha=4, out=move)
            if outcomes > 1:
                move.mul_(outcomes).add_(_count(outcome_noise >= below for below in dynamics.outcome_below))
            state = next_state.index_select(0, move)
        over = is_over.index_select(0, moves.flatten()).view_as(moves)
        yield first_step, lane, moves.sub_(run.int() * moves_per_run).masked_fill_(over, -1)
        goes_on = (~terminal.index_select(0, state)).nonzero().squeeze(1)
        lane, state = lane[goes_on], state[goes_on]
        if not len(lane):
            return


def _count(flags: Iterable[Tensor]) -> Tensor:
    """How many of the boolean tensors are true; added up as bytes, which is what they are in memory."""
    first, *others = (flag.view(torch.uint8) for flag in flags)
    for other in others:
        first.add_(other)
    return first


def _noise(generators: Sequence[np.random.Generator], run: Tensor, buffer: np.ndarray) -> Tensor:
    """Uniform numbers in [0, 1) of 24 bits for the action and the outcome of each step, `[steps, 2, lanes]`.

    `run [lanes]` says whose lane it is, in order. `buffer` is overwritten: fresh memory would cost more than the draws.
    """
    noise, lane = buffer[:, :, : len(run)], 0
    for owner, lanes in zip(*(part.tolist() for part in run.unique_consecutive(return_counts=True)), strict=True):
        noise[:, :, lane : lane + lanes] = generators[owner].random((len(noise), 2, lanes), dtype=np.float32)
        lane += lanes
    return torch.from_numpy(noise)


def gymnasium_env(lake: Lake, **options: Any) -> gym.Env:
    """The same lake as Gymnasium's own environment, with the lake's limit of steps."""
    limit = -1 if lake.max_episode_steps is None else lake.max_episode_steps  # -1: none, not even the registered one
    return gym.make(
        "FrozenLake-v1",
        desc=[list(row) for row in lake.rows],
        is_slippery=lake.slippery,
        success_rate=lake.success_rate,
        reward_schedule=lake.reward_schedule,
        max_episode_steps=options.pop("max_episode_steps", limit),
        **options,
    )


def play(lake: Lake, policy: np.ndarray, seed: int) -> tuple[list[np.ndarray], float]:
    """Frames `[rows, columns, 3]` uint8 and undiscounted return of an episode of `policy [cells, 4]` in Gymnasium."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # frames, no window: works on a machine without a screen
    env = gymnasium_env(lake, render_mode="rgb_array")
    generator = np.random.default_rng([seed, 2])
    cell, _ = env.reset(seed=seed)
    frames, total, over = [np.asarray(env.render())], 0.0, False
    while not over:
        cell, reward, ended, cut, _ = env.step(int(generator.choice(4, p=policy[cell] / policy[cell].sum())))
        frames.append(np.asarray(env.render()))
        total += float(reward)
        over = ended or cut
    env.close()
    return frames, total
