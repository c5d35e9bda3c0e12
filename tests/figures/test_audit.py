import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments.protocols import METHODS, PROTOCOLS
from PIL import Image

from experiments.claims import CLAIMS
from figures import audit as module
from figures.audit_page import render, verdicts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch):
    scale = {
        "development_lakes": (("random:4:0", False),),
        "held_out_lakes": (("ring", False), ("4x4", True)),
        "seeds": (31_000, 2),
    }
    monkeypatch.setattr(module, "_scale", lambda quick: scale)


def test_the_audit_writes_what_it_says_and_goes_on_from_what_it_has(small, monkeypatch, tmp_path):
    written = module.audit(tmp_path, quick=True, jobs=1)
    figures = {f"{name}.{kind}" for name in ("audit-claims", "audit-lambda") for kind in ("png", "svg", "md")}
    assert {path.name for path in written} == {"audit.json", "AUDIT.md", *figures}
    found = json.loads((tmp_path / "audit.json").read_text())
    assert [claim["name"] for claim in found["claims"]] == [claim.name for claim in CLAIMS]
    assert found["development"]["trainings"] == len(METHODS) * found["development"]["settings_per_method"] * 8
    assert {row["protocol"] for row in found["standing"]} == {"all", *PROTOCOLS}
    sampled = {row["method"]: row["sampled_steps"] for row in found["standing"] if row["protocol"] == "shared"}
    assert sampled["sft"] == sampled["ift"] == 0 < min(sampled["ppo"], sampled["dpo"], sampled["orpo"])
    page = (tmp_path / "AUDIT.md").read_text()
    assert page == render(found)
    for claim in found["claims"]:
        assert page.count(claim["verdict"]) >= 1
    assert Image.open(tmp_path / "audit-claims.png").size[0] > 2000

    before = {path.name: path.read_bytes() for path in written}
    monkeypatch.setattr(module, "sweep", None)  # nothing is trained again
    assert {path.name: path.read_bytes() for path in module.audit(tmp_path, quick=True, jobs=1)} == before
    monkeypatch.setattr("figures.protocols.LAMS", (0.0, 0.2))
    with pytest.raises(ValueError, match="holds results of another trials"):
        module.audit(tmp_path, quick=True, jobs=1)


def test_the_kept_audit_is_what_its_numbers_say():
    found = json.loads((ROOT / "docs/audit/audit.json").read_text())
    assert (ROOT / "docs/audit/AUDIT.md").read_text() == render(found)
    assert found["command"] == "python -m figures audit"
    table = [line for line in verdicts(found).splitlines() if line.startswith("| ")]
    readme = (ROOT / "README.md").read_text()
    for line in table[1:]:
        claim, verdict = (cell.strip() for cell in line.strip("|").split("|")[:2])
        assert f"| {claim} | {verdict} |" in readme, f"README lacks or contradicts: {claim}"


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
