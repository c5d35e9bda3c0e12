"""Episodes: many at once from the lake's tables, and one at a time in the real Gymnasium environment."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from toy.lake import Lake
from toy.trajectories import Trajectories

_CHUNK = 16  # steps of noise drawn at a time


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A lake's tables as tensors on a device; what `Lake` calls `[cells, 4, K]` is flat over cells and actions."""

    next_cell: Tensor  # [cells * 4, K]
    outcome_below: Tensor  # [cells * 4, K - 1], cumulative probability of the outcomes before the last
    reward: Tensor  # [cells * 4, K]
    terminal: Tensor  # [cells] bool
    transition: Tensor  # P(s' | s, a) `[cells, 4, cells]`

    @classmethod
    def of(cls, lake: Lake, dtype: torch.dtype, device: torch.device) -> "Dynamics":
        flat = [table.reshape(-1, table.shape[-1]) for table in (lake.next_cell, lake.probability, lake.reward)]
        return cls(
            torch.as_tensor(flat[0], dtype=torch.long, device=device),
            torch.as_tensor(flat[1], device=device).cumsum(-1)[:, :-1].contiguous(),
            torch.as_tensor(flat[2], dtype=dtype, device=device),
            torch.as_tensor(lake.terminal, device=device),
            torch.as_tensor(lake.transition_matrix(), dtype=dtype, device=device),
        )


@dataclass(frozen=True, eq=False)
class Episodes(Trajectories):
    """Sampled trajectories `[runs, episodes, steps]` with the reward of each step, 0 where mask is false."""

    rewards: Tensor


def simulate(
    dynamics: Dynamics,
    policy: Tensor,
    starts: Tensor,
    horizon: int,
    generators: Sequence[np.random.Generator],
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
        Episodes `[runs, episodes, steps]`, steps the length of the longest one.
    """
    runs, episodes = starts.shape
    n_cells = len(dynamics.terminal)
    device = policy.device
    below = policy.detach().double().cumsum(-1)[..., :3].reshape(runs * n_cells, 3)  # where the next action begins
    cells = torch.zeros(horizon, runs * episodes, dtype=torch.long, device=device)
    actions, mask, rewards = cells.clone(), cells.bool(), cells.to(dynamics.reward.dtype)
    lane = torch.arange(runs * episodes, device=device)  # episodes still under way
    cell = starts.flatten()
    length = 0
    for step in range(horizon):
        if step % _CHUNK == 0:
            noise = _noise(generators, lane, episodes, min(_CHUNK, horizon - step), device)
        action_noise, outcome_noise = noise[step % _CHUNK, :, lane]
        action = (
            action_noise[:, None] >= below[torch.div(lane, episodes, rounding_mode="floor") * n_cells + cell]
        ).sum(1)
        move = cell * 4 + action
        outcome = (outcome_noise[:, None] >= dynamics.outcome_below[move]).sum(1)
        cells[step, lane], actions[step, lane], mask[step, lane] = cell, action, True
        rewards[step, lane] = dynamics.reward[move, outcome]
        cell = dynamics.next_cell[move, outcome]
        length = step + 1
        goes_on = ~dynamics.terminal[cell]
        lane, cell = lane[goes_on], cell[goes_on]
        if not len(lane):
            break
    taken = (part[:length].view(length, runs, episodes).permute(1, 2, 0) for part in (cells, actions, mask, rewards))
    return Episodes(*taken)


def _noise(
    generators: Sequence[np.random.Generator], lane: Tensor, episodes: int, steps: int, device: torch.device
) -> Tensor:
    """Uniform numbers in [0, 1) for actions and outcomes, `[steps, 2, runs * episodes]`; 0 for runs that are over."""
    noise = np.zeros((steps, 2, len(generators), episodes))
    for run in torch.unique(torch.div(lane, episodes, rounding_mode="floor")).tolist():
        noise[:, :, run] = generators[run].random((steps, 2, episodes))
    return torch.as_tensor(noise.reshape(steps, 2, -1), device=device)


def gymnasium_env(lake: Lake, **options: Any) -> gym.Env:
    """The same lake as Gymnasium's own environment, cut after 100 steps (up to 16 cells) or 200, as its maps are."""
    limit = 100 if len(lake.next_cell) <= 16 else 200
    return gym.make(
        "FrozenLake-v1",
        desc=list(lake.rows),
        is_slippery=lake.slippery,
        success_rate=lake.success_rate,
        reward_schedule=lake.reward_schedule,
        max_episode_steps=options.pop("max_episode_steps", limit),
        **options,
    )


def play(lake: Lake, policy: np.ndarray, seed: int, max_episode_steps: int = 100) -> tuple[list[np.ndarray], float]:
    """Frames `[rows, columns, 3]` uint8 and undiscounted return of an episode of `policy [cells, 4]` in Gymnasium."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # frames, no window: works on a machine without a screen
    env = gymnasium_env(lake, render_mode="rgb_array", max_episode_steps=max_episode_steps)
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
