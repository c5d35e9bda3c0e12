import numpy as np
import pandas as pd
import pytest
from experiments.protocols import DISTANCES, PROTOCOLS, PUBLISHED, held_out_trials

from experiments import claims
from experiments.claims import CLAIMS, Sample, findings, standing, verdict


def held_out(policy_mse, noise=0.02, lakes=6, seeds=10):
    """Made-up held-out runs: each trial's MSE is `policy_mse(trial, protocol, slippery)` and noise."""
    generator = np.random.default_rng(0)
    rows = []
    for protocol in PROTOCOLS:
        for trial, settings in held_out_trials(PUBLISHED, (0, seeds)).items():
            for lake in range(lakes):
                for seed in range(seeds):
                    mse = policy_mse(trial, protocol, bool(lake % 2)) + noise * generator.standard_normal()
                    rows.append(
                        {
                            "protocol": protocol, "trial": trial, "method": settings.method, "lake": f"lake-{lake}",
                            "slippery": bool(lake % 2), "seed": seed, "policy_mse": mse, "parameter_mse": mse,
                            "start_policy_mse": 1.0, "start_parameter_mse": 1.0, "cells_visited": 10 * mse,
                            "success": 1.0, "start_success": 0.5, "start_cells_visited": 3.0, "sampled_steps": 0,
                            "stopped_at_step": -1,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(runs):
    return {claim["name"]: claim["verdict"] for claim in findings(runs)}


def test_a_claim_that_is_true_everywhere_holds_and_its_opposite_does_not():
    found = verdicts(held_out(lambda trial, *_: {"dpo": 0.2, "ift": 0.4, "orpo": 0.6, "sft": 0.8}.get(trial, 0.5)))
    assert found["order"] == "holds"
    assert all(found[f"{a} < {b}"] == "holds" for a, b in [("dpo", "ift"), ("ift", "sft"), ("orpo", "sft")])
    assert found["ift visits"] == "does not hold: holds in 0 of 4 cells, contradicted in 4"


def test_what_makes_no_difference_is_not_shown():
    found = verdicts(held_out(lambda *_: 0.5))
    assert found["order"].startswith(("not shown", "does not hold"))
    exact = verdicts(held_out(lambda *_: 0.5, noise=0))
    assert set(exact.values()) == {"makes no difference"}


def test_a_tie_of_many_is_rarely_called_a_contradiction():
    """λ = 0.2 against six equals: the smallest of six differences is below 0, which alone says nothing."""
    claim = next(claim for claim in CLAIMS if claim.name == "lambda 0.2")
    contradicted = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        names = {name for pair in claim.comparisons for name in pair}
        rows = [
            {"trial": name, "lake": f"{lake:02}", "seed": s, "policy_mse": 1 + generator.standard_normal(),
             "start_policy_mse": 1.0, "slippery": False}
            for name in names for lake in range(8) for s in range(8)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        tables = {(name, "policy_mse"): claims.lake_means(table, name, "policy_mse") for name in names}
        cell = claims.judge(tables, claim, "policy_mse", claims.resamples(table, (False,)))
        contradicted += cell["state"] == "contradicted"
    assert contradicted <= 4


def test_the_factor_is_named():
    by_ice = held_out(lambda trial, protocol, slippery: 0.5 + (0.3 if slippery else -0.3) * (trial == "dpo"))
    assert verdicts(by_ice)["dpo < sft"] == (
        "depends on the ice: holds where it is not slippery and is contradicted where it is slippery, in 8 of 8 cells"
    )
    by_protocol = held_out(lambda trial, protocol, _: 0.5 + (-0.3 if protocol == "shared" else 0.3) * (trial == "ift"))
    assert verdicts(by_protocol)["ift < sft"] == (
        "depends on the protocol: holds for shared; contradicted for tuned (policies), tuned (weights), published"
    )
    by_space = held_out(lambda trial, *_: 0.5 - 0.3 * (trial == "ift"))
    by_space["parameter_mse"] = 1 - by_space["parameter_mse"]
    assert verdicts(by_space)["ift < sft"] == "depends on the space: holds for policies; contradicted for weights"


def cells(over_all, not_slippery=(), slippery=()):
    """Made-up cells with the states of eight (protocol, space) pairs: h(olds), c(ontradicted), o(pen)."""
    names = {"h": "holds", "c": "contradicted", "o": "open"}
    places = [(protocol, space) for protocol in PROTOCOLS for space in ("policies", "weights")]
    return [
        {"protocol": protocol, "space": space, "ice": ice, "state": names[state]}
        for ice, states in (("all", over_all), ("not slippery", not_slippery), ("slippery", slippery))
        for (protocol, space), state in zip(places, states or "oooooooo", strict=True)
    ]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (("hhhhhhhh",), "holds"),
        (("hhhhhhhh", "oooooooo", "cooooooo"), "holds over all lakes; contradicted on one ice in 1 cells"),
        (("oooooooo",), "not shown: holds in 0 of 8 cells, contradicted in 0"),
        (("cooooooo",), "not shown: holds in 0 of 8 cells, contradicted in 1"),
        (("ccccoooo",), "does not hold: holds in 0 of 8 cells, contradicted in 4"),
        (("hccccccc",), "does not hold: holds in 1 of 8 cells, contradicted in 7"),
        (("hhhhhhhc",), "holds in part: holds in 7 of 8 cells, contradicted in 1"),
        (("hhoccooo",), "depends on protocol and space: holds in 2 of 8 cells, contradicted in 2"),
        (("hchchchc", "hhhhhhhh", "cccccccc"), "depends on the space: holds for policies; contradicted for weights"),
        (("cccccccc", "hccccccc", "cccccccc"), "does not hold: holds in 0 of 8 cells, contradicted in 8"),
        (
            ("oooooooo", "hhhhoooo", "ccccoooo"),
            "depends on the ice: holds where it is not slippery and is contradicted where it is slippery, "
            "in 4 of 8 cells",
        ),
    ],
)
def test_a_verdict_says_what_its_cells_say(states, said):
    assert verdict(cells(*states)) == said


def test_a_stopped_run_counts_as_the_farthest():
    runs = held_out(lambda trial, *_: {"sft": 0.9, "ift": 0.1}.get(trial, 0.5), noise=0)
    runs.loc[(runs["trial"] == "ift") & (runs["seed"] == 0), ["policy_mse", "stopped_at_step"]] = [np.nan, 5]
    table = runs[runs["protocol"] == "shared"]
    means = claims.lake_means(table, "ift", "policy_mse")
    np.testing.assert_allclose(means[0], 0.9)
    np.testing.assert_allclose(means[1], 0.1)


def test_a_map_on_both_ices_is_drawn_as_one():
    table = pd.DataFrame({"lake": ["ring", "ring-slippery", "other"] * 2, "slippery": [False, True, False] * 2,
                          "seed": [0, 0, 0, 1, 1, 1]})  # fmt: skip
    sample = claims.resamples(table, (False, True))
    ring, slippery = (sample.of_lakes[:, sample.lakes.index(name)] for name in ("ring", "ring-slippery"))
    assert (ring == slippery).all()
    assert ring.std() > 0


def test_resampled_means_equal_a_plain_loop():
    generator = np.random.default_rng(1)
    values = generator.standard_normal((2, 3, 4))
    values[0, 1, 2] = np.nan
    of_lakes, of_seeds = generator.integers(0, 3, (5, 3)), generator.integers(1, 3, (5, 3, 4))
    fast = Sample(["a", "b", "c"], of_lakes.astype(float), of_seeds.astype(float)).means(values)
    for b in range(5):
        for k in range(2):
            drawn = []
            for lake in range(3):
                seeds = np.repeat(values[k, lake], of_seeds[b, lake])
                drawn += [np.nanmean(seeds)] * of_lakes[b, lake]
            assert fast[b, k] == pytest.approx(np.mean(drawn))


def test_intervals_cover_the_truth():
    """95 % intervals of a known mean over lakes and seeds, 200 times: at least 85 % of them, with so few lakes."""
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = 0.3 + generator.standard_normal((12, 1)) + generator.standard_normal((12, 20))
        table = pd.DataFrame({"lake": np.repeat([f"{i:02}" for i in range(12)], 20), "slippery": False,
                              "seed": np.tile(range(20), 12)})  # fmt: skip
        means = claims.resamples(table, (False,)).means(values[None])[:, 0]
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0.3 <= high
    assert 170 <= covered <= 200


def test_standing_counts_what_was_stopped():
    runs = held_out(lambda *_: 0.5, noise=0)
    runs.loc[0, ["policy_mse", "stopped_at_step"]] = [np.nan, 3]
    first = next(row for row in standing(runs) if row["method"] == "sft" and row["protocol"] == next(iter(PROTOCOLS)))
    assert first["stopped"] == 1
    assert first["policy_mse"] == pytest.approx(0.5)


def test_every_cell_is_there_once():
    for claim in findings(held_out(lambda *_: 0.5, lakes=4, seeds=3)):
        spaces = 1 if claim["name"].endswith("visits") else len(DISTANCES)
        keys = {(c["protocol"], c["space"], c["ice"]) for c in claim["cells"]}
        assert len(keys) == len(claim["cells"]) == len(PROTOCOLS) * spaces * 3
        assert claim["verdict"] == verdict(claim["cells"])
