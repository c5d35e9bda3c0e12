import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import phase
from experiments.claims import PAPERS_ORDER
from figures import phase as drawn
from toy import protocol

IN_ORDER = {method: 0.1 * (place + 1) for place, method in enumerate(PAPERS_ORDER)}


def made_up(combos, distance_of):
    """Runs of two seeds for each combination and trial; `distance_of(combination, trial)` is their parameter MSE."""
    crossed = [f"ift {p} {f}" for p in phase.CROSSED["prediction"] for f in phase.CROSSED["form"]]
    trials = ["sft", *crossed, *(f"{method} {beta:g}" for method in ("dpo", "orpo") for beta in phase.BETAS)]
    return pd.DataFrame(
        {"combination": i, "trial": trial, "seed": seed, "parameter_mse": distance_of(combo, trial) + sign,
         "policy_mse": 1 / distance_of(combo, trial), "start_parameter_mse": 1.0, "start_policy_mse": 1.0}
        for i, combo in enumerate(combos) for trial in trials for seed, sign in ((0, -0.01), (1, 0.01))
    )  # fmt: skip


def in_order(combo, trial):
    return IN_ORDER[trial.split()[0]]


def test_an_order_holds_where_the_means_are_in_it():
    combos = phase.drawn_combinations(2)
    held = phase.orders_held(made_up(combos, in_order), combos).set_index("distance")
    assert held.loc["parameter_mse", list(phase.ORDERS)].all().all()
    assert not held.loc["policy_mse", list(phase.ORDERS)].any().any()
    assert len(held.loc["parameter_mse"]) == len(combos) * len(phase.BETAS) * 2 * 2


def test_a_protocol_is_judged_by_its_own_levels():
    """Only with β 2 is DPO closest, and only the form sum of IFT is closer than ORPO."""

    def distance_of(combo, trial):
        if trial.startswith("dpo"):
            return 0.1 if trial == "dpo 2" else 0.9
        return 0.5 if trial.startswith("ift") and trial.endswith("product") else in_order(combo, trial)

    combos = phase.drawn_combinations(1)
    held = phase.orders_held(made_up(combos, distance_of), combos).query("distance == 'parameter_mse'")
    whole = held[next(iter(phase.ORDERS))]
    assert whole.equals((held["beta"] == 2) & (held["form"] == "sum"))
    assert held["ift < orpo"].equals(held["form"] == "sum")


def test_a_method_with_a_stopped_run_is_behind_and_ties_are_in_no_order():
    combos = phase.drawn_combinations(1)
    runs = made_up(combos, lambda combo, trial: 0.3 if trial.startswith("orpo") else in_order(combo, trial.split()[0]))
    runs.loc[runs["trial"].str.startswith("ift"), "parameter_mse"] -= 1e-7  # 0.2 and 0.3 less rounding
    runs.loc[runs["trial"].str.startswith("ift"), "parameter_mse"] += 0.1
    runs.loc[runs["trial"].str.startswith("dpo") & (runs["seed"] == 0), "parameter_mse"] = np.nan
    held = phase.orders_held(runs, combos).query("distance == 'parameter_mse'")
    assert not held[["dpo < sft", "dpo < ift"]].any().any()
    assert not held["ift < orpo"].any()
    assert held["ift < sft"].all()


def test_combinations_are_drawn_once_with_every_level_equally_often():
    combos = phase.drawn_combinations(60)
    assert combos == phase.drawn_combinations(60)
    table = pd.DataFrame(combos)
    for optimizer, of_optimizer in table.groupby("optimizer"):
        for factor, levels in (*phase.DRAWN.items(), ("lr", phase.STEP_SIZES[str(optimizer)])):
            counts = of_optimizer[factor].value_counts()
            assert set(counts.index) == set(levels)
            assert set(counts) == {60 // len(levels)}, (optimizer, factor)


def test_the_lakes_have_a_second_way():
    from experiments.lakes import has_second_way
    from toy import Lake

    assert all(has_second_way(Lake.make(name, slippery=slippery)) for name, slippery in phase.LAKES.values())


def test_a_combination_trains_every_method_at_its_levels():
    combo = {**phase.drawn_combinations(1)[0], "lake": "4x4 slippery", "start": "both, 0.67", "steps": 30}
    settings = phase.settings_of(combo, 2)
    assert (settings.start, settings.start_suboptimal_share, settings.steps) == ("both", 0.67, 30)
    assert settings.width == protocol("paper").width
    runs = phase._runs_of([combo], 7, 2)
    assert set(runs["combination"]) == {7}
    assert len(runs) == 2 * (1 + 4 + 2 * len(phase.BETAS))
    means = runs.groupby("trial")["parameter_mse"].mean()
    assert means["ift greedy sum"] != means["ift greedy product"]
    assert means["orpo 0.1"] != means["orpo 2"]


@pytest.fixture
def held():
    combos = phase.drawn_combinations(12)
    paper_wins = made_up(combos, lambda combo, trial: in_order(combo, trial) if combo["optimizer"] == "sgd" else 0.5)
    return phase.orders_held(paper_wins, combos)


def test_shares_count_their_protocols(held):
    table = drawn.shares(held[held["distance"] == "parameter_mse"], ["optimizer", "form"], ["ift < sft"])
    assert table.loc[("sgd", "sum")].to_dict() == {"ift < sft": 100.0, "n": 12 * len(phase.BETAS) * 2}
    assert table.loc[("adam", "sum"), "ift < sft"] == 0


def test_the_picture_is_drawn_and_the_caption_says_what_holds_where(held, monkeypatch, tmp_path):
    monkeypatch.setattr(drawn, "run_phase", lambda *_: phase.Phase(held, 12, 2))
    written = drawn.phase(tmp_path, True, 1)
    assert [path.suffix for path in written] == [".png", ".svg", ".md"]
    assert np.asarray(Image.open(written[0]).convert("L")).std() > 5
    caption = written[2].read_text()
    assert "sgd, sum 100.0 %" in caption
    assert "adam, sum 0.0 %" in caption
    assert "ift < orpo < sft holds in 100 % of" in caption
    assert caption.rstrip().endswith("Made by `python -m figures phase --quick`.")
