import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from experiments import audit as experiment
from experiments.claims import CLAIMS
from experiments.lakes import DEVELOPMENT_LAKES, HELD_OUT_LAKES
from figures import audit as module
from figures.audit_page import sentences

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    development = tuple(lake for lake in DEVELOPMENT_LAKES if lake.key == "random-5-0")
    held_out = tuple(lake for lake in HELD_OUT_LAKES if lake.key in ("random-4-700", "random-4-801-slippery"))
    monkeypatch.setattr(experiment, "QUICK", experiment.Scale(development, held_out, (61_000, 2), quick=True))


def check_the_five_sentences(said):
    """They avoid the audit's own words."""
    assert len(said) == 5
    for sentence in said:
        assert not {"cell", "cells", "space", "protocol", "protocols"} & set(sentence.lower().replace(",", "").split())


def test_the_audit_writes_what_it_says_and_goes_on_from_what_it_has(small, monkeypatch, tmp_path):
    written = module.audit(tmp_path, quick=True, jobs=1)
    names = ("audit-leads", "audit-claims", "audit-lambda")
    figures = {f"{name}.{kind}" for name in names for kind in ("png", "svg", "md")}
    assert {path.name for path in written} == {"audit.json", "AUDIT.md", *figures}
    data = json.loads((tmp_path / "audit.json").read_text())
    assert [each["claim"]["name"] for each in data["findings"]] == [claim.name for claim in CLAIMS]
    assert data["held_out"]["trainings"] == 2 * 2 * (12 + 12 + 10 + 4 + 4 + 4)
    assert {row["protocol"] for row in data["standing"]} == set(experiment.COLUMNS)
    sampled = {row["method"]: row["sampled_steps"] for row in data["standing"] if row["protocol"] == "adam"}
    assert sampled["sft"] == sampled["ift"] == 0 < min(sampled["ppo"], sampled["dpo"], sampled["orpo"])
    page = (tmp_path / "AUDIT.md").read_text()
    for claim in CLAIMS:
        assert f"| {claim.sentence} |" in page
    assert "python -m figures audit --quick" in (tmp_path / "audit-leads.md").read_text()
    assert Image.open(tmp_path / "audit-leads.png").size[0] > 2000
    check_the_five_sentences(sentences(experiment.audit(tmp_path / "audit-runs", quick=True, jobs=1)))

    before = {path.name: path.read_bytes() for path in written}
    monkeypatch.setattr(experiment, "sweep", None)  # nothing is trained again
    monkeypatch.setattr(experiment, "sweep_with_curves", None)
    assert {path.name: path.read_bytes() for path in module.audit(tmp_path, quick=True, jobs=1)} == before
    monkeypatch.setattr(experiment, "LAMS", (0.0, 0.2))
    with pytest.raises(ValueError, match="holds results of another trials"):
        module.audit(tmp_path, quick=True, jobs=1)


def cells(data, name, protocol, metric="parameter_mse", kind="all"):
    (each,) = [each for each in data["findings"] if each["claim"]["name"] == name]
    (cell,) = [c for c in each["cells"] if (c["protocol"], c["metric"], c["kind"]) == (protocol, metric, kind)]
    return cell


def test_the_kept_page_is_what_its_numbers_say():
    """Every share and number of README's and the page's five sentences, from audit.json."""
    data = json.loads((ROOT / "docs/audit/audit.json").read_text())
    assert data["command"] == "python -m figures audit"
    page = " ".join((ROOT / "docs/audit/AUDIT.md").read_text().split("![")[0].split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    sentences_of_page = page[page.index("1. ") :].strip()
    assert sentences_of_page in readme

    def share(name, *where):
        return f"{cells(data, name, *where)['lakes_share']:.0%}"

    lead, at_equal = (cells(data, "ift closer than sft", name) for name in ("paper", "paper, equal distance"))
    for said in (
        f"SFT on {share('ift closer than sft', 'paper')} of the lakes, closer than ORPO's on "
        f"{share('ift closer than orpo', 'paper')}, and ORPO's ends closer than SFT's on "
        f"{share('orpo closer than sft', 'paper')}.",
        f"IFT on {share('dpo closer than ift', 'paper', 'parameter_mse', 'not slippery')} of the lakes",
        f"on {share('dpo closer than ift', 'paper', 'parameter_mse', 'slippery')} of those where moves may slip",
        f"ahead of SFT by {100 * at_equal['effect']:.2f} % of the start's distance to the optimum instead of "
        f"{100 * lead['effect']:.2f} %",
        f"than SFT on only {share('ift closer than sft', 'paper-adam')} of the lakes, and DPO on only "
        f"{share('dpo closer than sft', 'paper-adam')}.",
        f"IFT is closer to the optimum than SFT on only {share('ift closer than sft', 'paper', 'policy_mse')} of the",
        f"order on {share('order of success', 'paper', 'success', 'not slippery')} of the lakes where no move slips",
    ):
        assert said in sentences_of_page


@pytest.mark.slow
def test_a_killed_audit_ends_with_the_same_numbers(tmp_path):
    def start(folder):
        command = [sys.executable, "-m", "figures", "audit", "--quick", "--out", str(folder)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)

    assert start(tmp_path / "whole").wait() == 0
    for seconds in (12, 25):
        process = start(tmp_path / "killed")
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    for name in ("audit.json", "AUDIT.md", "audit-claims.png"):
        assert (tmp_path / "whole/quick" / name).read_bytes() == (tmp_path / "killed/quick" / name).read_bytes()
