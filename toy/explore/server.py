"""The server of the page: its files, what it is built from, and a WebSocket for each open page.

It answers to its own address only. A request that names another host (as after DNS rebinding), and a WebSocket that a
page from elsewhere opens, are refused: no other page may drive it.
"""

import asyncio
import json
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.folders import finite
from toy.explore.catalogue import catalogue
from toy.explore.replay import template
from toy.explore.request import Request
from toy.explore.session import FASTEST, Message, Session

STATIC = Path(__file__).with_name("static")
MOST_SESSIONS = 8  # pages that may be open at a time
LONGEST_MESSAGE = 16_384  # bytes
_MOST_MESSAGES = 100  # of one page within a second
_FRAMES_WAITING = 2  # on their way to a page; older ones are dropped
_KINDS = ("set", "play", "pause", "step", "reset", "speed", "save")
_TRY_AGAIN_LATER = 1013  # close code of WebSockets

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class OwnAddressOnly:
    """Refuses requests to another host name, and WebSockets that a page from elsewhere opens; adds safe headers."""

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        foreign = origin not in self.origins and (origin is not None or scope["type"] == "websocket")
        if headers.get("host") not in self.hosts or foreign:
            if scope["type"] == "websocket":
                return await WebSocket(scope, receive, send).close(1008)
            return await PlainTextResponse("This server answers to its own page only.", 403)(scope, receive, send)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            await send(message)

        return await self.app(scope, receive, send_with_headers)


def make_app(port: int) -> Starlette:
    """The application that listens on a port."""
    sessions: set[Session] = set()

    async def page(_: Any) -> Response:
        return FileResponse(STATIC / "index.html")

    async def what_there_is(_: Any) -> Response:
        return JSONResponse(catalogue())

    async def replay(_: Any) -> Response:
        return Response(template(), media_type="text/html")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        sessions.difference_update([session for session in sessions if session.ended])
        if len(sessions) >= MOST_SESSIONS:
            line = f"{MOST_SESSIONS} pages are open already: close one of them, and load this one again"
            await websocket.send_json({"type": "refused", "message": line})
            return await websocket.close(_TRY_AGAIN_LATER)
        outbox = Outbox()
        session = Session(outbox.put)
        sessions.add(session)
        sender = asyncio.create_task(outbox.send_all(websocket))
        try:
            await _receive_all(websocket, session, outbox)
        finally:
            session.close()
            sender.cancel()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/catalogue", what_there_is),
            Route("/replay", replay),
            WebSocketRoute("/socket", socket),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(OwnAddressOnly, port=port)],
    )


class Outbox:
    """Messages on their way to a page: every message arrives but frames, of which old ones give way to new ones."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Message] = deque()
        self._some = asyncio.Event()

    def put(self, message: Message) -> None:
        """Add a message, from any thread."""
        with suppress(RuntimeError):  # the server has stopped: nobody listens
            self._loop.call_soon_threadsafe(self._put, message)

    def _put(self, message: Message) -> None:
        frames = [waiting for waiting in self._waiting if waiting["type"] == "frame"]
        if message["type"] == "frame" and len(frames) >= _FRAMES_WAITING:
            self._waiting.remove(frames[0])
        self._waiting.append(message)
        self._some.set()

    async def send_all(self, websocket: WebSocket) -> None:
        """Send what comes, one after the other, as fast as the page takes it."""
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await self._some.wait()
                while self._waiting:
                    await websocket.send_text(_as_json(self._waiting.popleft()))
                self._some.clear()


async def _receive_all(websocket: WebSocket, session: Session, outbox: Outbox) -> None:
    times: deque[float] = deque(maxlen=_MOST_MESSAGES)
    while True:
        received = await websocket.receive()
        if received["type"] == "websocket.disconnect":
            return
        try:
            now = time.monotonic()
            if len(times) == _MOST_MESSAGES and now - times[0] < 1:
                raise ValueError(f"message: more than {_MOST_MESSAGES} came within a second, send them more slowly")
            times.append(now)
            message = read_message(received.get("text"))
        except ValueError as error:
            message = {"type": "refuse", "message": str(error)}  # by the session, so that answers keep their order
        try:
            session.tell(message)
        except ValueError as error:
            outbox.put({"type": "refused", "message": str(error)})


def read_message(text: str | None) -> Message:
    """A page's message, checked; raises `ValueError` that names what is wrong with it."""
    if text is None:
        raise ValueError("message must be text, got bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("message must be JSON") from None
    if not isinstance(data, dict) or data.get("type") not in _KINDS:
        raise ValueError(f"message must be an object whose type is one of {', '.join(_KINDS)}")
    if data["type"] == "set":
        return {"type": "set", "request": Request.of(data.get("request"))}
    if data["type"] == "speed":
        updates = data.get("updates")
        if isinstance(updates, bool) or not isinstance(updates, int | float) or not 1 <= updates <= FASTEST:
            raise ValueError(f"speed must be 1 to {FASTEST} updates a second")
        return {"type": "speed", "updates": float(updates)}
    return {"type": data["type"]}


def _as_json(message: Message) -> str:
    try:
        return json.dumps(message, allow_nan=False)
    except ValueError:  # rare, as runs that broke are left out
        return json.dumps(finite(message))
