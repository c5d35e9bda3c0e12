"""Episodes: many at once from the lake's tables, and one at a time in the real Gymnasium environment."""

import os
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from toy.kernels import rollout as kernel
from toy.lake import Lake
from toy.threads import split
from toy.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A lake's tables as tensors on a device. A move is one number: `(cell * 4 + action) * K + outcome`."""

    next_cell: Tensor  # [moves]
    reward: Tensor  # [moves]
    terminal: Tensor  # [cells] bool
    outcome_below: tuple[float, ...]  # cumulative probability of the K outcomes, but for the last
    transition: Tensor  # P(s' | s, a) `[cells, 4, cells]`

    @classmethod
    def of(cls, lake: Lake, dtype: torch.dtype, device: torch.device) -> "Dynamics":
        # Outcomes have the same chances wherever the episode goes on; where it is over, all lead to the cell itself.
        chances = lake.probability[lake.starts[0], 0].cumsum()
        return cls(
            torch.as_tensor(lake.next_cell.ravel(), dtype=torch.long, device=device),
            torch.as_tensor(lake.reward.ravel(), dtype=dtype, device=device),
            torch.as_tensor(lake.terminal, device=device),
            tuple(chances[:-1].tolist()),
            torch.as_tensor(lake.transition_matrix(), dtype=dtype, device=device),
        )


@dataclass(frozen=True, eq=False)
class Episodes(Trajectories):
    """Sampled trajectories `[runs, episodes, steps]` with the reward of each step, 0 where mask is false."""

    rewards: Tensor


def simulate(dynamics: Dynamics, policy: Tensor, starts: Tensor, horizon: int, streams: np.ndarray) -> Episodes:
    """Play one episode from each start, cut after `horizon` steps; always on the CPU, by `toy.kernels.rollout`.

    Every run draws from a stream of its own, and only while it has an episode under way: what a run sees does not
    depend on the runs beside it.

    Args:
        dynamics: of the lake.
        policy: action probabilities `[runs, cells, 4]`.
        starts: start cell of each episode `[runs, episodes]`.
        horizon: longest episode, in steps.
        streams: of `streams_of`, one per run; they are moved on.

    Returns:
        Episodes `[runs, episodes, steps]`, padded to the length of the longest one.
    """
    device, reward = policy.device, dynamics.reward.cpu().numpy()
    moves, outcomes, lengths = play_moves(dynamics, policy, starts, horizon, streams)
    shape = (*lengths.shape, int(lengths.max()))
    cells, actions, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
    rewards, by_move = np.zeros(shape, reward.dtype), reward.reshape(-1, 4, len(dynamics.outcome_below) + 1)

    def unfold(begin: int, end: int) -> None:
        kernel.unfold(begin, end, moves, outcomes, lengths, by_move, cells, actions, mask, rewards)

    split(unfold, len(lengths), cells[0].size)
    return Episodes(*(torch.from_numpy(part).to(device) for part in (cells, actions, mask, rewards)))


def play_moves(
    dynamics: Dynamics, policy: Tensor, starts: Tensor, horizon: int, streams: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as moves, cell * 4 + action, and which outcome each had, `[runs, episodes, horizon]`; and lengths.

    What lies behind an episode's length is not set.
    """
    terminal, cells = dynamics.terminal.cpu().numpy(), np.ascontiguousarray(starts.cpu().numpy())
    next_cell = dynamics.next_cell.cpu().numpy().reshape(-1, 4, len(dynamics.outcome_below) + 1)
    below, table = np.array(dynamics.outcome_below, np.float32), np.ascontiguousarray(policy.detach().cpu().numpy())
    moves, outcomes = np.empty((*cells.shape, horizon), np.int32), np.empty((*cells.shape, horizon), np.int8)
    lengths = np.empty(cells.shape, np.int64)

    def play(begin: int, end: int) -> None:
        kernel.play(begin, end, streams, cells, table, next_cell, below, terminal, horizon, moves, outcomes, lengths)

    split(play, len(cells), cells.shape[1] * horizon // 2)
    return moves, outcomes, lengths


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
