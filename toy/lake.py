"""A lake as arrays: where each move may lead, with which probability and reward; which cells end the episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.frozen_lake import MAPS, FrozenLakeEnv, generate_random_map
from scipy import ndimage

ACTIONS = ("left", "down", "right", "up")  # Gymnasium's order: action 0 is left
ARROWS = ("←", "↓", "→", "↑")
PRESETS = {**{name: tuple(rows) for name, rows in MAPS.items()}, "ring": ("SFFFF", "FHHHF", "FFFGF")}

_GYMNASIUM_CELLS = 1024  # beyond this, Gymnasium's tables of Python tuples take longer to build than to solve


@dataclass(frozen=True, eq=False)
class Lake:
    """A Frozen Lake: outcome k of action a in cell s is the cell `next_cell[s, a, k]`.

    A cell is numbered row by row, as in Gymnasium. On an ice that is not slippery K = 1, else K = 3 (a quarter turn
    right of the action, the action, a quarter turn left, as Gymnasium lists them). Goals and holes lead to themselves.

    Attributes:
        rows: the map, one string of `S`, `F`, `H`, `G` per row.
        slippery, success_rate, reward_schedule: as in Gymnasium's FrozenLake-v1 (rewards: goal, hole, frozen).
        next_cell: `[cells, 4, K]` int32.
        probability: `[cells, 4, K]`, sums to 1 over K.
        reward: `[cells, 4, K]`, paid with the outcome.
        max_episode_steps: after so many steps an episode is cut; None: never. Planning knows no such limit.
    """

    rows: tuple[str, ...]
    slippery: bool
    success_rate: float
    reward_schedule: tuple[float, float, float]
    next_cell: np.ndarray
    probability: np.ndarray
    reward: np.ndarray
    max_episode_steps: int | None

    @classmethod
    def make(
        cls,
        map: "str | Sequence[Any] | np.ndarray | gym.Env[Any, Any]" = "ring",
        *,
        slippery: bool = False,
        success_rate: float = 1 / 3,
        reward_schedule: tuple[float, float, float] = (1.0, 0.0, 0.0),
        max_episode_steps: int | None = None,
    ) -> "Lake":
        """The lake of a map: a preset, `random:SIZE:SEED`, a text file, rows like `SFFF/FHFG`, or a list of rows.

        It may also be the `desc` of a Gymnasium environment, or a FrozenLake environment itself: then ice, rewards and
        limit of steps are the environment's own. Without `max_episode_steps` the limit is Gymnasium's for FrozenLake-v1
        (100; FrozenLake8x8-v1 has 200); 0 stands for none.

        Raises:
            ValueError: a map that is not rectangular, has other letters than S, F, H, G, lacks a start or a goal, or
                a start that no goal can be reached from; a success rate outside [0, 1]; a reward that is not finite;
                an object of another type; an environment that is no FrozenLake, whose tables were changed, or that
                has other arguments beside it.
        """
        if isinstance(map, gym.Env):
            if (slippery, success_rate, reward_schedule) != (False, 1 / 3, (1.0, 0.0, 0.0)):
                raise ValueError("slippery, success_rate and reward_schedule are the environment's own: leave them out")
            return cls.make(**_of_environment(map, max_episode_steps))
        rows = read_map(map) if isinstance(map, str) else _rows(map)
        check_map(rows)
        if not 0 <= success_rate <= 1:
            raise ValueError(f"success_rate must lie in [0, 1], got {success_rate}")
        if len(reward_schedule) != 3 or not np.isfinite(reward_schedule).all():
            raise ValueError(
                f"rewards (reward_schedule) must be three finite numbers: goal, hole, frozen; got {reward_schedule}"
            )
        limit = gym.spec("FrozenLake-v1").max_episode_steps if max_episode_steps is None else max_episode_steps
        if limit is not None and limit < 0:
            raise ValueError(f"max_episode_steps must be 0 (no limit) or more, got {limit}")
        size = len(rows) * len(rows[0])
        tables = gymnasium_tables if size <= _GYMNASIUM_CELLS else vectorised_tables
        arrays = tables(rows, slippery, success_rate, reward_schedule)
        return cls(rows, slippery, success_rate, (*reward_schedule,), *arrays, limit or None)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.rows), len(self.rows[0])

    @cached_property
    def letters(self) -> np.ndarray:
        """The map's letter of each cell, `[cells]` of one-character strings."""
        return np.array([list(row) for row in self.rows]).ravel()

    @cached_property
    def terminal(self) -> np.ndarray:
        """Whether a cell ends the episode, `[cells]` bool."""
        return np.isin(self.letters, ("G", "H"))

    @cached_property
    def goal(self) -> np.ndarray:
        """Whether a cell is a goal, `[cells]` bool."""
        return self.letters == "G"

    @cached_property
    def starts(self) -> np.ndarray:
        """The start cells, `[starts]`; an episode begins in each with the same probability."""
        return np.flatnonzero(self.letters == "S")

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """Expected reward of an action, `[cells, 4]`."""
        return (self.probability * self.reward).sum(-1)

    def transition_matrix(self) -> np.ndarray:
        """P(s' | s, a) as a dense array `[cells, 4, cells]`: small lakes only."""
        cells = len(self.next_cell)
        dense = np.zeros((cells, 4, cells))
        source, action = np.indices(self.next_cell.shape[:2])
        for k in range(self.next_cell.shape[2]):
            np.add.at(dense, (source, action, self.next_cell[..., k]), self.probability[..., k])
        return dense


