"""What makes the audit honest: nothing that is reported was chosen on, and all methods had the same to choose from."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from experiments import audit, lakes, tuning
from ift import METHODS
from toy import PROTOCOLS, Lake


def symmetric(name):
    """All eight rotations and reflections of a lake, as one value."""
    grid = np.array([list(row) for row in Lake.make(name).rows])
    views = [np.rot90(g, turns) for g in (grid, grid.T) for turns in range(4)]
    return min("/".join("".join(row) for row in view) for view in views)


def test_no_held_out_lake_is_a_development_lake_in_any_rotation():
    development = {symmetric(lake.map) for lake in lakes.DEVELOPMENT_LAKES}
    held_out = {symmetric(lake.map) for lake in lakes.HELD_OUT_LAKES}
    assert len(development) == len(lakes.DEVELOPMENT_LAKES)
    assert len(held_out) == len(lakes.HELD_OUT_LAKES) == 68
    assert not development & held_out


def test_lakes_and_seeds_are_what_was_promised():
    sizes = Counter((Lake.make(lake.map).shape[0], lake.slippery) for lake in lakes.HELD_OUT_LAKES if lake.second_way)
    assert sizes == {(size, slippery): 6 for size in range(4, 9) for slippery in (False, True)}
    first, count = lakes.HELD_OUT_SEEDS
    assert count >= 100
    development = range(lakes.DEVELOPMENT_SEEDS[0], sum(lakes.DEVELOPMENT_SEEDS))
    assert not set(development) & set(range(first, first + count))


@pytest.mark.parametrize("lake", [*lakes.DEVELOPMENT_LAKES, *lakes.HELD_OUT_LAKES], ids=lambda lake: lake.key)
def test_a_lake_has_the_second_way_that_it_is_said_to_have(lake):
    assert lakes.has_second_way(lake.make()) == lake.second_way


def test_every_method_has_the_same_budget_within_its_ranges():
    trials = tuning.development_trials()
    by_method = {m: [t.settings for t in trials.values() if t.method == m] for m in tuning.TUNED}
    assert {len(settings) for settings in by_method.values()} == {64}
    for settings in by_method.values():
        assert len(set(settings)) == 64
        assert min(s.lr for s in settings) == 1e-4
        assert max(s.lr for s in settings) == 3e-2
    assert all(0.05 <= s.lam <= 0.6 and 0.5 <= s.gamma <= 1 for s in by_method["ift"])
    assert {s.form for s in by_method["ift"]} == {"product", "sum"}
    assert tuning.development_trials() == trials


def test_the_best_mean_over_lakes_is_chosen_and_a_stopped_run_is_out():
    rows = [
        {"method": method, "trial": f"{method}/{trial}", "lake": lake, "start_policy_mse": scale,
         "policy_mse": mse * scale}
        for method in tuning.TUNED
        for trial, mses in {"steady": (0.5, 0.5), "lucky": (0.1, 1.2), "stopped": (0.1, np.nan)}.items()
        for lake, scale, mse in zip(("small", "large"), (1.0, 100.0), mses, strict=True)
    ]  # fmt: skip
    assert tuning.chosen(pd.DataFrame(rows), "policy_mse") == {m: f"{m}/steady" for m in tuning.TUNED}


@pytest.mark.parametrize("protocol", audit.WITH_VARIANTS)
def test_variants_change_one_thing_at_a_time(protocol):
    settings = dict.fromkeys(("sft", "ift"), PROTOCOLS[protocol].settings)
    trials = audit.trials_of(protocol, settings, (7, 3))
    base = trials["ift"].settings
    assert (base.seed, base.seeds) == (7, 3)
    variants = [name for name in trials if ":" in name]
    assert len(variants) >= 5
    for name in variants:
        key, value = name.partition(":")[2].split("=")
        changed = {k: v for k, v in trials[name].settings.as_dict().items() if v != base.as_dict()[k]}
        assert set(changed) <= {key}
        assert str(trials[name].settings.as_dict()[key]).removesuffix(".0") == value


def test_the_papers_protocol_is_the_papers():
    """What the paper says: both ways in the start, its equation, λ 0.2, γ 0.95; DPO and ORPO with β of their own."""
    settings = PROTOCOLS["paper"].settings
    assert (settings.start, settings.form, settings.optimizer) == ("both", "sum", "sgd")
    assert settings.start_suboptimal_share > 0.5  # it prefers the other way, so that λ has something to mix
    assert settings.numbers_of(METHODS["ift"]) == {"lam": 0.2, "gamma": 0.95}
    assert settings.number(METHODS["dpo"], "beta") == 1
    assert settings.number(METHODS["orpo"], "beta") == 0.1
