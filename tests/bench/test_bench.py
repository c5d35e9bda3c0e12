import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "needs"), [("toy", 8, "envpool"), ("lm", 8, "trl"), ("startup", 36, "trl")])
def test_a_benchmark_writes_ratio_target_and_met(name, rows, needs, tmp_path):
    pytest.importorskip(needs, reason="the bench extra is not installed: make bench")
    file = tmp_path / "bench.json"
    subprocess.run([sys.executable, "-m", f"bench.{name}", "--quick", "--json", file], cwd=ROOT, check=True)
    written = json.loads(file.read_text())
    assert len(written) == rows
    for row in written.values():
        assert row["met"] == (row["ratio"] >= row["target"] if name == "toy" else row["ratio"] <= row["target"])


def test_within_the_bench_toy_and_lm_are_the_packages_and_not_its_files():
    names = "import bench.toy, bench.lm, toy, lm; print(toy.__file__, lm.__file__)"
    shown = subprocess.run([sys.executable, "-c", names], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert shown.split() == [str(ROOT / "toy" / "__init__.py"), str(ROOT / "lm" / "__init__.py")]


def test_start_up_is_measured_as_the_cpu_time_of_the_call():
    from bench.startup import cpu_seconds

    spinning = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.5 <= cpu_seconds(("-c", spinning), 0) < 1.5
    assert cpu_seconds(("-c", "import time; time.sleep(0.5)"), 0) < 0.4


def test_a_call_that_ends_with_another_exit_code_is_no_measurement():
    from bench.startup import cpu_seconds
    from common.command import FailedError

    with pytest.raises(FailedError, match="ended with 1 in place of 2: no such map"):
        cpu_seconds(("-c", "raise SystemExit('no such map')"), 2)
