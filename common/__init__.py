"""The ground floor, of use to every command: result folders, resumable work, one `main`; it knows no method.

A command that is stopped while Python still imports it ends in one line: every package of commands imports this one
first. From then on `common.command.main` says how it ends.
"""

import os
import signal
import sys
from typing import Any


def stop_at_once(*_: Any) -> None:
    """End the process: for signals that come before a command has begun, or after it is done."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def on_signals(handler: Any) -> None:
    """Have `handler` answer what ends a command: Ctrl-C, SIGTERM, and SIGHUP unless `nohup` has it ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


if sys.argv[:1] == ["-m"]:  # so it reads while `python -m COMMAND` imports the packages that hold the command
    on_signals(stop_at_once)
