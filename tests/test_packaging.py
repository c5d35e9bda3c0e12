"""What is built from this tree: the wheel and the sdist hold all of it, and an installed wheel runs from anywhere."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.startup import BAD_ARGUMENTS as COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "ift", "toy", "lm", "experiments", "figures")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IN_THE_SDIST = {".gitignore", ".ci/run"}


def source_files():
    """The files of the checkout that git keeps, or would keep if they were added."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git: it cannot be said what belongs into a wheel")
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def build(kind, source, out):
    """The path of a wheel or an sdist of the tree `source`."""
    hook = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    out.mkdir()
    subprocess.run([sys.executable, "-c", hook, out], cwd=source, check=True, capture_output=True)
    (file,) = out.iterdir()
    return file


def contents(wheel):
    """Name and bytes of each file of a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist, made from a copy, so that no `build` folder stays in the checkout."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in source_files():
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    return {kind: build(kind, folder / "source", folder / kind) for kind in ("wheel", "sdist")}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built):
    expected = {name for name in source_files() if name.split("/")[0] in PACKAGES}
    assert {"lm/recipes/zephyr.jinja", "lm/evaluate/paper.json", "lm/tasks/arc_gen/arc_gen.yaml"} <= expected
    assert set(contents(built["wheel"])) == expected


def test_the_sdist_holds_the_whole_source_and_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    missing = {name for name in source_files() - NOT_IN_THE_SDIST if not (source / name).is_file()}
    assert not missing
    assert contents(build("wheel", source, tmp_path / "again")) == contents(built["wheel"])


def test_version_changelog_and_citation_agree():
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest, *_ = re.findall(r"^## (\S+) \(.+\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited == newest == PROJECT["version"]


def imported_distributions(folder):
    """Name of each distribution outside the standard library that a Python file imports, and the files that do."""
    provided_by = packages_distributions()
    files_of = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {*PACKAGES}:
                (distribution,) = {canonicalize_name(name) for name in provided_by.get(module, [module])}
                files_of.setdefault(distribution, set()).add(path.relative_to(ROOT).as_posix())
    return files_of


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_a_base_dependency_or_an_extra_of_evaluation(package):
    def names(requirements):
        return {canonicalize_name(Requirement(line).name) for line in requirements}

    base, extras = names(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    for distribution, files in imported_distributions(ROOT / package).items():
        if distribution == "vllm":  # needs a GPU: who has it installs it, and `python -m lm.pairs` says so
            assert files == {"lm/pairs/sampling.py"}
        elif distribution not in base:
            assert distribution in names(extras["eval"] + extras["judge"]), f"{files} import {distribution}"
            assert all(file.startswith("lm/evaluate/") for file in files), f"{files} import {distribution}"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of a clean environment with the wheel; the dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (packages,) = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.split()
    # A path in a .pth file shows its packages, but runs no .pth file in it: an editable install stays invisible.
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(packages) / "dependencies.pth").write_text("\n".join(shared) + "\n")
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", built["wheel"]]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    return python


def call(python, *arguments, cwd):
    done = subprocess.run([python, "-m", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_an_installed_command_shows_its_help(installed, command, tmp_path):
    assert f"usage: python -m {command}" in call(installed, command, "--help", cwd=tmp_path)


@pytest.mark.slow
def test_an_installed_wheel_trains_on_the_lake_and_takes_its_own_recipe(installed, tmp_path):
    where = "import lm, toy; print(lm.__path__[0], toy.__path__[0])"
    shown = subprocess.run([installed, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(Path(path).is_relative_to(installed.parents[1]) for path in shown.split())
    call(installed, "toy.frozenlake", "--method", "sft", "--seeds", "2", "--out", "lake", cwd=tmp_path)
    assert (tmp_path / "lake" / "runs.parquet").is_file()
    recipe = Path(shown.split()[0]) / "recipes" / "mistral-7b-ift.yaml"
    assert "7.24 B parameters" in call(installed, "lm.train", "--dry-run", "--config", recipe, cwd=tmp_path)
