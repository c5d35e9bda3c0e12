"""A server of the page in a thread, for tests that speak to it as a browser does."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from websockets.sync.client import connect

from toy.explore.server import LONGEST_MESSAGE, make_app

LAKE = {
    "map": "SFF/FHF/FFG", "slippery": False, "methods": ["sft", "ift"], "protocol": "adam",
    "settings": {"seeds": 3, "steps": 6}, "numbers": {}, "shade": "distance",
}  # fmt: skip


class Page:
    """A page as the server sees it."""

    def __init__(self, connection):
        self.connection = connection

    def send(self, kind, **more):
        self.connection.send(json.dumps({"type": kind, **more}))

    def ask(self, **changes):
        self.send("speed", updates=1000)
        self.send("set", request={**LAKE, **changes})

    def hear(self, *kinds, until=lambda message: True, timeout=20):
        """The next message of one of these kinds for which `until` holds."""
        end = time.monotonic() + timeout
        while True:
            message = json.loads(self.connection.recv(timeout=max(0.01, end - time.monotonic())))
            if message["type"] in kinds and until(message):
                return message

    def frame(self, update):
        return self.hear("frame", until=lambda message: message["update"] == update)


@pytest.fixture(scope="session")
def server():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        app = uvicorn.Server(
            uvicorn.Config(make_app(port), log_level="warning", ws="websockets-sansio", ws_max_size=LONGEST_MESSAGE,
                           lifespan="off", timeout_graceful_shutdown=1)
        )  # fmt: skip
        thread = threading.Thread(target=app.run, kwargs={"sockets": [listening]})
        thread.start()
        yield port
        app.should_exit = True
        thread.join()


@pytest.fixture
def open_page(server):
    address = f"127.0.0.1:{server}"

    @contextmanager
    def open_one(origin=f"http://{address}"):
        with connect(f"ws://{address}/socket", origin=origin, max_queue=None) as connection:
            yield Page(connection)

    return open_one
