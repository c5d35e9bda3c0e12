"""Pages that are made from the code and from results at every build: one per method, and replays of the explorer."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from ift import METHODS
from ift.method import Method

DOCS = Path(__file__).parents[1]
REPLAYS = ("order", "adam", "dpo")  # presets of `python -m toy.explore`
_DATA = {
    "targets": "It learns from *targets*: answers to imitate. On a lake, the target is the optimal trajectory.",
    "pairs": "It learns from *pairs*: a target and a worse answer to the same prompt. On a lake, the worse answers are "
    "trajectories that the policy itself makes.",
    "optimum": "It learns from *the optimal policy*, which is known on a lake only. It shows how close a method could "
    "come that knows more than a target.",
    "rollouts": "It learns from *rollouts*: the policy's own trajectories with their rewards. No target is shown.",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write_pages)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx) -> None:
    folder = DOCS / "methods"
    folder.mkdir(exist_ok=True)
    for method in METHODS.values():
        page = folder / f"{method.name}.md"
        text = "\n\n".join(method_page(method)) + "\n"
        if not page.exists() or page.read_text() != text:  # else Sphinx would read every page again
            page.write_text(text)
    _record_replays(DOCS / "_build" / "replays")
    app.config.html_extra_path.append(str(DOCS / "_build" / "replays"))


def method_page(method: Method) -> Iterator[str]:
    """A method's page, block by block: what it is, data, loss, numbers, cost, how to run it, results, API."""
    from lm.train.trainable import TRL_LOSSES, why_not

    yield f"# {method.name.upper()}"
    yield f"**{method.title}.** In short: {method.help}."
    yield "## Data"
    yield _DATA[method.learns_from]
    yield "## Loss"
    yield re.split(r"\n(?:Args|Raises):", inspect.getdoc(method.loss) or "")[0]
    if method.mixes_states:
        yield f"The states of the target are {method.states} ([why](../method.md)) before the loss is computed."
    yield "## Numbers"
    yield "\n".join(_numbers(method))
    yield "## Cost"
    yield " ".join(_cost(method))
    yield "## How to run it"
    problem = why_not(method)
    in_words = "" if problem else f"\npython -m lm.train --method {method.name}"
    yield f"```\npython -m toy.frozenlake --method sft {method.name}{in_words}\n```"
    if problem:
        yield f"A language model cannot be trained with it here, because {problem}."
    elif method.name in TRL_LOSSES:
        yield "The command on language models uses TRL's trainer with TRL's own loss, and the lake uses the loss above."
    yield "## Results"
    yield "\n".join(_standing(method))
    name = f"{method.loss.__module__}.{method.loss.__name__}"
    yield f"## API\n\n```{{eval-rst}}\n.. autofunction:: {name}\n   :no-index:\n```"


def _numbers(method: Method) -> Iterator[str]:
    if not method.numbers:
        yield "The method has no numbers of its own."
        return
    yield "| number | meaning | allowed | default on a lake | default in a language model |\n|---|---|---|---|---|"
    for number in method.numbers:
        yield f"| `{number.name}` | {number.help} | {number.allowed} | {number.lake:g} | {number.text:g} |"


def _cost(method: Method) -> Iterator[str]:
    costs = json.loads((DOCS.parent / "experiments" / "benchmark.json").read_text())["costs"]
    if method.name in costs:
        yield f"On a lake an update takes {costs[method.name]:.1f} times as long as with SFT."
    if method.learns_from == "pairs":
        yield "A pair has two answers that go through the model."
    if method.needs_reference:
        yield "The loss compares with the frozen start policy, the *reference*, which needs a forward pass of its own."
    if method.name == "ift":
        yield "In a language model it needs one more forward pass per update, or none with `--prediction lagged`."
    yield "Measured times and memory are on the page [speed](../speed.md)."


def _standing(method: Method) -> Iterator[str]:
    rows = json.loads((DOCS / "audit" / "audit.json").read_text())["standing"]
    rows = [row for row in rows if row["method"] == method.name]
    if rows:
        yield "[The audit](../audit/AUDIT.md) has these means over lakes that were not used to choose any setting."
        yield "The distances are shares of the start policy's: below 1, the method has come closer to the optimum.\n"
        yield "| protocol | parameter MSE | policy MSE | success |\n|---|---|---|---|"
        for row in rows:
            numbers = (row[metric] for metric in ("parameter_mse", "policy_mse", "success"))
            shown = " | ".join("–" if number is None else f"{number:.3f}" for number in numbers)
            yield f"| {row['protocol']} | {shown} |"
        yield ""
    else:
        yield "[The audit](../audit/AUDIT.md) does not include this method, because the paper makes no claim about it."
    overall = (DOCS / "leaderboard.md").read_text().split("## Protocol")[0]
    for line in overall.splitlines():
        place, name, mean, *_ = [*(cell.strip() for cell in line.strip("|").split("|")), "", "", ""]
        if name == method.name:
            yield f"On [the leaderboard](../leaderboard.md) it has place {place}, with the mean place {mean}."


def _record_replays(folder: Path) -> None:
    """`replays/NAME.html`, each one file that plays without a server; those that are there are kept."""
    from toy.explore.catalogue import presets
    from toy.explore.replay import record

    (folder / "replays").mkdir(parents=True, exist_ok=True)
    for name in REPLAYS:
        if not (folder / "replays" / f"{name}.html").exists():
            record(presets()[name], folder / "replays" / f"{name}.html")