def _rows(letters: Any) -> tuple[str, ...]:
    """The rows of a map from a list of rows or an array of letters, as Gymnasium's `desc` is."""
    try:
        return tuple(_row(row) for row in letters)
    except TypeError:
        raise ValueError(
            "map must be rows such as SFFF/FHFG, a list of rows, or a FrozenLake environment of Gymnasium, "
            f"got an object of type {type(letters).__name__}"
        ) from None


def _row(letters: Any) -> str:
    """A row of a map from a string or from letters, which Gymnasium keeps as bytes."""
    row = letters if isinstance(letters, str | bytes) else "".join(map(_row, letters))
    return row.decode("latin-1") if isinstance(row, bytes) else row


def _of_environment(environment: "gym.Env[Any, Any]", max_episode_steps: int | None) -> dict[str, Any]:
    """The arguments of `Lake.make` that give an environment's lake: its ice and rewards are read from its tables."""
    lake = environment.unwrapped
    if not isinstance(lake, FrozenLakeEnv):
        raise ValueError(f"map is an environment {type(lake).__name__}: only Gymnasium's FrozenLake is a lake")
    rows = tuple(_row(row) for row in lake.desc)
    check_map(rows)
    letters = "".join(rows)
    live = [lake.P[cell] for cell, letter in enumerate(letters) if letter in "SF"]
    outcomes = [outcome for moves in live for outcomes in moves.values() for outcome in outcomes]
    paid = {letters[reached]: float(reward) for _, reached, reward, _ in outcomes}
    first = live[0][0]
    made: dict[str, Any] = {
        "is_slippery": len(first) == 3,
        "success_rate": float(first[1][0]) if len(first) == 3 else 1 / 3,
        "reward_schedule": (paid.get("G", 1.0), paid.get("H", 0.0), paid.get("F", paid.get("S", 0.0))),
    }
    if FrozenLakeEnv(desc=[list(row) for row in rows], **made).P != lake.P:  # type: ignore[misc]
        raise ValueError(
            "map is an environment whose table P was changed: a lake has the moves and rewards of FrozenLake"
        )
    limit = environment.spec.max_episode_steps if environment.spec else None
    given = (limit or 0) if max_episode_steps is None else max_episode_steps
    return {"map": rows, "slippery": made.pop("is_slippery"), **made, "max_episode_steps": given}


