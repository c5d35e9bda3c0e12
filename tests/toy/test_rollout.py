import numpy as np
import pytest
import torch

from toy import Lake
from toy.kernels.rollout import CHUNK
from toy.kernels.streams import streams_of
from toy.rollout import Dynamics, gymnasium_env, play, simulate

CPU = torch.device("cpu")


def setting(runs=3, episodes=5, slippery=True, map_name="4x4"):
    lake = Lake.make(map_name, slippery=slippery, reward_schedule=(1.0, -1.0, -0.1))
    dynamics = Dynamics.of(lake, torch.float64, CPU)
    rng = np.random.default_rng(0)
    policy = torch.tensor(rng.dirichlet(np.ones(4), size=(runs, len(lake.next_cell))))
    return lake, dynamics, policy, torch.zeros(runs, episodes, dtype=torch.long)


def generators(runs):
    return [np.random.default_rng([seed, 1]) for seed in range(runs)]


@pytest.mark.parametrize("slippery", [False, True])
def test_simulated_steps_are_what_gymnasium_does_with_the_same_numbers(slippery):
    """Replays each simulated episode in Gymnasium's environment, fed with the same noise: equal step for step."""
    lake, dynamics, policy, starts = setting(runs=2, episodes=6, slippery=slippery)
    episodes = simulate(dynamics, policy, starts, 40, streams_of(generators(2)))
    env = gymnasium_env(lake, max_episode_steps=1000).unwrapped

    class Fed:
        """Stands in for the environment's generator: hands out the simulation's own noise."""

        def random(self):
            return self.value

    for run, generator in enumerate(generators(2)):
        noise = np.full((40, 2, 6), np.nan)
        for first in range(0, episodes.mask.shape[-1], CHUNK):  # drawn for the episodes under way, a chunk at a time
            under_way = np.flatnonzero(episodes.mask[run, :, first])
            drawn = generator.random((CHUNK, 2, len(under_way)), dtype=np.float32)
            noise[first : first + CHUNK, :, under_way] = drawn[: 40 - first]
        for episode in range(6):
            env.reset(seed=0)
            env.np_random = Fed()
            cell, steps = 0, int(episodes.mask[run, episode].sum())
            for step in range(steps):
                action = int(episodes.actions[run, episode, step])
                assert int(episodes.cells[run, episode, step]) == cell
                below = policy[run, cell].cumsum(0).float().numpy()
                assert action == min(int(np.searchsorted(below, noise[step, 0, episode], side="right")), 3)
                env.np_random.value = noise[step, 1, episode]
                cell, reward, over, _, _ = env.step(action)
                assert reward == episodes.rewards[run, episode, step]
                assert over == (step == steps - 1) or steps == 40


def test_a_run_does_not_depend_on_the_runs_beside_it():
    _, dynamics, policy, starts = setting(runs=3)
    together = simulate(dynamics, policy, starts, 50, streams_of(generators(3)))
    for run in range(3):
        alone = simulate(dynamics, policy[run : run + 1], starts[:1], 50, streams_of([generators(3)[run]]))
        length = alone.cells.shape[-1]
        for part in ("cells", "actions", "mask", "rewards"):
            assert torch.equal(getattr(together, part)[run, :, :length], getattr(alone, part)[0])
        assert not together.mask[run, :, length:].any()


def test_frequencies_are_the_policys():
    _, dynamics, _, _ = setting()
    policy = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(1, 16, 4)
    episodes = simulate(dynamics, policy, torch.zeros(1, 20_000, dtype=torch.long), 1, streams_of(generators(1)))
    counts = torch.bincount(episodes.actions.flatten(), minlength=4) / 20_000
    torch.testing.assert_close(counts, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015, rtol=0)


def test_the_horizon_cuts_an_episode():
    _, dynamics, _, _ = setting(slippery=False)
    always_left = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand(1, 16, 4)
    episodes = simulate(dynamics, always_left, torch.zeros(1, 2, dtype=torch.long), 23, streams_of(generators(1)))
    assert episodes.mask.shape == (1, 2, 23)
    assert episodes.mask.all()


def test_a_policy_of_nans_ends_at_the_horizon():
    _, dynamics, policy, starts = setting()
    assert simulate(dynamics, policy * torch.nan, starts, 10, streams_of(generators(3))).mask.shape[-1] <= 10


def test_playing_in_gymnasium_gives_frames_and_the_return():
    lake = Lake.make("SFG")
    always_right = np.tile([0.0, 0, 1, 0], (3, 1))
    frames, total = play(lake, always_right, seed=0)
    assert len(frames) == 3
    assert frames[0].ndim == 3
    assert frames[0].dtype == np.uint8
    assert total == 1
