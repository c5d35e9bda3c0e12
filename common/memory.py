"""How much memory a process has held at most."""

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
