"""Examples with a known teacher: optimal walks beside worse ones, noisy walks, and single moves on slippery ice."""

from itertools import cycle
from typing import Any

import numpy as np

from lm.lake.base import NOISE
from lm.lake.maps import STEP, fewest_steps, random_maps, walks
from lm.lake.play import answers, judged
from lm.lake.policy import DISCOUNT, as_lake
from lm.lake.words import in_words, prompt
from toy.planning import value_iteration

# Data sets by name, each with what `examples` is asked for.
KINDS: dict[str, dict[str, Any]] = {
    "lake": {},
    "lake-english": {"english": True},
    "lake-slippery": {"kind": "move"},
    "lake-slippery-english": {"kind": "move", "english": True},
    "lake-base": {"kind": "noisy"},
}
_STATES_PER_MAP = 10  # on slippery ice, where finding the best moves costs more than drawing a state
_SAMPLES = 8  # tries to draw a walk that is worse than the best from a model

Rows = list[dict[str, str]]


def examples(
    count: int,
    split: str,
    seed: int,
    *,
    kind: str = "walk",
    size: int = 4,
    english: bool = False,
    same_tie: bool = False,
) -> Rows:
    """`count` examples; of several best moves one is drawn, or with `same_tie` always the first of left, down, …

    - `walk`: a prompt, an optimal walk (`chosen`), one that is not (`rejected`), and why not (`worse`): `hole`,
      `detour` (it reaches the goal, later) or `lost` (it ends elsewhere).
    - `move`: on slippery ice, a map and where one slid so far, a best next move and one that is not.
    - `noisy`: a prompt and its `completion`, a walk with a share 0.3 of random moves: what the base model has read.
    """
    generator = np.random.default_rng([seed, len(split)])
    if kind == "move":
        return _moves(count, split, generator, size, english, same_tie)
    letters = random_maps(count, split, generator, size)
    asked = [prompt(rows, english=english) for rows in letters]
    if kind == "noisy":
        noisy, _ = walks(letters, NOISE, generator)
        return [{"prompt": text, "completion": in_words(walk)} for text, walk in zip(asked, noisy, strict=True)]
    best, _ = walks(letters, 0.0, generator, same_tie=same_tie)
    worse: list[tuple[list[int], str]] = [([], "")] * count
    while missing := [i for i, (walk, _) in enumerate(worse) if not walk]:
        for i, walk, end in zip(missing, *walks(letters[missing], 0.5, generator), strict=True):
            if end != "G" or len(walk) > len(best[i]):
                worse[i] = walk, {"H": "hole", "G": "detour"}.get(end, "lost")
    return [
        {"prompt": text, "chosen": in_words(good), "rejected": in_words(bad), "worse": why}
        for text, good, (bad, why) in zip(asked, best, worse, strict=True)
    ]


def own_pairs(
    model: Any,
    tokenizer: Any,
    count: int,
    split: str,
    seed: int,
    *,
    size: int = 4,
    english: bool = False,
    same_tie: bool = False,
) -> Rows:
    """As `examples`, but what is rejected is what the model itself says, sampled, where it is worse than the best.

    So these are maps on which the model failed at least once in up to 8 samples: harder than others. What it says has
    to come to an end.

    Raises:
        ValueError: it is worse on too few maps.
    """
    generator = np.random.default_rng([seed, len(split)])
    letters = random_maps(2 * count, split, generator, size)
    best, _ = walks(letters, 0.0, generator, same_tie=same_tie)
    fewest = fewest_steps(letters)
    rejected: dict[int, tuple[str, str]] = {}
    for sample in range(_SAMPLES):
        missing = [i for i in range(len(letters)) if i not in rejected]
        if len(rejected) >= count or not missing:
            break
        said = answers(model, tokenizer, letters[missing], english=english, sample_seed=seed * _SAMPLES + sample)
        for i, (text, ended) in zip(missing, said, strict=True):
            outcome, walk = judged(letters[i], text, ended)
            # An answer that never ends would be given an end that the model did not say.
            if text and ended and (outcome != "goal" or len(walk) > fewest[i]):
                rejected[i] = text, "detour" if outcome == "goal" else outcome
    if len(rejected) < count:
        raise ValueError(
            f"the model's own walks are worse than the best on {len(rejected)} of {len(letters)} maps, {count} were "
            "asked for: ask for fewer"
        )
    return [
        {
            "prompt": prompt(letters[i], english=english),
            "chosen": in_words(best[i]),
            "rejected": rejected[i][0],
            "worse": rejected[i][1],
        }
        for i in sorted(rejected)[:count]
    ]


def _moves(count: int, split: str, generator: np.random.Generator, size: int, english: bool, same_tie: bool) -> Rows:
    letters = random_maps(-(-count // _STATES_PER_MAP), split, generator, size)
    policies = [value_iteration(as_lake(rows, slippery=True), DISCOUNT).policy for rows in letters]
    moves: Rows = []
    for map_rows, policy in cycle(zip(letters, policies, strict=True)):
        slid, best = _slide(map_rows, policy, generator)
        if best.all():
            continue
        good, bad = np.flatnonzero(best), np.flatnonzero(~best)
        chosen = good[0] if same_tie else generator.choice(good)
        answers = {"chosen": in_words([chosen]), "rejected": in_words([generator.choice(bad)])}
        moves.append({"prompt": prompt(map_rows, english=english, slid=slid), **answers, "worse": "move"})
        if len(moves) == count:
            break
    return moves


def _slide(rows: np.ndarray, policy: np.ndarray, generator: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """Where one slid from the start until a random moment, still on safe ice, and which moves are best there, `[4]`.

    One tries best moves, a share 0.3 of them random.
    """
    size = len(rows)
    cell = np.argwhere(rows == "S")[0]
    slid: list[int] = []
    for _ in range(generator.integers(size * size)):
        tried = generator.choice(4, p=NOISE / 4 + (1 - NOISE) * policy[cell[0] * size + cell[1]])
        direction = int(tried + generator.integers(-1, 2)) % 4
        after = np.clip(cell + STEP[direction], 0, size - 1)
        if rows[tuple(after)] in "GH":
            break
        slid.append(direction)
        cell = after
    return slid, policy[cell[0] * size + cell[1]] > 0
