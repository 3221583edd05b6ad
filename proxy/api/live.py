"""`GET /admin/live`: the live view as JSON, or as server-sent events to whoever accepts these.

Theory of operation
-------------------
An event is the whole view, so a client that missed some has lost nothing but time, and a new one needs no other call.
There is one event per tick, the same bytes for all who listen. `id:` counts events of this connection, `retry:` says
how soon to come back (WHATWG HTML, section 9.2). The events are their own heartbeat: a client that hears nothing for
some seconds has lost the proxy.

Who reads slowly is sent the view of the moment when there is room again; who does not read at all is cut by the guard
of the port. More than `MAX_LISTENERS` are refused: they share one event loop with the requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

MAX_LISTENERS = 32
RETRY_MS = 1000
EVENTS = "text/event-stream"
_FULL = {"message": f"{MAX_LISTENERS} listeners are enough", "code": "too_many_listeners"}


class Ticking(Protocol):
    """What `live.board.Board` is."""

    def view(self) -> bytes:
        """The view of this moment, as JSON."""
        ...

    async def freshened(self) -> bytes:
        """The same for somebody who has just come."""
        ...

    async def next(self) -> bool:
        """Wait for the next tick; False when there are no more."""
        ...


class LiveFeed:
    """The endpoint."""

    def __init__(self, board: Ticking) -> None:
        self._board = board
        self.listeners = 0

    async def answer(self, request: Request) -> Response:
        """The view, or a stream of it."""
        if request.method == "HEAD" or not wants_events(request.headers.get("accept", "")):
            return Response(await self._board.freshened(), media_type="application/json")
        if self.listeners >= MAX_LISTENERS:
            return Response(msgspec.json.encode({"error": _FULL}), 503, media_type="application/json")
        return StreamingResponse(self._events(), media_type=EVENTS, headers={"x-accel-buffering": "no"})

    async def _events(self) -> AsyncIterator[bytes]:
        if self.listeners >= MAX_LISTENERS:
            return  # others came between the question and here; the client will come back
        self.listeners += 1
        try:
            view, number = await self._board.freshened(), 1
            yield b"retry: %d\n" % RETRY_MS
            while True:
                yield b"id: %d\ndata: %b\n\n" % (number, view)
                if not await self._board.next():
                    return
                view, number = self._board.view(), number + 1
        finally:
            self.listeners -= 1


def wants_events(accept: str) -> bool:
    """Whether an `Accept` header names server-sent events."""
    return any(one.partition(";")[0].strip().lower() == EVENTS for one in accept.split(","))