def read_map(spec: str) -> tuple[str, ...]:
    """Rows of a map given as a preset's name, `random:SIZE:SEED`, a path to a text file, or rows joined by `/`."""
    if spec in PRESETS:
        return PRESETS[spec]
    if spec.startswith("random:"):
        return _random_map(spec)
    if spec == spec.upper() and "." not in spec and ("/" in spec or not set(spec) - set("SFHG")):
        return tuple(spec.split("/"))
    if not Path(spec).is_file():
        raise ValueError(
            f"map {spec!r} is neither a preset ({', '.join(PRESETS)}), nor random:SIZE:SEED, "
            "nor a file that exists, nor rows like SFFF/FHFG"
        )
    try:
        text = Path(spec).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"map {spec!r} is not a text file: write rows of the letters S, F, H, G in it") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _random_map(spec: str) -> tuple[str, ...]:
    parts = spec.split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts[1:]) or int(parts[1]) < 2:
        raise ValueError(f"map {spec!r} must read random:SIZE:SEED with a size of 2 or more, such as random:8:0")
    return tuple(generate_random_map(size=int(parts[1]), seed=int(parts[2])))


def check_map(rows: Sequence[str]) -> None:
    """Raise `ValueError` unless the map is rectangular, of S, F, H, G only, and every start can reach a goal."""
    if not rows or not rows[0]:
        raise ValueError("map is empty, or its first row is: give rows of the letters S, F, H, G")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"map row {number} has {len(row)} cells, row 1 has {len(rows[0])}: make them equal")
        for column, letter in enumerate(row, 1):
            if letter not in "SFHG":
                raise ValueError(f"map row {number}, column {column} is {letter!r}: only S, F, H and G are allowed")
    letters = np.array([list(row) for row in rows])
    for letter, meaning in (("S", "start"), ("G", "goal")):
        if not (letters == letter).any():
            raise ValueError(f"map has no {meaning}: put at least one {letter} in it")
    region, _ = ndimage.label(letters != "H")  # cells joined by their sides, holes left out
    if not np.isin(region[letters == "S"], region[letters == "G"]).all():
        raise ValueError("map has a start that no goal can be reached from: open a way without holes")


def gymnasium_tables(
    rows: Sequence[str], slippery: bool, success_rate: float, reward_schedule: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(next_cell, probability, reward) of a lake, each `[cells, 4, K]`, read from Gymnasium's own `env.P`."""
    env = FrozenLakeEnv(
        desc=[list(row) for row in rows],  # type: ignore[misc]  # rows of one letter would else lose a dimension
        is_slippery=slippery,
        success_rate=success_rate,
        reward_schedule=reward_schedule,  # type: ignore[arg-type]  # annotated as whole numbers, taken as any
    )
    shape = (len(env.P), 4, 3 if slippery else 1)
    next_cell, probability, reward = np.zeros(shape, np.int32), np.zeros(shape), np.zeros(shape)
    for cell, actions in env.P.items():
        next_cell[cell] = cell  # goals and holes list one outcome; what they do not list has probability 0
        for action, outcomes in actions.items():
            for k, (chance, reached, paid, _) in enumerate(outcomes):
                next_cell[cell, action, k], probability[cell, action, k], reward[cell, action, k] = (
                    reached,
                    chance,
                    paid,
                )
    return next_cell, probability, reward


def vectorised_tables(
    rows: Sequence[str], slippery: bool, success_rate: float, reward_schedule: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same arrays as `gymnasium_tables`, built without a Python loop over cells."""
    letters = np.array([list(row) for row in rows])
    height, width = letters.shape
    row, column = np.indices(letters.shape, dtype=np.int32)
    steps = [
        row * width + np.maximum(column - 1, 0),
        np.minimum(row + 1, height - 1) * width + column,
        row * width + np.minimum(column + 1, width - 1),
        np.maximum(row - 1, 0) * width + column,
    ]
    moved = np.stack([cells.ravel() for cells in steps], axis=1)  # [cells, 4]
    turns = (-1, 0, 1) if slippery else (0,)
    chances = ((1 - success_rate) / 2, success_rate, (1 - success_rate) / 2) if slippery else (1.0,)
    next_cell = np.stack([np.roll(moved, -turn, axis=1) for turn in turns], axis=-1)
    probability = np.broadcast_to(np.array(chances), next_cell.shape).copy()
    letters = letters.ravel()
    paid_on_entry = np.select([letters == "G", letters == "H"], reward_schedule[:2], reward_schedule[2])
    reward = paid_on_entry[next_cell]
    ended = np.isin(letters, ("G", "H"))
    next_cell[ended] = np.flatnonzero(ended)[:, None, None]
    probability[ended] = np.eye(len(turns))[0]
    reward[ended] = 0
    return next_cell, probability, reward
