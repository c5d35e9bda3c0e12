from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from experiments import claims
from experiments.audit import standing
from experiments.claims import CLAIMS, DISTANCES, PAPERS_ORDER, Cell, Finding, Sample, findings

PROTOCOLS = ("paper", "adam")


def held_out(policy_mse, noise=0.02, lakes=6, seeds=10, trials=("sft", "ift", "orpo", "dpo")):
    """Made-up held-out runs: each trial's MSE is `policy_mse(trial, protocol, slippery)` and noise."""
    generator = np.random.default_rng(0)
    rows = []
    for protocol in PROTOCOLS:
        for trial in trials:
            for lake in range(lakes):
                for seed in range(seeds):
                    mse = policy_mse(trial, protocol, bool(lake % 2)) + noise * generator.standard_normal()
                    rows.append(
                        {
                            "protocol": protocol, "trial": trial, "method": trial, "lake": f"lake-{lake}",
                            "slippery": bool(lake % 2), "second_way": lake < 4, "seed": seed,
                            "policy_mse": mse, "parameter_mse": mse,
                            "start_policy_mse": 1.0, "start_parameter_mse": 1.0, "cells_visited": 10 * mse,
                            "success": 1 - mse, "sampled_steps": 0, "stopped_at_step": -1,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(runs, metric="parameter_mse"):
    return {each.claim.name: each.verdict(metric) for each in findings(runs) if metric in each.claim.metrics}


IN_ORDER = {"dpo": 0.2, "ift": 0.4, "orpo": 0.6, "sft": 0.8}


def test_a_claim_that_is_true_everywhere_holds_and_its_opposite_does_not():
    runs = held_out(lambda trial, *_: IN_ORDER[trial])
    said = verdicts(runs)
    assert said["order"] == "holds in every protocol"
    assert all(said[f"{a} closer than {b}"] == "holds in every protocol" for a, b in pairwise(PAPERS_ORDER))
    assert verdicts(runs, "success")["order of success"] == "holds in every protocol"
    assert verdicts(runs, "cells_visited")["ift visits more cells"] == "is contradicted in every protocol"
    turned = verdicts(held_out(lambda trial, *_: 1 - IN_ORDER[trial]))
    assert turned["order"] == turned["dpo closer than sft"] == "is contradicted in every protocol"


def test_what_makes_no_difference_is_undecided_and_what_was_not_run_is_not_judged():
    said = verdicts(held_out(lambda *_: 0.5))
    assert said["dpo closer than sft"].startswith("is undecided")
    assert said["residual"] == "was not judged"  # its variants were not run
    assert {cell.state for cell in findings(held_out(lambda *_: 0.5, noise=0))[1].cells} == {"same"}


def test_the_protocol_in_which_a_claim_holds_is_named():
    runs = held_out(lambda trial, protocol, _: 0.5 + (-0.3 if protocol == "paper" else 0.3) * (trial == "ift"))
    assert verdicts(runs)["ift closer than sft"] == "holds in paper; is contradicted in adam"


def test_lakes_of_either_ice_are_judged_apart():
    runs = held_out(lambda trial, protocol, slippery: 0.5 + (0.3 if slippery else -0.3) * (trial == "dpo"))
    (each,) = [each for each in findings(runs) if each.claim.name == "dpo closer than sft"]
    assert each.cell("paper", "parameter_mse", "not slippery").state == "holds"
    assert each.cell("paper", "parameter_mse", "slippery").state == "contradicted"
    assert each.cell("paper", "parameter_mse").lakes_share == 0.5


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("hhh", "holds in every protocol"),
        ("ccc", "is contradicted in every protocol"),
        ("ooo", "is undecided in every protocol"),
        ("hco", "holds in p0; is contradicted in p1; is undecided elsewhere"),
        ("hhc", "holds in p0 and p1; is contradicted in p2"),
        ("hoo", "holds in p0; is undecided elsewhere"),
    ],
)
def test_a_verdict_says_what_its_cells_say(states, said):
    names = {"h": "holds", "c": "contradicted", "o": "open"}
    cells = [Cell(f"p{i}", "parameter_mse", "all", 0, 0, 0, 0, 1, names[state]) for i, state in enumerate(states)]
    assert Finding(CLAIMS[0], tuple(cells)).verdict("parameter_mse") == said


