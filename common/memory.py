"""How much memory a process has held at most, and what this machine can hold."""

import resource
import sys
from pathlib import Path


def peak_gigabytes() -> float:
    """Most memory that this process has held, in 10⁹ bytes.

    `getrusage` would count what its parent held before it began; it is asked where /proc does not say it.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.exists() else []:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, else in KiB
    return held * (1 if sys.platform == "darwin" else 1024) / 1e9


def require_memory(needed_bytes: float, what: str) -> None:
    """Raise `ValueError` if `what` needs more bytes than this machine has in all."""
    import psutil

    held = psutil.virtual_memory().total
    if needed_bytes > held:
        raise ValueError(
            f"{what} would need at least {needed_bytes / 1e9:,.0f} GB of memory, this machine has {held / 1e9:,.0f}: "
            "ask for less"
        )
