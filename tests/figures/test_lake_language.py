"""The comparison of language models as a figure, and as verdicts on the claims."""

import json

import numpy as np
import pandas as pd
import pytest

from common.folders import write_json
from experiments import lake_language as compare
from figures import lake_language

TRIALS = ("base", *compare.COMPARED, *compare.VARIANTS)


@pytest.fixture
def scores():
    """Made up: DPO is nearest and SFT farthest, in value the other way; IFT recovers more often, whatever λ is."""
    generator = np.random.default_rng(0)
    order = {"base": 0.12, "dpo": 0.05, "ift": 0.07, "orpo": 0.09, "sft": 0.11}
    rows = []
    for protocol in compare.CHOSEN_BY:
        for trial in TRIALS:
            distance = order.get(trial, order.get(trial.split(":")[0], 0.1))
            for seed in range(5):
                for name in (compare.TEST, *compare.OTHERS):
                    for i in range(40):
                        success = generator.random() < (0.9 if trial.startswith("ift") else 0.5)
                        error = max(distance + generator.normal() * 0.003, 0)
                        settings = f"{trial} learning_rate={4e-5 if protocol == 'tuned (policies)' else 1e-3:g}"
                        rows.append((protocol, trial, settings, seed, name, i, success, error, 0.2 - error))
    columns = ["protocol", "trial", "settings", "seed", "set", "map", "success", "state_policy_mse", "state_value_gap"]
    return pd.DataFrame(rows, columns=columns)


def test_findings_see_the_order_that_is_there(scores):
    found = lake_language.findings(scores)
    by_name = {finding.claim.name: finding for finding in found.findings}
    assert by_name["order"].verdict("policy_mse") == "holds in every protocol"
    closer = by_name["dpo closer than ift"]
    assert {cell.state for cell in closer.cells if cell.metric == "policy_mse"} == {"holds"}
    assert {cell.state for cell in closer.cells if cell.metric == "value_gap"} == {"contradicted"}
    assert lake_language.verdict(closer) == (
        "By distance of the policy it holds in every protocol. "
        "By gap to the optimal value it is contradicted in every protocol"
    )
    assert {cell.metric for cell in by_name["recovers"].cells} == {"recovered"}
    assert by_name["recovers"].verdict("recovered") == "holds in every protocol"
    assert by_name["residual recovers"].verdict("recovered") == "is undecided in every protocol"
    start = next(row for row in found.standing if (row.trial, row.metric) == ("base", "policy_mse"))
    assert start.mean == pytest.approx(1)
    assert start.low < 1 < start.high


def test_every_claim_is_about_trials_that_were_trained(scores):
    trained = {*TRIALS, "ift:form=product"}
    assert len(lake_language.LANGUAGE_CLAIMS) == 12
    for claim in lake_language.LANGUAGE_CLAIMS:
        assert {trial for pair in claim.comparisons for trial in pair} <= trained, claim.name


def test_the_figure_is_drawn_from_the_comparison(scores, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "compare", lambda folder, quick, jobs: scores)
    written = lake_language.lake_language(tmp_path, True, 1)
    assert {path.name for path in written} == {
        "lake-language.json", "lake-language.png", "lake-language.svg", "lake-language.md",
    }  # fmt: skip
    caption = (tmp_path / "lake-language.md").read_text()
    assert caption.strip().endswith("Made by `python -m figures lake-language --quick`.")
    assert "In tuned (policies) every method took the smallest step" in caption
    assert "quick run" in (tmp_path / "lake-language.svg").read_text()  # a comment beside the letters' outlines


def test_pages_find_the_claims_in_words(scores, tmp_path):
    write_json(tmp_path / "found.json", lake_language.as_data(lake_language.findings(scores), quick=False))
    data = json.loads((tmp_path / "found.json").read_text())
    assert data["command"] == "python -m figures lake-language"
    assert data["seeds"] == [0, 1, 2, 3, 4]
    assert len(data["claims"]) == len(data["findings"]) == len(lake_language.LANGUAGE_CLAIMS)
    assert data["claims"][1]["claim"] == "DPO comes closer to the optimum than IFT"
    assert data["findings"][1]["cells"][0]["state"] == "holds"