def test_a_tie_of_many_is_rarely_called_a_contradiction():
    """λ = 0.2 against four equals: the smallest of four differences is below 0, which alone says nothing."""
    (claim,) = [claim for claim in CLAIMS if claim.name == "best lambda"]
    contradicted = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        names = {name for pair in claim.comparisons for name in pair}
        rows = [
            {"trial": name, "lake": f"{lake:02}", "seed": s, "policy_mse": 1 + generator.standard_normal(),
             "start_policy_mse": 1.0}
            for name in names for lake in range(8) for s in range(8)
        ]  # fmt: skip
        table = pd.DataFrame(rows)
        tables = {(name, "policy_mse"): claims.lake_means(table, name, "policy_mse") for name in names}
        sample = claims.resample(sorted(table["lake"].unique()), 8)
        contradicted += claims.judge(tables, claim.comparisons, "policy_mse", sample)[-1] == "contradicted"
    assert contradicted <= 4


def test_a_stopped_run_counts_as_the_farthest():
    runs = held_out(lambda trial, *_: {"sft": 0.9, "ift": 0.1}.get(trial, 0.5), noise=0)
    runs.loc[(runs["trial"] == "ift") & (runs["seed"] == 0), ["policy_mse", "stopped_at_step"]] = [np.nan, 5]
    means = claims.lake_means(runs[runs["protocol"] == "paper"], "ift", "policy_mse")
    np.testing.assert_allclose(means[0], 0.9)
    np.testing.assert_allclose(means[1], 0.1)


def test_resampled_means_equal_a_plain_loop():
    generator = np.random.default_rng(1)
    values = generator.standard_normal((2, 3, 4))
    values[0, 1, 2] = np.nan
    of_lakes, of_seeds = generator.integers(0, 3, (5, 3)), generator.integers(1, 3, (5, 4))
    of_lakes[:, 0] += 1  # at least one lake is drawn
    fast = Sample(["a", "b", "c"], of_lakes.astype(float), of_seeds.astype(float)).means(values)
    for b in range(5):
        for k in range(2):
            drawn = []
            for lake in range(3):
                seeds = np.repeat(values[k, lake], of_seeds[b])
                drawn += [np.nanmean(seeds)] * of_lakes[b, lake]
            assert fast[b, k] == pytest.approx(np.mean(drawn))


def test_intervals_cover_the_truth():
    """95 % intervals of a known mean over lakes and seeds, 200 times: at least 85 % of them, with so few lakes."""
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = 0.3 + generator.standard_normal((12, 1)) + generator.standard_normal((12, 20))
        means = claims.resample([f"{i:02}" for i in range(12)], 20).means(values[None])[:, 0]
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0.3 <= high
    assert 170 <= covered <= 200


def test_standing_counts_what_was_stopped():
    runs = held_out(lambda *_: 0.5, noise=0)
    for metric in ("policy_mse_nearest", "policy_mse_beside", "value_gap", "agreement", "travelled", "drift_target",
                   "drift_beside"):  # fmt: skip
        runs[metric] = 0.0
    runs.loc[0, ["policy_mse", "stopped_at_step"]] = [np.nan, 3]
    first = standing(runs).query("method == 'sft' and protocol == 'paper'").iloc[0]
    assert first["stopped"] == 1
    assert first["policy_mse"] == pytest.approx(0.5)


def test_every_cell_is_there_once():
    for each in findings(held_out(lambda *_: 0.5, seeds=3)):
        keys = {(cell.protocol, cell.metric, cell.kind) for cell in each.cells}
        assert len(keys) == len(each.cells)
        if each.claim.metrics == DISTANCES and "ift:" not in str(each.claim.comparisons):
            assert len(keys) == len(PROTOCOLS) * len(DISTANCES) * 4


def test_lakes_without_a_second_way_are_judged_apart():
    order = findings(held_out(lambda trial, *_: IN_ORDER[trial], seeds=3))[0]
    lakes = {kind: order.cell("paper", "parameter_mse", kind).lakes for kind in ("all", "slippery", "one way")}
    assert lakes == {"all": 6, "slippery": 3, "one way": 2}
