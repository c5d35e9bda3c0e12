"""A FrozenLake environment of Gymnasium: its lake, its optimum, and trained policies that play in it."""

import gymnasium as gym
import numpy as np

from toy import Lake, Settings, align

environment = gym.make("FrozenLake-v1", map_name="4x4", is_slippery=True, max_episode_steps=50)
lake = Lake.make(environment)  # ice, rewards and limit of steps are the environment's own
result = align(lake, ["sft", "ift"], Settings(seeds=4))

rng = np.random.default_rng(0)
for method, policy in result.policies.items():  # [cells, 4], mean over seeds; also the start's and the optimum's
    reached = 0
    for episode in range(200):
        cell, _ = environment.reset(seed=episode)
        ended = False
        while not ended:
            move = rng.choice(4, p=policy[cell] / policy[cell].sum())
            cell, reward, terminated, truncated, _ = environment.step(move)
            ended = terminated or truncated
        reached += reward > 0
    print(f"{method}: {reached} of 200 episodes reached the goal")
