"""Calls a command in the process of the tests, as a user calls it in one of its own."""

import sys


def exit_code(main, monkeypatch, arguments):
    """The exit code of a command's `main` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    try:
        main()
    except SystemExit as stopped:
        return stopped.code
    return 0
