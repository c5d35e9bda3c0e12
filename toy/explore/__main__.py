"""Open a page in the browser on which one draws a lake and watches the methods train on it, side by side.

Examples:
  python -m toy.explore
  python -m toy.explore --preset adam
  python -m toy.explore --preset order --replay order.html    (a file that plays without a server)
  python -m toy.explore --method sft ift my_method.py:mine
"""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import tyro

from common.command import main as command_main
from common.command import parse
from ift import METHODS

_PROG = "python -m toy.explore"
_WARM_UP = "warming up"  # the name of a thread


@dataclass(frozen=True)
class Command:
    """Options of the page."""

    preset: str | None = None
    """What is shown first: order, adam, lambda, dpo or ties."""
    method: tuple[str, ...] = ()
    """Methods to show first in place of the preset's, also FILE.py:NAME of your own; the page lists all of them."""
    port: int = 8765
    """Port of the page on this machine; 0 takes a free one."""
    browser: tyro.conf.FlagCreatePairsOff[bool] = True
    """Whether the page is opened in the browser; with --no-browser its address is only printed."""
    replay: Path | None = None
    """Write a preset's training into this HTML file, which plays without a server, and open no page."""


def run(command: Command) -> None:
    """Write the replay, or serve the page until it is interrupted."""
    from toy.explore.catalogue import preset
    from toy.explore.request import Request

    chosen = preset(command.preset) if command.preset else None
    if command.method:
        methods = [METHODS.named_in(name) for name in command.method]
        methods = ["sft", *methods] if len(methods) == 1 and methods != ["sft"] else methods  # a page compares
        chosen = replace(chosen or preset("order"), methods=methods)
        Request.of(chosen.request)  # raises for what the page could not show
    if command.replay is not None:
        from toy.explore.replay import record

        record(chosen or preset("order"), command.replay)
        print(f"Written to {command.replay}")
        return
    if not 0 <= command.port <= 65_535:
        raise ValueError(f"port must be 0 to 65535, got {command.port}")
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", command.port))
        except OSError as error:
            raise ValueError(f"port {command.port} is taken or not allowed: give another --port") from error
        listening.listen()
        if command.method and chosen:
            _serve(listening, f"#{_fragment(chosen.request)}", command.browser)
        else:
            _serve(listening, f"#preset={chosen.name}" if chosen else "", command.browser)


def _fragment(request: Mapping[str, Any]) -> str:
    """The part of the address after "#" that asks for a request, as `state.js` has it."""
    words = [(name, request[name]) for name in ("map", "protocol", "shade")]
    words += [("slippery", "1")] if request["slippery"] else []
    words += [("method", name) for name in request["methods"]]
    return urlencode([*words, *request["settings"].items(), *request["numbers"].items()], safe="/:=")


def _serve(listening: socket.socket, fragment: str, open_browser: bool) -> None:
    import uvicorn

    from toy import kernels  # noqa: F401  # refuses what numba cannot read, before a thread does
    from toy.explore.server import LONGEST_MESSAGE, make_app

    port = listening.getsockname()[1]
    address = f"http://127.0.0.1:{port}/{fragment}"
    print(f"The lake is at {address} (Ctrl-C ends it)", flush=True)
    threading.Thread(target=_warm_up, name=_WARM_UP, daemon=True).start()
    if open_browser and not webbrowser.open(address):
        print("No browser could be opened: open the address above yourself.", file=sys.stderr)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(port), log_level="warning", ws="websockets-sansio", ws_max_size=LONGEST_MESSAGE, lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    server.run(sockets=[listening])


def _warm_up() -> None:
    """Import PyTorch and train a little while the browser starts, so that the first page does not wait for it."""
    import torch

    torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    from toy.explore.catalogue import preset
    from toy.explore.frames import measure
    from toy.explore.request import Request
    from toy.explore.training import Run

    methods = ["sft", "dpo", "dft"]  # one for each kind of kernel
    request = {**preset("ties").request, "methods": methods, "settings": {"seeds": 2, "optimizer": "sgd"}}
    run_ = Run(Request.of(request))
    run_.advance()
    measure(run_)
    run_.close()


def main() -> None:
    """Parse, run, and end as all commands do."""
    try:
        command_main(lambda: run(parse(Command, _PROG, __doc__)), "stopped")
    except SystemExit as stop:
        if any(thread.name == _WARM_UP for thread in threading.enumerate()):
            sys.stdout.flush()
            os._exit(int(stop.code or 0))  # else Python would end while that thread compiles, and crash
        raise


if __name__ == "__main__":
    main()
