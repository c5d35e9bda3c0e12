"""Pages that are made from the code and from results at every build: one per method, and replays of the explorer."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from ift import METHODS
from ift.method import Method

DOCS = Path(__file__).parents[1]
REPLAYS = ("order", "adam", "dpo")  # presets of `python -m toy.explore`
_LEARNS_FROM = {
    "targets": "*Targets*: answers to imitate, and nothing else. On a lake a target is the optimal trajectory.",
    "pairs": "*Pairs*: a target and a worse answer for each prompt. On a lake the policy itself makes the worse one.",
    "optimum": "*The optimal policy*, which only a lake knows: a ceiling for methods that learn from targets.",
    "rollouts": "*Roll-outs*: the policy's own trajectories with their rewards. No target is shown.",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write_pages)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx) -> None:
    folder = DOCS / "methods"
    folder.mkdir(exist_ok=True)
    standing = json.loads((DOCS / "audit" / "audit.json").read_text())["standing"]
    for method in METHODS.values():
        page = folder / f"{method.name}.md"
        text = "\n".join(method_page(method, standing)) + "\n"
        if not page.exists() or page.read_text() != text:  # else Sphinx would read every page again
            page.write_text(text)
    _record_replays(DOCS / "_build" / "replays")
    app.config.html_extra_path.append(str(DOCS / "_build" / "replays"))


def method_page(method: Method, standing: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a method's page: what it is, data, loss, numbers, the two front ends, the audit, API."""
    from lm.train.trainable import trainable

    yield f"# {method.name.upper()}: {method.title}"
    yield f"\nIts loss is {method.help}.\n"
    yield f"## What it learns from\n\n{_LEARNS_FROM[method.learns_from]}"
    if method.needs_reference:
        yield "It compares with the frozen start policy, the *reference*, which costs a pass of its own."
    if method.mixes_states:
        yield "The states of its targets are mixed with the model's own predictions."
    documented = inspect.getdoc(method.loss)
    yield f"\n## Loss\n\n{documented}\n" if documented else ""
    yield "## Its numbers\n"
    if method.numbers:
        yield "| number | what it is | allowed | on a lake | in a language model |\n|---|---|---|---|---|"
        for number in method.numbers:
            yield f"| `{number.name}` | {number.help} | {number.allowed} | {number.lake:g} | {number.text:g} |"
    else:
        yield "It has no numbers of its own."
    yield "\n## How to run it\n"
    yield f"```\npython -m toy.frozenlake --method sft {method.name}"
    if method.name in trainable():
        yield f"python -m lm.train --method {method.name}\n```"
    else:
        yield "```\n\nA language model cannot be trained with it here: `python -m lm.train` says so."
    rows = [row for row in standing if row["method"] == method.name]
    yield "\n## Where the audit puts it\n"
    if rows:
        yield "Means over lakes that nothing was chosen on; 1 is the start policy's own distance.\n"
        yield "| protocol | parameter MSE | policy MSE | success |\n|---|---|---|---|"
        for row in rows:
            numbers = (row[metric] for metric in ("parameter_mse", "policy_mse", "success"))
            shown = " | ".join("–" if number is None else f"{number:.3f}" for number in numbers)
            yield f"| {row['protocol']} | {shown} |"
        yield "\nAll methods and claims are in [the audit](../audit/AUDIT.md)."
    else:
        yield "The audit has the paper's methods only."
    yield f"\n## API\n\n```{{eval-rst}}\n.. autofunction:: {method.loss.__module__}.{method.loss.__name__}\n```"


def _record_replays(folder: Path) -> None:
    """`replays/NAME.html`, each one file that plays without a server; those that are there are kept."""
    from toy.explore.catalogue import presets
    from toy.explore.replay import record

    (folder / "replays").mkdir(parents=True, exist_ok=True)
    for name in REPLAYS:
        if not (folder / "replays" / f"{name}.html").exists():
            record(presets()[name], folder / "replays" / f"{name}.html")
