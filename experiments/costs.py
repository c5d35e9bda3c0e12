"""What an update of each method costs, from the bench."""

import json
import subprocess
import sys
from pathlib import Path

from common.folders import claim_folder, reading, working_in, write_whole

_CHECKOUT = Path(__file__).resolve().parents[1]  # where `bench` lies, if this is not an installed package
SETTING = (
    "Lake: 256 policies at once, greedy predictions. Language: a Mistral of 57M parameters, 2 examples of 256 tokens "
    "(pairs for ORPO and DPO), with --quick smaller; DPO is TRL's trainer, the others have this project's head, so its "
    "time compares implementations too."
)


def measured_costs(out: Path, quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """What `python -m bench.methods` measured: `{"lake": {method: {"seconds": …}}, "language": …}`.

    It is kept in `out/costs-runs`. Both are empty where there is no bench, in an installed package.

    Raises:
        ValueError: the bench failed, or the kept file cannot be read.
    """
    file = out / "costs-runs" / "costs.json"
    with working_in(file.parent):
        claim_folder(file.parent, {"bench": "methods", "quick": quick})
        with reading(file):
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"lake": {}, "language": {}}
            costs = {kind: {name: _numbers(cost) for name, cost in kept[kind].items()} for kind in ("lake", "language")}
            measured = bool(costs["lake"] and costs["language"])
        if measured or not (_CHECKOUT / "bench" / "methods.py").exists():
            return costs
        write_whole(file, lambda part: _measure(part.resolve(), quick))
        return json.loads(file.read_text(encoding="utf-8"))


def _numbers(cost: dict[str, float]) -> dict[str, float]:
    return {name: float(number) for name, number in cost.items()}


def _measure(file: Path, quick: bool) -> None:
    command = [sys.executable, "-m", "bench.methods", "--json", str(file), *(["--quick"] if quick else [])]
    if subprocess.run(command, stdout=sys.stderr, cwd=_CHECKOUT).returncode:  # the bench runs in another folder
        raise ValueError(
            f"the bench failed: see above, or try `python -m bench.methods --quick` in {str(_CHECKOUT)!r} by itself"
        )
