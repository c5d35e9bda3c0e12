import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.costs import measured_costs

ROOT = Path(__file__).parents[2]
COSTS = {"lake": {"sft": {"seconds": 1.0}}, "language": {"sft": {"seconds": 2.0}}}


@pytest.fixture
def calls(monkeypatch):
    """The calls of the bench, which here writes `COSTS` at once."""
    made = []

    def run(command, cwd, **options):
        made.append((command, cwd))
        Path(command[command.index("--json") + 1]).write_text(json.dumps(COSTS))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return made


def test_the_bench_is_run_in_the_checkout_and_its_numbers_are_kept_where_the_caller_is(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert measured_costs(Path("results"), quick=True) == COSTS
    ((command, folder),) = calls
    assert command[:3] == [sys.executable, "-m", "bench.methods"]
    assert command[-1] == "--quick"
    assert folder == ROOT
    assert json.loads((tmp_path / "results" / "costs-runs" / "costs.json").read_text()) == COSTS
    assert measured_costs(Path("results"), quick=True) == COSTS
    assert len(calls) == 1


def test_an_installed_package_has_no_bench_and_no_numbers(calls, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.costs._CHECKOUT", tmp_path)
    assert measured_costs(tmp_path / "results", quick=True) == {"lake": {}, "language": {}}
    assert calls == []


def test_a_bench_that_fails_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1))
    with pytest.raises(ValueError, match=r"try `python -m bench\.methods --quick` in"):
        measured_costs(tmp_path, quick=True)
    assert [path.name for path in (tmp_path / "costs-runs").iterdir()] == ["config.json"]
