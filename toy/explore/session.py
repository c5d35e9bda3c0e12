"""One page's training: a thread that owns its run, takes messages from the page and hands frames back."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console

from toy.explore.request import LARGEST, Request

Message = dict[str, Any]
_WAITING = 64  # messages that may wait for the thread
FASTEST = 1000  # updates a second that a page may ask for


class Session:
    """The run of one page. `send` is called from the session's thread with what the page should be told.

    Messages are dictionaries with a `type`: `set` (a checked `Request`), `play`, `pause`, `step`, `reset`, `speed`,
    `save` and `refuse` (a line to answer with); the page is sent `run`, `frame`, `state`, `refused` and `saved`.
    """

    def __init__(self, send: Callable[[Message], None]):
        self._send = send
        self._inbox: queue.Queue[Message] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._run: Any = None  # toy.explore.training.Run, imported by the thread: PyTorch takes a while
        self._playing = False
        self._stop_at = 0
        self._interval = 1 / 20  # seconds from one update to the next
        self._thread = threading.Thread(target=self._work, name="session", daemon=True)
        self._thread.start()

    def tell(self, message: Message) -> None:
        """Hand the session a message; raises `ValueError` if too many are waiting."""
        try:
            self._inbox.put_nowait(message)
        except queue.Full:
            raise ValueError(f"message: more than {_WAITING} are waiting, send them more slowly") from None

    def close(self) -> None:
        """Stop the training; returns at once."""
        self._closed.set()
        with suppress(queue.Full):  # wakes a thread that waits for a message
            self._inbox.put_nowait({"type": "pause"})

    @property
    def ended(self) -> bool:
        """Whether the thread has come to its end."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        due = time.monotonic()
        while not self._closed.is_set():
            wait = max(0.0, due - time.monotonic()) if self._playing else 0.2
            try:
                message = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                message = None
            try:
                if self._closed.is_set():
                    break
                if message is not None:
                    self._handle(message)
                elif self._playing:
                    due = max(due + self._interval, time.monotonic())
                    self._advance()
            except ValueError as error:
                self._send({"type": "refused", "message": str(error)})
            except Exception as error:  # one page's trouble is told to that page and ends nobody else's run
                self._playing = False
                self._send({"type": "refused", "message": f"the training failed: {type(error).__name__}: {error}"})
                self._send_state()
        if self._run is not None:
            self._run.close()

    def _handle(self, message: Message) -> None:
        kind = message["type"]
        if kind == "set":
            self._set(message["request"])
        elif kind == "refuse":
            raise ValueError(message["message"])
        elif kind == "speed":
            self._interval = 1 / message["updates"]
        elif self._run is None:
            raise ValueError(f"{kind}: there is no lake yet, send set first")
        elif kind == "play":
            if self._run.update >= self._stop_at:  # it has come to its end: as many updates again
                self._stop_at = self._run.update + self._run.request.all_settings.steps
            self._stop_at = min(self._stop_at, int(LARGEST["steps"]))
            self._play(True)
        elif kind == "pause":
            self._play(False)
        elif kind == "step":
            self._play(False)
            self._advance()
        elif kind == "reset":
            self._playing = False
            self._begin(self._run.request)
        elif kind == "save":
            self._play(False)
            self._save()

    def _set(self, request: Request) -> None:
        """Go on with the request where the run can, else begin anew; the run stays as it was if it is refused."""
        from toy.explore.frames import describe, measure

        if self._run is None or request.needs_new_start(self._run.request):
            return self._begin(request)
        if not self._run.update and not request.same_lake(self._run.request):
            return self._begin(request)  # nothing has been trained: the start policies are those of the new lake
        self._run.change(request)
        self._stop_at = max(self._stop_at, request.all_settings.steps) if self._playing else request.all_settings.steps
        self._send({"type": "run", "anew": False, **describe(self._run)})
        self._send({"type": "frame", **measure(self._run)})
        return None

    def _begin(self, request: Request) -> None:
        from toy.explore.frames import describe, measure
        from toy.explore.training import Run

        self._send({"type": "state", "state": "preparing", "update": 0})
        try:
            run = Run(request)
        except ValueError:
            self._send_state()
            raise
        if self._run is not None:
            self._run.close()
        self._run, self._stop_at = run, request.all_settings.steps
        self._send({"type": "run", "anew": True, **describe(run)})
        self._send({"type": "frame", **measure(run)})
        self._send_state()

    def _advance(self) -> None:
        from toy.explore.frames import measure

        if self._run.update >= LARGEST["steps"]:
            self._play(False)
            raise ValueError(f"a run makes at most {LARGEST['steps']} updates: reset it, or take larger steps")
        self._run.advance()
        self._send({"type": "frame", **measure(self._run)})
        if self._playing and self._run.update >= self._stop_at:
            self._play(False)

    def _play(self, playing: bool) -> None:
        self._playing = playing
        self._send_state()

    def _send_state(self) -> None:
        update = self._run.update if self._run is not None else 0
        self._send({"type": "state", "state": "playing" if self._playing else "paused", "update": update})

    def _save(self) -> None:
        """Run the command that the page shows, from the start: the folder is the command's own."""
        from toy.frozenlake import parse_command, run

        self._send({"type": "state", "state": "saving", "update": self._run.update})
        request = self._run.request
        updates = self._run.update or request.all_settings.steps
        try:
            folder = run(parse_command([*request.arguments, "--steps", str(updates)]), Console(quiet=True))
        finally:
            self._send_state()
        self._send({"type": "saved", "folder": str(folder), "changed": self._run.changed})
