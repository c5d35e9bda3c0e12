"""What an update of each method costs, from the bench."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from common.folders import claim_folder, reading

_BENCH = Path(__file__).parents[1] / "bench" / "methods.py"
SETTING = (
    "Lake: 256 policies at once, greedy predictions. Language: a Mistral of 57M parameters, 2 examples of 256 tokens "
    "(pairs for ORPO and DPO), with --quick smaller; DPO is TRL's trainer, the others have this project's head, so its "
    "time compares implementations too."
)


def measured_costs(out: Path, quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """What `bench/methods.py` measured: `{"lake": {method: {"seconds": …}}, "language": …}`, kept in `out/costs-runs`.

    Empty where the bench is not, in an installed package. `language` is empty without the `lm` extra, and is measured
    once it is there.
    """
    file = out / "costs-runs" / "costs.json"
    claim_folder(file.parent, {"bench": "methods", "quick": quick})
    with reading(file):
        costs = json.loads(file.read_text()) if file.exists() else {"lake": {}, "language": {}}
    complete = costs["lake"] and (costs["language"] or find_spec("trl") is None)
    if complete or not _BENCH.exists():
        return costs
    part = file.with_name(".costs.json.part")
    command = [sys.executable, str(_BENCH), "--json", str(part), *(["--quick"] if quick else [])]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise ValueError(f"the bench failed: see above, or try `python {_BENCH.name} --quick` in bench/ by itself")
    part.replace(file)
    return json.loads(file.read_text())
