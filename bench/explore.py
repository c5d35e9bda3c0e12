"""Speed of the page in the browser, without a browser: `python -m bench.explore [--quick] [--json FILE] [--page]`.

A server of the page runs in a process of its own; this program speaks to it as a page does, with 4 methods of 32 seeds.
A frame is an update of every method with its measurements. Both wall time and the server's CPU time are shown, as the
machine may have other work.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from bench.report import Options, Row, run

ROOT = Path(__file__).resolve().parents[1]
LAKES = {"ring": "SFFFF/FHHHF/FFFGF", "8x8": "SFFFFFFF/FFFFFFFF/FFFHFFFF/FFFFFHFF/FFFHFFFF/FHHFFFHF/FHFFHFHF/FFFHFFFG"}


@contextlib.contextmanager
def _page() -> Iterator[tuple[ClientConnection, int]]:
    """A connection to a server of its own, warm, and the process id of that server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "toy.explore", "--port", str(port), "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            time.sleep(8)  # it imports PyTorch meanwhile, as it does while a browser opens
            address = f"127.0.0.1:{port}"
            with connect(f"ws://{address}/socket", origin=Origin(f"http://{address}"), max_queue=None) as page:
                yield page, process.pid
        finally:
            process.terminate()


def _ask(page: ClientConnection, kind: str, **more: Any) -> None:
    page.send(json.dumps({"type": kind, **more}))


def _hear(page: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message = json.loads(page.recv(timeout=60))
        if message["type"] == kind:
            return message


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _set(page: ClientConnection, rows: str) -> None:
    request = {
        "map": rows, "slippery": False, "methods": ["sft", "ift", "dpo", "orpo"], "protocol": "paper",
        "settings": {"seeds": 32, "steps": 20_000}, "numbers": {}, "shade": "distance",
    }  # fmt: skip
    _ask(page, "set", request=request)


def frames(quick: bool) -> list[Row]:
    """Frames a second as fast as they come, and the time from a lake that is drawn and played at once to its frame."""
    updates = 60 if quick else 200
    rows = []
    with _page() as (page, pid):
        _ask(page, "speed", updates=1000)
        _set(page, LAKES["ring"])  # the first lake after an installation waits until the kernels are compiled
        _hear(page, "frame")
        for name, lake in LAKES.items():
            begin = time.perf_counter()
            _set(page, lake)
            _ask(page, "play")
            _hear(page, "run")
            while _hear(page, "frame")["update"] < 1:
                pass
            first = time.perf_counter() - begin
            begin, cpu, last = time.perf_counter(), _cpu_seconds(pid), 0
            while last < updates:
                last = _hear(page, "frame")["update"]
            seconds, busy = time.perf_counter() - begin, _cpu_seconds(pid) - cpu
            shown = f"{last / seconds:.0f} frames/s, {1000 * busy / last:.0f} ms CPU each"
            rows.append(Row(f"page, frames, {name}", shown, "goal 20 frames/s", last / seconds / 20, 1))
            rows.append(Row(f"page, lake to first update, {name}", f"{first:.2f} s", "goal 1 s", 1 / first, 1))
            _ask(page, "pause")
    return rows


if __name__ == "__main__":
    run((frames,), tyro.cli(Options, prog="python -m bench.explore", description=__doc__))
