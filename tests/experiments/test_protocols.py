"""What makes the audit honest: nothing that is reported was chosen on, and all methods had the same to choose from."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from experiments import protocols
from toy import Lake


def symmetric(name):
    """All eight rotations and reflections of a lake, as one value."""
    grid = np.array([list(row) for row in Lake.make(name).rows])
    views = [np.rot90(g, turns) for g in (grid, grid.T) for turns in range(4)]
    return min("/".join("".join(row) for row in view) for view in views)


def test_no_held_out_lake_is_a_development_lake_in_any_rotation():
    development = {symmetric(name) for name, _ in protocols.DEVELOPMENT_LAKES}
    held_out = {symmetric(name) for name, _ in protocols.HELD_OUT_LAKES}
    assert len(development) == len(protocols.DEVELOPMENT_LAKES)
    assert len(held_out) == 30 + 3
    assert not development & held_out


def test_lakes_and_seeds_are_what_was_promised():
    random = [lake for lake in protocols.HELD_OUT_LAKES if lake[0].startswith("random")]
    sizes = Counter(Lake.make(name).shape[0] for name, _ in random)
    assert len(random) >= 30
    assert set(sizes) == {4, 5, 6, 7, 8}
    assert {slippery for _, slippery in random} == {True, False}
    first, count = protocols.HELD_OUT_SEEDS
    assert count >= 100
    development = range(protocols.DEVELOPMENT_SEEDS[0], sum(protocols.DEVELOPMENT_SEEDS))
    assert not set(development) & set(range(first, first + count))


def test_every_method_has_the_same_budget_within_its_ranges():
    trials = protocols.development_trials()
    by_method = {m: [t.settings for t in trials.values() if t.method == m] for m in protocols.METHODS}
    assert {len(settings) for settings in by_method.values()} == {64}
    for settings in by_method.values():
        assert len(set(settings)) == 64
        assert min(s.lr for s in settings) == 1e-4
        assert max(s.lr for s in settings) == 3e-2
    assert all(0.05 <= s.lam <= 0.6 and 0.5 <= s.gamma <= 1 for s in by_method["ift"])
    assert {s.propagation for s in by_method["ift"]} == {"product", "sum"}
    trainings = len(trials) * len(protocols.DEVELOPMENT_LAKES) * protocols.DEVELOPMENT_SEEDS[1]
    assert trainings >= 20_000
    assert protocols.development_trials() == trials


def test_the_best_mean_over_lakes_is_chosen_and_a_stopped_run_is_out():
    rows = [
        {"method": method, "trial": f"{method}/{trial}", "lake": lake, "start_policy_mse": scale,
         "policy_mse": mse * scale}
        for method in protocols.METHODS
        for trial, mses in {"steady": (0.5, 0.5), "lucky": (0.1, 1.2), "stopped": (0.1, np.nan)}.items()
        for lake, scale, mse in zip(("small", "large"), (1.0, 100.0), mses, strict=True)
    ]  # fmt: skip
    assert protocols.chosen(pd.DataFrame(rows), "policy_mse") == {m: f"{m}/steady" for m in protocols.METHODS}


@pytest.mark.parametrize("protocol", ["published", "shared"])
def test_ablations_change_one_thing_at_a_time(protocol):
    settings = {"published": protocols.PUBLISHED, "shared": protocols.SHARED}[protocol]
    trials = protocols.held_out_trials(settings, (7, 3))
    base = trials["ift"].settings.as_dict()
    assert (base["seed"], base["seeds"]) == (7, 3)
    for name, trial in trials.items():
        if name.startswith("ift "):
            key, value = name.removeprefix("ift ").split("=")
            changed = {k: v for k, v in trial.settings.as_dict().items() if v != base[k]}
            assert set(changed) <= {key}
            assert str(trial.settings.as_dict()[key]).removesuffix(".0") == value
