"""Trajectories over a lake: as padded arrays, and the two that the experiment is about, optimal and sub-optimal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from toy.lake import ACTIONS, Lake
from toy.planning import Plan

_STEP_COST, _SLIP_COST = 1e-6, 1e-10  # break ties between equally likely trajectories: fewer steps, then fewer slips
_OPTIMAL_TRAJECTORIES = 64  # how many equally good optimal trajectories the search for a sub-optimal one starts from

Trajectory = tuple[tuple[int, int], ...]  # (cell, action) of each step


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Trajectories padded to one length, `[..., steps]`; padding has mask false (and cell, action 0).

    Attributes:
        cells, actions: the cell an action was taken in, and the action.
        mask: whether the step was taken.
    """

    cells: Tensor
    actions: Tensor
    mask: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Trajectories":
        """The function of each part."""
        return Trajectories(function(self.cells), function(self.actions), function(self.mask))


def stack(trajectories: Sequence[Trajectory]) -> Trajectories:
    """Trajectories as `Trajectories [trajectories, steps]`."""
    longest = max(len(trajectory) for trajectory in trajectories)
    padded = torch.zeros(3, len(trajectories), longest, dtype=torch.long)
    for i, trajectory in enumerate(trajectories):
        padded[:2, i, : len(trajectory)] = torch.tensor(trajectory).T
        padded[2, i, : len(trajectory)] = 1
    return Trajectories(padded[0], padded[1], padded[2].bool())


def optimal_trajectories(lake: Lake, plan: Plan, start: int) -> Iterator[Trajectory]:
    """Trajectories of the optimal policy from `start` to a goal, equally likely and short ones, one after another.

    On a slippery lake an episode takes chances: these are its likeliest ones, slips included.
    """
    moves = _move_graph(lake, plan.policy > 0)
    return (_trajectory(moves, path) for path in _best_paths(moves, start, lake))


def suboptimal_trajectory(lake: Lake, plan: Plan, start: int) -> Trajectory | None:
    """The best trajectory to a goal that leaves the optimal policy's way and enters no cell twice; None without one.

    It follows an optimal trajectory up to some cell, leaves it there by a move that the optimal policy never makes,
    and goes on as well as it can without the cells behind it (the second-shortest-path step of Yen 1971). Best is
    likeliest,
    then shortest, then leaving earliest. Of more than 64 equally good optimal trajectories, it starts from 64.
    """
    optimal, moves = _move_graph(lake, plan.policy > 0), _move_graph(lake, np.ones_like(plan.policy, dtype=bool))

    def cost(path: Sequence[int]) -> float:
        return nx.path_weight(moves, path, "cost")

    best: list[int] | None = None
    for path in islice(_best_paths(optimal, start, lake), _OPTIMAL_TRAJECTORIES):
        for i, cell in enumerate(path[:-1]):
            elsewhere = nx.restricted_view(moves, path[:i], [(cell, reached) for reached in optimal[cell]])
            for detour in islice(_best_paths(elsewhere, cell, lake), 1):
                if best is None or cost(path[:i] + detour) < cost(best) - _STEP_COST / 2:
                    best = path[:i] + detour
        if best is not None and not lake.slippery and len(best) == len(path) + 2:
            break  # on a grid, any other way is at least two steps longer
    return _trajectory(moves, best) if best is not None else None


def given_trajectory(lake: Lake, actions: str, start: int, name: str) -> Trajectory:
    """The trajectory of a list of actions such as `right,right,down` from `start`, each leading where it is aimed.

    Raises:
        ValueError: an unknown action, or a trajectory that ends too early or does not end in a goal.
    """
    cell, trajectory = start, list[tuple[int, int]]()
    aimed = lake.next_cell[..., lake.next_cell.shape[2] // 2]
    for word in actions.replace(",", " ").split():
        if word not in ACTIONS:
            raise ValueError(f"{name} has the action {word!r}: only {', '.join(ACTIONS)} are allowed")
        if lake.terminal[cell]:
            raise ValueError(f"{name} goes on after the episode is over, at step {len(trajectory) + 1}")
        trajectory.append((cell, ACTIONS.index(word)))
        cell = int(aimed[cell, ACTIONS.index(word)])
    if not trajectory or not lake.goal[cell]:
        raise ValueError(f"{name} does not end in a goal: list the actions from the start to G")
    return tuple(trajectory)


def _move_graph(lake: Lake, allowed: np.ndarray) -> nx.DiGraph:
    """Cells joined by the likeliest of the `allowed [cells, 4]` actions; cost −log probability, plus a bit a step.

    Of equally likely actions, the one aimed at the cell.
    """
    intended = lake.next_cell.shape[2] // 2
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(range(len(allowed)))
    for cell, action, k in np.argwhere(
        (allowed & ~lake.terminal[:, None])[..., None] & (lake.probability > 0)
    ).tolist():
        reached, chance = int(lake.next_cell[cell, action, k]), lake.probability[cell, action, k]
        cost = _STEP_COST - np.log(chance) + (0 if k == intended else _SLIP_COST)
        if reached != cell and cost < graph.get_edge_data(cell, reached, {"cost": np.inf})["cost"]:
            graph.add_edge(cell, reached, cost=cost, action=action)
    return graph


def _best_paths(moves: nx.Graph, start: int, lake: Lake) -> Iterator[list[int]]:
    """All cheapest paths from `start` to the goal that is cheapest to reach."""
    costs = nx.single_source_dijkstra_path_length(moves, start, weight="cost")
    goals = [cell for cell in np.flatnonzero(lake.goal).tolist() if cell in costs]
    if goals:
        yield from nx.all_shortest_paths(moves, start, min(goals, key=costs.__getitem__), weight="cost")


def _trajectory(moves: nx.DiGraph, path: Sequence[int]) -> Trajectory:
    return tuple((cell, moves.edges[cell, reached]["action"]) for cell, reached in pairwise(path))
