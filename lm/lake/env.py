"""The lake in words as a Gymnasium environment, for whoever trains with roll-outs."""

from typing import Any

import gymnasium
import numpy as np

from lm.lake.maps import STEP, longest_walk, random_maps
from lm.lake.policy import DISCOUNT, as_lake
from lm.lake.words import in_words, prompt
from toy.planning import value_iteration

_ENGLISH = "".join(map(chr, range(32, 127))) + "\n"


class LakeText(gymnasium.Env[str, np.int64]):
    """`gymnasium.make("lm.lake:lm/LakeText-v0")`: a new map per episode; 1 for the goal, 0 for all else.

    Seen are the prompt and the walk so far. Actions are `lm.lake.MOVES`: left, down, right, up. An episode ends
    at the goal or in a hole, and is cut after 1.5 size² moves. `info`: `map`, its rows; `best_moves`, 1 for each move
    that is optimal here, 0 for the others.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012  # as its base class declares it

    def __init__(
        self,
        size: int = 4,
        holes: float = 0.25,
        split: str = "train",
        slippery: bool = False,
        english: bool = False,
        render_mode: str | None = None,
    ):
        self.action_space = gymnasium.spaces.Discrete(4)
        self.observation_space = gymnasium.spaces.Text(1000 + 12 * size**2, charset=_ENGLISH)  # question, map and walk
        self.size, self.holes, self.split = size, holes, split
        self.slippery, self.english, self.render_mode = slippery, english, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """A new map; its prompt."""
        super().reset(seed=seed)
        self.rows = random_maps(1, self.split, self.np_random, self.size, self.holes)[0]
        self.cell = np.argwhere(self.rows == "S")[0]
        self.walk: list[int] = []
        self.policy = value_iteration(as_lake(self.rows, slippery=self.slippery), DISCOUNT).policy
        return self._seen(), self._info()

    def step(self, action: np.int64) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One move, or on slippery ice the slide that comes of it."""
        slip = self.np_random.integers(-1, 2) if self.slippery else 0
        self.walk.append(int(action + slip) % 4)
        self.cell = np.clip(self.cell + STEP[self.walk[-1]], 0, self.size - 1)
        letter = self.rows[tuple(self.cell)]
        ended = letter in "GH"
        cut = not ended and len(self.walk) >= longest_walk(self.size)
        return self._seen(), float(letter == "G"), bool(ended), cut, self._info()

    def render(self) -> str | None:
        """The map, the place where one is in brackets."""
        if self.render_mode != "ansi":
            return None
        rows = [[f" {letter} " for letter in row] for row in self.rows]
        row, column = self.cell
        rows[row][column] = f"[{self.rows[row, column]}]"
        return "\n".join("".join(cells) for cells in rows)

    def _seen(self) -> str:
        if self.slippery:
            return prompt(self.rows, english=self.english, slid=self.walk)
        return f"{prompt(self.rows, english=self.english)}\n{in_words(self.walk)}".strip()

    def _info(self) -> dict[str, Any]:
        here = self.policy[self.cell[0] * self.size + self.cell[1]]
        return {"map": ["".join(row) for row in self.rows], "best_moves": (here > 0).astype(np.int8)}
