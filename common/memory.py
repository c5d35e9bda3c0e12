"""How much memory a process has held at most, and what this machine can hold."""

import resource
from pathlib import Path


def peak_gigabytes() -> float:
    """Most memory that this process has held, in 10⁹ bytes.

    `getrusage` would count what its parent held before it began; it is asked where there is no /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def require_memory(needed_bytes: float, what: str) -> None:
    """Raise `ValueError` if `what` needs more bytes than this machine has in all."""
    import psutil

    held = psutil.virtual_memory().total
    if needed_bytes > held:
        raise ValueError(
            f"{what} would need at least {needed_bytes / 1e9:,.0f} GB of memory, this machine has {held / 1e9:,.0f}: "
            "ask for less"
        )
