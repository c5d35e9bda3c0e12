"""Random lakes as letters, in splits that no two maps of the same kind cross, and walks on them.

Breadth-first search knows how far every cell is from the goal, so every move on ice that is not slippery can be judged.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

MOVES = ("left", "down", "right", "up")  # Gymnasium's action order
STEP = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
SPLITS = {"test": (0,), "dev": (1,), "train": range(2, 10)}  # tenths of all maps, by hash
_NAMES = {bucket: split for split, buckets in SPLITS.items() for bucket in buckets}


def random_maps(
    count: int,
    split: str,
    generator: np.random.Generator,
    size: int = 4,
    holes: float = 0.25,
    *,
    new_ends: bool = False,
) -> np.ndarray:
    """Distinct solvable maps of a split as letters `[count, size, size]`: S, G anywhere, a share of the rest holes.

    A map and its rotations and mirror images are always in the same split. A tenth of the placements of S and G, by
    hash too, is kept for `new_ends`: no other map of any split has them.

    Raises:
        ValueError: an unknown split, or as many were not found.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    cells = size**2
    if count > cells * (cells - 1) * 2 ** (cells - 2):  # of all splits, with those that have no way
        raise ValueError(f"there are no {count} different maps of {size}×{size}: ask for fewer, or for larger ones")
    maps: dict[bytes, np.ndarray] = {}
    tries = 0
    while len(maps) < count:
        tries += 1
        if tries > 50:
            raise ValueError(
                f"only {len(maps)} different maps of {size}×{size} were found in the split {split!r}, {count} were "
                "asked for: ask for fewer, or for fewer holes"
            )
        letters = np.where(generator.random((max(4 * count, 64), size * size)) < holes, "H", "F")
        ends = generator.random(letters.shape).argsort(1)[:, :2]
        np.put_along_axis(letters, ends, np.array([["S", "G"]]), 1)
        letters = letters.reshape(-1, size, size)
        letters = letters[steps_to_goal(letters)[letters == "S"] < size * size]
        kept = has_new_ends(letters) == new_ends
        for rows, its_split in zip(letters[kept], splits_of(letters[kept]), strict=True):
            if len(maps) < count and its_split == split:
                maps[rows.tobytes()] = rows
    return np.stack(list(maps.values()))


def splits_of(letters: np.ndarray) -> list[str]:
    """The split of each map `[maps, size, size]`, by a hash that rotations and mirror images share."""
    size = letters.shape[1]
    if not len(letters):
        return []
    turned = [np.rot90(same, turns, (1, 2)) for same in (letters, letters.swapaxes(1, 2)) for turns in range(4)]
    flat = np.stack([np.ascontiguousarray(same).reshape(len(letters), -1) for same in turned], axis=1)
    smallest = np.sort(flat.view(f"<U{size * size}")[..., 0], axis=1)[:, 0]
    return [_NAMES[hashlib.sha256(f"{size} {text}".encode()).digest()[0] % 10] for text in smallest]


def has_new_ends(letters: np.ndarray) -> np.ndarray:
    """Whether each map's start and goal, looked at without holes, hash into the test split, `[maps]`."""
    flat = letters.reshape(len(letters), -1)
    ends = np.stack([(flat == "S").argmax(1), (flat == "G").argmax(1)], axis=1)
    _, first, which = np.unique(ends, axis=0, return_index=True, return_inverse=True)
    without_holes = np.where(letters[first] == "H", "F", letters[first])
    return np.array([split == "test" for split in splits_of(without_holes)], bool)[which.ravel()]


def steps_to_goal(letters: np.ndarray) -> np.ndarray:
    """Fewest moves from each cell to the goal, `[maps, size, size]`; size² where there is no way, and for holes."""
    far = letters.shape[1] * letters.shape[2]
    steps = np.where(letters == "G", 0, far)
    open_cell = letters != "H"
    for _ in range(far):
        padded = np.pad(steps, ((0, 0), (1, 1), (1, 1)), constant_values=far)
        near = np.minimum.reduce([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]])
        closer = np.where(open_cell, np.minimum(steps, near + 1), far)
        if (closer == steps).all():
            break
        steps = closer
    return steps


def fewest_steps(letters: np.ndarray) -> np.ndarray:
    """Length of a shortest walk from start to goal, `[maps]`."""
    return steps_to_goal(letters)[letters == "S"]


def longest_walk(size: int) -> int:
    """Moves after which a walk counts as endless: 1.5 size²."""
    return size**2 * 3 // 2


def walks(
    letters: np.ndarray, noise: float, generator: np.random.Generator, *, same_tie: bool = False
) -> tuple[list[list[int]], np.ndarray]:
    """One walk per map as action indices, and the letter where it ends: best moves, a share `noise` random instead.

    Of several best moves one is drawn, or with `same_tie` always the first of left, down, right, up. A walk ends at the
    goal, in a hole, or after `longest_walk` moves.
    """
    maps, size = np.arange(len(letters)), letters.shape[1]
    steps = steps_to_goal(letters)
    cell = np.argwhere(letters == "S")[:, 1:]
    moves = np.full((len(letters), longest_walk(size)), -1)
    for step in range(moves.shape[1]):
        going = ~np.isin(letters[maps, cell[:, 0], cell[:, 1]], ("G", "H"))
        if not going.any():
            break
        after = np.clip(cell[:, None] + STEP, 0, size - 1)  # [maps, moves, 2]
        distance = steps[maps[:, None], after[..., 0], after[..., 1]]
        best = distance == distance.min(1, keepdims=True)
        best[generator.random(len(letters)) < noise] = True
        move = (best if same_tie else generator.random(best.shape) * best).argmax(1)
        moves[going, step] = move[going]
        cell = np.where(going[:, None], after[maps, move], cell)
    return [row[row >= 0].tolist() for row in moves], letters[maps, cell[:, 0], cell[:, 1]]


def wrong_first_moves(letters: np.ndarray) -> np.ndarray:
    """A first move per map that is not best and can be made good, `[maps]`; -1 where there is none.

    It ends in no hole, and the goal can be reached after it. Of several the worst, then the first of left, down, …
    """
    maps, size = np.arange(len(letters)), letters.shape[1]
    after = np.clip(np.argwhere(letters == "S")[:, 1:][:, None] + STEP, 0, size - 1)
    distance = steps_to_goal(letters)[maps[:, None], after[..., 0], after[..., 1]]
    wrong = (distance > distance.min(1, keepdims=True)) & (distance < size * size)
    return np.where(wrong.any(1), np.where(wrong, distance, -1).argmax(1), -1)


def end_of(rows: np.ndarray, walk: Sequence[int]) -> str:
    """Letter of the cell where a walk of action indices ends: G is success; it stops at the first hole or goal."""
    cell = np.argwhere(rows == "S")[0]
    for move in walk:
        if rows[tuple(cell)] in "GH":
            break
        cell = np.clip(cell + STEP[move], 0, len(rows) - 1)
    return str(rows[tuple(cell)])
