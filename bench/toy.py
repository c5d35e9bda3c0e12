"""Speed of the Frozen Lake toolkit beside its peers, in one run: `python -m bench.toy [--quick] [--json FILE]`.

A row is a ratio: how many times faster than the peer, or how much of a limit is left. Each pair is timed in turns, and
the best time of each side counts, so that a machine whose speed drifts hurts both alike.
"""

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
import tyro

from bench.peers import jax_episodes, jax_planning, numba_episodes, numba_planning
from bench.report import ROOT, Options, Row, run, seconds
from common.command import main
from common.memory import peak_gigabytes
from ift import METHODS
from toy import Lake, Settings, value_iteration
from toy.experiment import block_runs
from toy.kernels.streams import streams_of
from toy.rollout import Dynamics, play_moves, simulate
from toy.stages import Problem, fine_tune, start_policies


def training(quick: bool) -> Row:
    """SFT runs per second: 1,024 at once against one after another in plain PyTorch; width 64, Adam, 200 updates."""
    settings = Settings(steps=200, dtype="float32")
    problem = Problem.of(Lake.make("4x4"), settings.shared())  # its optimal trajectory has 6 steps
    runs = block_runs(problem.lake, settings.shared())  # 1,024: one block
    start, _ = start_policies(problem, range(runs))
    cells, actions = (torch.tensor(part) for part in zip(*problem.targets[0], strict=True))

    def plain_loop() -> None:
        network = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
        adam = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(200):
            loss = torch.nn.functional.cross_entropy(network(torch.eye(16)[cells]), actions)
            adam.zero_grad()
            loss.backward()
            adam.step()

    def together() -> None:
        fine_tune(problem, METHODS["sft"], {}, start, range(runs))

    ours, plain = seconds(together, plain_loop, rounds=2 if quick else 5)
    ours /= runs
    return Row("training runs", f"{1 / ours:,.0f} runs/s", f"plain loop {1 / plain:,.1f} runs/s", plain / ours, 100)


