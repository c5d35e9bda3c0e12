"""The comparison of language models as a figure, as verdicts, and beside the small networks' in the audit."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import lake_language as compare
from figures import audit_page, lake_language

TRIALS = ("base", *compare.METHODS, *compare.VARIANTS)


@pytest.fixture
def scores():
    """Made up: DPO is nearest and SFT farthest, in value the other way; IFT recovers more often, whatever λ is."""
    generator = np.random.default_rng(0)
    order = {"base": 0.12, "dpo": 0.05, "ift": 0.07, "orpo": 0.09, "sft": 0.11}
    rows = []
    for protocol in compare.PROTOCOLS:
        for trial in TRIALS:
            distance = order.get(trial, order.get(trial.split()[0], 0.1))
            for seed in range(5):
                for name in (compare.TEST, *compare.OTHERS):
                    for i in range(40):
                        success = generator.random() < (0.9 if trial.startswith("ift") else 0.5)
                        error = max(distance + generator.normal() * 0.003, 0)
                        rows.append((protocol, trial, f"{trial} x", seed, name, i, success, error, 0.2 - error))
    columns = ["protocol", "trial", "settings", "seed", "set", "map", "success", "state_policy_mse", "state_value_gap"]
    return pd.DataFrame(rows, columns=columns)


def test_findings_see_the_order_that_is_there(scores):
    found = lake_language.findings(scores)
    claims = {claim["name"]: claim for claim in found["claims"]}
    policies = [cell["state"] for cell in claims["order"]["cells"] if cell["space"] == "policies"]
    assert policies == ["holds", "holds"]
    by_space = {cell["space"]: cell["state"] for cell in claims["dpo < ift"]["cells"]}
    assert by_space == {"policies": "holds", "value": "contradicted"}
    assert claims["dpo < ift"]["verdict"] == "depends on the space: holds for policies; contradicted for value"
    assert claims["recovers"]["verdict"] == "holds"
    assert {cell["space"] for cell in claims["recovers"]["cells"]} == {"wrong first move"}
    assert claims["residual recovers"]["verdict"].startswith("undecided: holds in 0 of 2 cells")
    start = next(row for row in found["standing"] if (row["trial"], row["space"]) == ("base", "policies"))
    assert start["mean"] == pytest.approx(1)
    assert start["low"] < 1 < start["high"]
    json.dumps(found, allow_nan=False)


def test_the_figure_is_drawn_from_the_comparison(scores, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "compare", lambda folder, quick, jobs: scores)
    written = lake_language.lake_language(tmp_path, True, 1)
    assert {path.name for path in written} == {
        "lake-language.json", "lake-language.png", "lake-language.svg", "lake-language.md",
    }  # fmt: skip
    assert "python -m figures lake-language --quick" in (tmp_path / "lake-language.md").read_text()


def test_the_audit_puts_both_side_by_side(scores):
    language = lake_language.findings(scores) | {"command": "python -m figures lake-language"}
    cell = {"protocol": "tuned (policies)", "space": "policies", "ice": "not slippery", "state": "contradicted",
            "effect": -0.1, "low": -0.2, "high": -0.05}  # fmt: skip
    small = [{"name": "dpo < ift", "cells": [cell]}, {"name": "ift < sft", "cells": [cell | {"state": "holds"}]}]
    page = audit_page._language({"language": language, "claims": small})
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "no, it turns round" in rows["DPO comes closer to the optimum than IFT"]
    assert " | yes | " in rows["IFT comes closer to the optimum than SFT"]
    assert "-10.00% [-20.00, -5.00] ✗" in rows["DPO comes closer to the optimum than IFT"]
    assert "python -m figures lake-language" in audit_page._language({"language": None, "claims": []})
