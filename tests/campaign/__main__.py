"""Bad inputs, kills, full disks and two at once against every command: counts what falls short, and names it.

Examples:
  python -m tests.campaign --inputs 300 --kills 60
  python -m tests.campaign --seed 7 --case input:12:7
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import tyro

from tests.campaign.cases import FAMILIES, Campaign, run_case
from tests.campaign.commands import prepare


@dataclass(frozen=True)
class Options:
    """How much is tried; a twelfth of the kills each are full disks and two at once, beside them."""

    inputs: int = 300
    """Bad inputs."""
    kills: int = 60
    """Kills."""
    seed: int = 0
    """Of all cases."""
    case: str | None = None
    """The name of one case: it alone is run, its folder is kept."""


def main(options: Options) -> int:
    """Run the cases; 1 if one fell short."""
    work = Path(tempfile.mkdtemp(prefix="campaign-"))
    os.environ["MPLCONFIGDIR"] = matplotlib.get_cachedir()  # its fonts are known there
    os.environ |= {"XDG_CACHE_HOME": str(work / "cache"), "HF_HOME": str(work / "hf"), "HF_HUB_OFFLINE": "1",
                   "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # fmt: skip
    counts = (options.inputs, options.kills, -(-options.kills // 12), -(-options.kills // 12))
    names = [f"{family}:{index}:{options.seed}" for family, count in zip(FAMILIES, counts, strict=True)
             for index in range(count)]  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the count is printed, whatever ends it
    begun, tried, short = time.monotonic(), Counter[str](), Counter[str]()
    try:
        _import_all()
        campaign = Campaign(work, prepare(work))
        for name in [options.case] if options.case else names:
            family = name.split(":")[0]
            problem = run_case(campaign, name)
            tried[family] += 1
            if problem:
                short[family] += 1
                print(f"SHORT {name} {problem}", flush=True)
            if options.case:
                print(f"its folder: {work / name.replace(':', '-')}")
            else:
                shutil.rmtree(work / name.replace(":", "-"), ignore_errors=True)
    except KeyboardInterrupt:
        print(f"interrupted: {len(names) - sum(tried.values())} cases are left")
    finally:
        if not options.case:
            shutil.rmtree(work, ignore_errors=True)
        told = ", ".join(f"{tried[family]} {family} ({short[family]} short)" for family in FAMILIES)
        print(f"{told}; {time.monotonic() - begun:.0f} s, seed {options.seed}")
    return int(bool(short))


def _import_all() -> None:
    """What the commands import, so that each case need not wait for it."""
    from common.command import quieten

    quieten()
    import toy.explore.server
    import toy.report
    import toy.results  # noqa: F401


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
