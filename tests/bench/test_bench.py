import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import report

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "needs"),
    [("toy", 13, "envpool"), ("trainings", 4, "jax"), ("lm", 8, "trl"), ("startup", 40, "trl")],
)
def test_a_benchmark_writes_ratio_target_and_met(name, rows, needs, tmp_path):
    pytest.importorskip(needs, reason="the bench extra is not installed: make bench")
    file = tmp_path / "bench.json"
    subprocess.run([sys.executable, "-m", f"bench.{name}", "--quick", "--json", file], cwd=ROOT, check=True)
    written = json.loads(file.read_text())
    assert len(written) == rows
    for row in written.values():
        assert row["met"] == (
            row["ratio"] >= row["target"] if name in ("toy", "trainings") else row["ratio"] <= row["target"]
        )


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


@pytest.mark.slow
def test_every_part_for_a_gpu_machine_runs_without_one(tmp_path):
    from bench.gpu import PARTS

    pytest.importorskip("trl", reason="TRL is not installed: pip install -e .")
    parts = [part for part in PARTS if part != "steps"]  # tried above, as the command that it is
    arguments = ["--size", "tiny", "--sequences", "1", "--length", "32", "--quick", "--out", tmp_path / "gpu"]
    command = [sys.executable, "-m", "bench.gpu", *arguments, "--parts", *parts]
    subprocess.run(command, cwd=ROOT, check=True)
    for part in parts:
        written = json.loads((tmp_path / "gpu" / f"{part}.json").read_text())
        assert written["card"]
        assert written["rows"]
        if part != "qlora":
            assert not any(row.get("note", "").startswith(("failed", "stopped")) for row in written["rows"])
    assert (tmp_path / "gpu" / "README.md").read_text().count("\n## ") == len(parts)


def test_a_part_that_fails_or_lacks_its_package_is_a_row_that_says_so(tmp_path, monkeypatch):
    from bench import gpu, gpu_parts

    monkeypatch.setattr(gpu_parts.importlib.util, "find_spec", lambda name: None)
    assert "pip install bitsandbytes" in gpu_parts.missing("qlora")["note"]
    assert gpu_parts.missing("ift") is None
    (row,) = gpu.run_part("no such part", gpu.Options())
    assert "no such part" in row["note"]
    (row,) = gpu.run_part("steps", gpu.Options(), limit=0.01)
    assert row["note"] == "stopped after 0.01 s"


def test_the_page_of_a_gpu_machine_names_the_card_and_keeps_short_rows():
    from bench.gpu import page

    rows = [{"name": "ift", "seconds": 0.5, "ratio": 1.25, "target": 1.15}, {"name": "Liger", "note": "missing | here"}]
    where = {"part": "peers", "card": "Some Card", "torch": "2", "took": 3.0, "size": "7B", "sequences": 2}
    text = page([{**where, "length": 1024, "processes": 2, "rows": rows}])
    assert "Some Card, torch 2: 7B, 2 × 1,024 tokens at a time, 2 processes, 3 s in all." in text
    assert "| ift | 0.5 | 1.25 | 1.15 | – |" in text
    assert "| Liger | – | – | – | missing / here |" in text


def test_rows_go_into_their_place_on_the_page(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("Before.\n<!-- table: toy -->\nold\n<!-- end -->\nAfter.\n")
    rows = [
        report.Row("steps", "9 s", "JAX 18 s", 2.0, 1),
        report.Row("memory", "1 GB", "2 GB", 0.5, 0.4, at_most=True),
    ]
    report.write_page("toy", rows, page)
    assert page.read_text().splitlines()[3:6] == [
        "|---|---|---|---|---|---|",
        "| steps | 9 s | JAX 18 s | 2.00 | ≥ 1 | yes |",
        "| memory | 1 GB | 2 GB | 0.50 | ≤ 0.4 | no |",
    ]
    assert "old" not in page.read_text()
    with pytest.raises(ValueError, match="no place for the table of 'lm'"):
        report.write_page("lm", rows, page)
