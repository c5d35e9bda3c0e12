"""Commands parse first and import later; those that load a model do not load the trainer with it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lm
from bench.startup import BAD_ARGUMENTS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "lm_eval", "pandas", "scipy", "matplotlib")
_RUN = """
import json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
code = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as stopped:
    code = stopped.code
print(json.dumps([code, sorted(sys.modules)]))
"""


def modules_after(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def files_of_commands():
    """The files of the packages that Python runs by their name."""
    for package in ("toy", "lm", "experiments", "figures"):
        yield from (path for path in (ROOT / package).rglob("*.py") if "\nif __name__ ==" in path.read_text())


def test_every_command_is_among_those_whose_start_is_measured():
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
             for path in files_of_commands()}  # fmt: skip
    assert names - {"lm.study", "figures.benchmark"} == set(BAD_ARGUMENTS)  # a former name; toy.benchmark's own work


@pytest.mark.parametrize("command", BAD_ARGUMENTS)
def test_help_and_a_bad_argument_wait_for_no_library(command):
    for arguments, expected in ((["--help"], 0), (BAD_ARGUMENTS[command], 2)):
        (code, modules), _ = modules_after(_RUN, command, *arguments)
        assert code == expected, arguments
        assert "tyro" in modules
        assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lm.train", "--method", "nonsense"], "method 'nonsense' is unknown"),
        (["lm.train", "--method", "ppo"], "it learns from rollouts"),
        (["lm.train", "--lam", "2"], "lam must be in [0, 1], got 2"),
        (["lm.train", "--trainer", "seed=1"], "'seed' has an option of its own"),
        (["lm.train", "--config", "nowhere.yaml"], "config 'nowhere.yaml' is not a file"),
        (["lm.chat", "--temperature", "-1"], "temperature must be 0, or at least 0.01"),
        (["lm.merge", "--model", "nowhere", "--out", "new"], "there is no such folder"),
        (["lm.lake", "score", "--size", "99"], "size must be in [2, 8], got 99"),
        (["lm.lake", "data", "--out", "rows.txt"], "out must end in .jsonl or .parquet"),
        (["lm.evaluate", "--model", "m", "--limit", "0"], "limit must be at least 1"),
        (["lm.evaluate", "--model", "m", "--benchmarks", "IQ"], "benchmarks must be some of"),
        (["experiments.study", "--data", "nowhere"], "lacks train.jsonl"),
        (["experiments.lake_language", "--jobs", "0"], "jobs must be at least 1"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_bad_value_waits_for_no_library(arguments, message):
    (code, modules), error = modules_after(_RUN, *arguments)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert not set(HEAVY) & set(modules)


def test_what_loads_a_model_does_not_load_the_trainer():
    """One process imports them after each other; what is there after each says which of them it was."""
    modules = ["lm.lake.commands", "lm.chat", "common.models", "lm.lake.play", "lm.lake.tiny", "lm.merge", "peft"]
    modules += ["lm.evaluate.suites"] if importlib.util.find_spec("lm_eval") else []
    each = "{name: importlib.import_module(name) and [*sys.modules] for name in sys.argv[1:]}"
    after, _ = modules_after(f"import importlib, json, sys; print(json.dumps({each}))", *modules)
    for name in modules:
        assert not {"trl", "lm.train", "lm.trainers"} & set(after[name]), name
    assert "transformers" in after[modules[-1]]


def test_importing_the_lake_registers_its_environment_and_waits_for_no_library():
    code = "import json, sys, lm.lake; before = [*sys.modules]; import gymnasium; "
    modules, _ = modules_after(code + "gymnasium.make('lm/LakeText-v0').reset(); print(json.dumps(before))")
    assert not set(HEAVY) & set(modules)


def test_the_drop_in_is_there_by_its_name():
    assert (lm.IFTConfig.__module__, lm.IFTTrainer.__module__) == ("lm.trainers.config", "lm.trainers.ift")
    assert {"IFTConfig", "IFTTrainer"} <= set(dir(lm))


@pytest.mark.parametrize(
    ("former", "module"),
    [
        (["lm.lake", "compare", "--jobs", "0"], "experiments.lake_language"),
        (["lm.study", "--data", "nowhere"], "experiments.study"),
    ],
)
def test_former_spellings_of_commands_go_on_as_the_new_ones(former, module):
    done = subprocess.run([sys.executable, "-m", *former], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    note, error = done.stderr.splitlines()
    assert note.startswith("note: python -m lm.")
    assert f"is python -m {module} now" in note
    assert error.startswith("error: ")
