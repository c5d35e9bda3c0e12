import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "needs"), [("toy", 8, "envpool"), ("lm", 8, "trl")])
def test_a_benchmark_writes_ratio_target_and_met(name, rows, needs, tmp_path):
    pytest.importorskip(needs, reason="the bench extra is not installed: make bench")
    file = tmp_path / "bench.json"
    subprocess.run([sys.executable, f"bench/{name}.py", "--quick", "--json", file], cwd=ROOT, check=True)
    found = json.loads(file.read_text())
    assert len(found) == rows
    for row in found.values():
        assert row["met"] == (row["ratio"] <= row["target"] if name == "lm" else row["ratio"] >= row["target"])