def simulation(quick: bool) -> list[Row]:
    """Steps per second on the slippery 4×4 lake under the uniform policy, actions drawn on both sides.

    Two ways to take them from us: as they are made, like EnvPool's, and as whole padded episodes, as training does.
    """
    import envpool

    lake = Lake.make("4x4", slippery=True)
    dynamics = Dynamics.of(lake, torch.float64, torch.device("cpu"))
    policies, episodes = 4, 65_536
    uniform, starts = torch.full((policies, 16, 4), 0.25), torch.zeros(policies, episodes, dtype=torch.long)
    streams = streams_of([np.random.default_rng([seed, 1]) for seed in range(policies)])
    rng = np.random.default_rng(0)
    steps = {"made": 0, "padded": 0}

    def made() -> None:
        steps["made"] = int(play_moves(dynamics, uniform, starts, 100, streams)[2].sum())

    def padded() -> None:
        steps["padded"] = int(simulate(dynamics, uniform, starts[:, :4096], 100, streams).mask.sum())

    def pool(envs: int, threads: int) -> Callable[[], None]:
        env = envpool.make("FrozenLake-v1", env_type="gymnasium", num_envs=envs, num_threads=threads)
        env.reset()

        def step() -> None:
            for _ in range(400_000 // envs):
                env.step(rng.integers(4, size=envs, dtype=np.int32))

        return step

    sizes = [(1024, 2)] if quick else [(256, 1), (1024, 1), (1024, 2), (4096, 2)]
    by_jax, by_numba = jax_episodes(lake, 16_384, 100), numba_episodes(lake, 16_384, 100)
    count = {"JAX": by_jax(), "numba": by_numba()}  # compiled here
    made()
    padded()
    functions = (made, padded, by_jax, by_numba, *(pool(*size) for size in sizes))
    made_s, padded_s, jax_s, numba_s, *others = seconds(*functions, rounds=2 if quick else 5)
    rates = {"simulation": steps["made"] / made_s, "simulation, padded episodes": steps["padded"] / padded_s}
    peers = {"EnvPool": 400_000 / min(others), "JAX": count["JAX"] / jax_s, "numba": count["numba"] / numba_s}
    rows = [("simulation", "EnvPool", 20), *(("simulation, padded episodes", peer, 1) for peer in peers)]
    return [
        Row(
            f"{name}, {peer}",
            f"{rates[name] / 1e6:.1f} M steps/s",
            f"{peer} {peers[peer] / 1e6:.2f} M steps/s",
            rates[name] / peers[peer],
            20 if peer == "EnvPool" else target,
        )
        for name, peer, target in rows
    ]


def planning(quick: bool) -> list[Row]:
    """Value iteration of a slippery 64×64 lake, discount 0.99, to 1e-8, against pymdptoolbox with sparse matrices.

    Its constructor, which bounds the number of iterations, takes most of its time: a row with it, a row without.
    """
    from mdptoolbox.mdp import ValueIteration

    lake = Lake.make("random:64:0", slippery=True)
    cells = len(lake.next_cell)
    row = np.repeat(np.arange(cells), lake.next_cell.shape[2])
    transitions = [
        scipy.sparse.csr_matrix(
            (lake.probability[:, action].ravel(), (row, lake.next_cell[:, action].ravel())), shape=(cells, cells)
        )
        for action in range(4)
    ]

    running = []

    def peer() -> None:
        solver = ValueIteration(transitions, lake.expected_reward, 0.99, epsilon=1e-8)
        begin = time.perf_counter()
        solver.run()
        running.append(time.perf_counter() - begin)

    others = {"JAX": jax_planning(lake, 0.99, 1e-8), "numba": numba_planning(lake, 0.99, 1e-8)}
    for other in others.values():
        other()  # compiled here
    value_iteration(lake, 0.99, 1e-8)
    our_time, whole, *took = seconds(
        lambda: value_iteration(lake, 0.99, 1e-8), peer, *others.values(), rounds=1 if quick else 3
    )
    return [
        *(
            Row(f"planning 64×64, {name}", f"{our_time:.3f} s", f"{name} {other:.3f} s", other / our_time, 1)
            for name, other in zip(others, took, strict=True)
        ),
        Row("planning 64×64", f"{our_time:.3f} s", f"pymdptoolbox {whole:.1f} s", whole / our_time, 50),
        Row(
            "planning 64×64, iterations only",
            f"{our_time:.3f} s",
            f"its run() {min(running):.2f} s",
            min(running) / our_time,
            20,
        ),
    ]


def big_planning(quick: bool) -> list[Row]:
    """Lakes of 1000×1000, discount 0.99, to 1e-8, each in a process of its own: seconds, and peak memory."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        took, gigabytes, backups = pool.apply(_solve_big_lake, (True,))
    with context.Pool(1) as pool:
        dry, _, _ = pool.apply(_solve_big_lake, (False,))
    return [
        Row("planning 1000×1000, not slippery", f"{dry:.1f} s", "limit 10 s", 10 / dry, 1),
        Row("planning 1000×1000, time", f"{took:.1f} s, {backups} backups", "limit 15 s", 15 / took, 1),
        Row("planning 1000×1000, memory", f"{gigabytes:.2f} GB", "limit 2 GB", 2 / gigabytes, 1),
    ]


def _solve_big_lake(slippery: bool) -> tuple[float, float, int]:
    letters = np.where(np.random.default_rng(0).random((1000, 1000)) < 0.8, "F", "H")
    letters[0, 0], letters[-1, -1] = "S", "G"
    lake = Lake.make(["".join(row) for row in letters], slippery=slippery)
    begin = time.perf_counter()
    plan = value_iteration(lake, 0.99, 1e-8)
    took = time.perf_counter() - begin
    assert plan.error_bound <= 1e-8
    return took, peak_gigabytes(), plan.backups


def whole_command(quick: bool) -> Row:
    """`python -m toy.frozenlake --method all --seeds 100` as a process, from start to written files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "toy.frozenlake", "--method", "all", "--seeds", "100", "--out", folder]
        (took,) = seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), rounds=1)
    return Row("--method all --seeds 100", f"{took:.1f} s", "limit 6 s", 6 / took, 1)


def bench_toy() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m bench.toy", description=__doc__)
    run((training, simulation, planning, big_planning, whole_command), options)


if __name__ == "__main__":
    main(bench_toy)
