import numpy as np
import pandas as pd

from figures import phase
from figures.style import save


def made_up(count, values):
    """Runs of two seeds per protocol; `values(protocol, method)` is their mean."""
    return pd.DataFrame(
        {"protocol": i, "method": method, "seed": seed, "policy_mse": values(i, method) + sign,
         "parameter_mse": 1 / values(i, method)}
        for i in range(count) for method in ("sft", "ift", "dpo", "orpo") for seed, sign in ((0, -0.01), (1, 0.01))
    )  # fmt: skip


def test_an_order_holds_where_the_means_are_in_it():
    order = {"dpo": 0.1, "ift": 0.2, "orpo": 0.3, "sft": 0.4}
    protocols = phase.drawn_protocols(2)
    held = phase.orders_held(made_up(2, lambda i, method: order[method]), protocols).set_index("distance")
    names = [" < ".join(names) for names in phase.ORDERS]
    assert held.loc["policy_mse", names].all().all()
    assert not held.loc["parameter_mse", names].any().any()
    assert list(held["lake"]) == [protocols[0]["lake"], protocols[1]["lake"]] * 2


def test_a_method_with_a_stopped_run_is_behind():
    runs = made_up(1, lambda i, method: {"dpo": 0.1, "ift": 0.2, "orpo": 0.3, "sft": 0.4}[method])
    runs.loc[(runs["method"] == "dpo") & (runs["seed"] == 0), "policy_mse"] = np.nan
    (held,) = phase.orders_held(runs, phase.drawn_protocols(1)).query("distance == 'policy_mse'").to_dict("records")
    assert not held["dpo < sft"]
    assert held["ift < sft"]


def test_protocols_are_drawn_once_and_reach_every_level(tmp_path):
    protocols = phase.drawn_protocols(400)
    assert protocols == phase.drawn_protocols(400)
    assert protocols[:30] == phase.drawn_protocols(30)
    for factor, levels in phase.FACTORS.items():
        counts = pd.Series([protocol[factor] for protocol in protocols]).value_counts()
        assert set(counts.index) == set(levels)
        assert counts.min() > 400 / len(levels) / 2
    held = phase.orders_held(made_up(400, lambda i, method: 1 + i % 7), protocols)
    written = save(phase._draw(held), tmp_path, "phase", phase._caption(held, 2))
    assert [path.suffix for path in written] == [".png", ".svg", ".md"]


def test_a_protocol_trains_all_four_methods_at_its_levels():
    protocol = {**phase.drawn_protocols(1)[0], "lake": "4x4 slippery", "steps": 30, "beta": "low"}
    runs = phase._sweep([protocol], 7, 2)
    assert set(runs["method"]) == {"sft", "ift", "dpo", "orpo"}
    assert set(runs["protocol"]) == {7}
    assert len(runs) == 8
