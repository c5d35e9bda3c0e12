"""Who may import whom, as docs/architecture.md has it; no circle between folders; files of a size to read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"common", "ift", "toy", "lm", "experiments", "figures", "bench", "tests"}
# Folder: what its files may import of ours. The longest prefix of a file's place counts.
MAY_IMPORT = {
    "common": {"common"},
    "ift": {"ift"},
    "toy": {"common", "ift", "toy"},
    "lm/lake": {"common", "ift", "toy.lake", "toy.planning", "lm.lake"},
    "lm/trainers": {"common", "ift", "lm.trainers"},
    "lm": {"common", "ift", "toy.lake", "toy.planning", "lm"},
    "experiments": {"common", "ift", "toy", "lm", "experiments"},
    "figures": {"common", "ift", "toy", "lm", "experiments", "figures"},
    "bench": OURS - {"figures", "tests"},
}
PACKAGES = ("common", "ift", "toy", "lm", "experiments", "figures", "bench")


def imported_modules(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    return [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]


def allowed_in(path):
    """What the file may import: that of the longest folder that holds it."""
    return MAY_IMPORT[max((folder for folder in MAY_IMPORT if path.is_relative_to(folder)), key=len)]


def imports_of_ours(path):
    for module in imported_modules(ROOT / path):
        if module.split(".")[0] in OURS:
            yield module


def test_imports_keep_to_the_architecture():
    assert len(files()) > 80
    for path in files():
        for module in imports_of_ours(path):
            known = any(f"{module}.".startswith(f"{name}.") for name in allowed_in(path))
            assert known, f"{path} may not import {module}"


def test_there_is_no_circle_between_folders():
    """A folder that another one needs, directly or not, does not need that one; its own subfolders aside."""
    folders = {str(path.parent).replace("/", ".") for path in files()}
    needs = {folder: set() for folder in folders}
    for path in files():
        here = str(path.parent).replace("/", ".")
        for module in imports_of_ours(path):
            parts = module.split(".")
            prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
            there = next((prefix for prefix in prefixes if prefix in folders), here)
            if not f"{here}.".startswith(f"{there}.") and not f"{there}.".startswith(f"{here}."):
                needs[here].add(there)
    for folder in sorted(folders):
        reached, ahead = set(), needs[folder]
        while ahead:
            reached |= ahead
            ahead = {other for one in ahead for other in needs[one]} - reached
        assert folder not in reached, f"{folder} needs itself, through {reached}"


def test_a_file_can_be_read_at_one_sitting():
    for path in [*files(), *(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))]:
        lines = len((ROOT / path).read_text().splitlines())
        assert lines <= 350, f"{path} has {lines} lines"


def test_a_name_that_all_share_is_given_once():
    """`METHODS` in `ift` alone, where each file ends with its part; the others in one file."""
    places = {"METHODS": "ift/", "PROTOCOLS": "toy/protocols.py", "BETAS": "experiments/phase.py",
              "Settings": "toy/settings.py", "Trial": "toy/trials.py"}  # fmt: skip
    seen = set()
    for path in files():
        for node in ast.parse((ROOT / path).read_text()).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            names |= {node.name} if isinstance(node, ast.ClassDef) else set()
            for name in names & places.keys():
                assert str(path).startswith(places[name]), f"{path} has a {name} of its own"
                seen.add(name)
    assert seen == places.keys()


def test_no_global_seeds_and_no_pickles():
    """The words below are what is looked for, in the packages only."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for word in ("torch.manual_seed", "np.random.seed", "pickle"):
                assert word not in path.read_text().replace("allow_pickle=False", ""), f"{path}: {word}"
