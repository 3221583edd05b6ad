"""The ASGI side of one reply: bytes go out without a task switch, and a leaving client is noticed.

Theory of operation
-------------------
`send()` of a server with room in its buffer finishes without waiting, so it is stepped by hand from inside the
upstream's read callback: no task is woken per token. When it does wait (the client is slow) a task finishes it, later
messages queue behind it, and the caller is told to pause the upstream.

uvicorn says nothing when a client leaves: `send()` silently does nothing. The only word is `http.disconnect` from
`receive()`, which is therefore watched from before the first attempt, stepped by hand as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping
from typing import Any

from proxy.api.client import BaseClient
from proxy.api.errors import Dialect
from proxy.api.stepped import Stepped
from proxy.caller import FixedHeaders
from proxy.upstream.base import RawHeaders

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiClient(BaseClient):
    """The relay's `Client` over one ASGI request."""

    __slots__ = ("_catching_up", "_queue", "_receive", "_send", "_watch")

    def __init__(self, receive: Receive, send: Send, dialect: Dialect, request_id: str) -> None:
        super().__init__(dialect, request_id)
        self._receive = receive
        self._send = send
        self._queue: deque[Message] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._watch: Stepped | None = None

    # the relay's side

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        self.started = True
        named = [*headers, *fixed, (b"x-request-id", self.name.encode("latin-1"))]
        self._step({"type": "http.response.start", "status": status, "headers": named})

    def write(self, data: bytes) -> bool:
        return self._step({"type": "http.response.body", "body": data, "more_body": True})

    def end(self, data: bytes = b"") -> None:
        self.unwatch()
        self._step({"type": "http.response.body", "body": data, "more_body": False})

    # the server's side

    def watch(self) -> None:
        """Begin to listen for the client's leaving; the request's body must have been read."""
        self._watch = watch = Stepped(self._receive(), self._received)
        watch.step()

    def unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def drained(self) -> None:
        """Wait until queued messages are sent: the server wants its `send()`s done before the application returns."""
        if self._catching_up is not None:
            await self._catching_up

    def _received(self, message: Message) -> None:
        if message["type"] != "http.disconnect":
            self.watch()
            return
        self._watch = None
        self._lost()

    def _step(self, message: Message) -> bool:
        if self._queue is not None:
            self._queue.append(message)
            return False
        sending = self._send(message)
        try:
            waits_for = sending.send(None)  # type: ignore[attr-defined]
        except StopIteration:
            return True
        self._queue = deque()
        resumed = _Resumed(sending, waits_for)  # type: ignore[arg-type]
        self._catching_up = asyncio.get_running_loop().create_task(self._catch_up(resumed))
        return False

    async def _catch_up(self, sending: _Resumed) -> None:
        assert self._queue is not None
        await sending
        while self._queue:
            await self._send(self._queue.popleft())
        self._queue = self._catching_up = None
        if self.listener is not None:
            self.listener.on_client_ready()


class _Resumed:
    """Awaits a coroutine that has been stepped once and has yielded `waits_for`."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001  what is thrown into the task belongs to the coroutine
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(None)
        except StopIteration as stop:
            return stop.value
