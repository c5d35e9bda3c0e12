"""All scores of a language model on the lake: its play, and its policy's distance to the optimum."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from lm.lake.maps import fewest_steps
from lm.lake.play import OUTCOMES, play, play_on_slippery_ice
from lm.lake.policy import SCORES, live_states, move_probs, score_policy
from lm.lake.words import in_words


def score_model(
    model: Any,
    tokenizer: Any,
    letters: np.ndarray,
    *,
    english: bool = False,
    slippery: bool = False,
    first_moves: np.ndarray | None = None,
) -> pd.DataFrame:
    """Play and the exact distances of the model's policy, a row per map of `[maps, size, size]`; `means` sums it up.

    `outcome` (of `OUTCOMES`), `walk`, `success`, `shortest` (as few moves as can be), `extra_steps` (where it reaches
    the goal), all greedy; `success_sampled`; `outside` (probability given to other tokens, over states); the
    columns of `score_policy` as `state_…`: NaN, with a warning, where the tokenizer or the context do not allow them.
    On slippery ice there are no shortest walks, and nothing is sampled.
    """
    states = live_states(letters)
    if slippery:
        outcomes, walks = play_on_slippery_ice(model, tokenizer, letters, english=english)
    else:
        outcomes, walks = play(model, tokenizer, letters, english=english, first_moves=first_moves)
    scores = pd.DataFrame({"outcome": outcomes, "walk": [in_words(walk) for walk in walks]})
    scores["success"] = scores["outcome"] == "goal"
    if not slippery:
        extra = np.array([len(walk) for walk in walks]) - fewest_steps(letters)
        if first_moves is None:  # after a wrong one no walk is shortest
            scores["shortest"] = scores["success"] & (extra == 0)
        scores["extra_steps"] = np.where(scores["success"], extra, np.nan)
        sampled, _ = play(model, tokenizer, letters, english=english, first_moves=first_moves, sample_seed=1)
        scores["success_sampled"] = [outcome == "goal" for outcome in sampled]
    try:
        probs, outside = move_probs(model, tokenizer, letters, states, english=english, slippery=slippery)
    except ValueError as error:
        warnings.warn(f"no scores by state: {error}", stacklevel=2)
        probs, outside = np.full((len(states.walks), 4), np.nan), np.full(len(states.walks), np.nan)
    scores["outside"] = np.bincount(states.map_of, outside) / np.bincount(states.map_of)
    if np.isnan(probs).any():
        return scores.assign(**{f"state_{name}": np.nan for name in SCORES})
    policy = score_policy(letters, states, probs, slippery=slippery)
    return scores.assign(**{f"state_{name}": values for name, values in policy.items()})


def means(scores: pd.DataFrame) -> dict[str, float]:
    """Means over maps of what `score_model` found, and the share of each outcome."""
    shares = {f"outcome_{name.replace(' ', '_')}": float((scores["outcome"] == name).mean()) for name in OUTCOMES}
    numbers = scores.drop(columns=["outcome", "walk"]).astype(float).mean()
    return {**{str(name): float(value) for name, value in numbers.items()}, **shares}
