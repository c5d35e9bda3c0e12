"""Who may import whom: ift ← nothing of ours; toy ← ift; nothing imports figures, bench or tests."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"ift", "toy", "lm", "figures", "bench", "tests"}
MAY_IMPORT = {
    "ift": {"ift"},
    "toy": {"ift", "toy"},
    "lm": {"ift", "lm", "toy.lake", "toy.memory", "toy.planning", "toy.store"},
    "figures": {"ift", "toy", "lm", "figures"},
    "bench": OURS - {"tests"},
}


def imported_modules(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_keep_to_the_architecture():
    seen = 0
    for package, allowed in MAY_IMPORT.items():
        for path in (ROOT / package).rglob("*.py"):
            seen += 1
            for module in imported_modules(path):
                if module.split(".")[0] in OURS:
                    prefixes = {module, module.split(".")[0], ".".join(module.split(".")[:2])}
                    assert prefixes & allowed, f"{path.relative_to(ROOT)} may not import {module}"
    assert seen > 10


def test_no_global_seeds_and_no_pickles():
    """The words below are what is looked for, in the packages only."""
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            for word in ("torch.manual_seed", "np.random.seed", "pickle"):
                assert word not in path.read_text().replace("allow_pickle=False", ""), f"{path}: {word}"
