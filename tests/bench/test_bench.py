import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_writes_ratio_target_and_met(tmp_path):
    pytest.importorskip("envpool", reason="the bench extra is not installed: make bench")
    subprocess.run([sys.executable, "bench/toy.py", "--quick", "--json", tmp_path / "bench.json"], cwd=ROOT, check=True)
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert len(rows) == 8
    for row in rows.values():
        assert row["met"] == (row["ratio"] >= row["target"])
