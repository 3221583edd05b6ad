"""A reply written straight to uvicorn's connection: the fast path under our own protocol class.

Theory of operation
-------------------
ASGI's `send()` checks every header with two regular expressions and makes three Python calls per token; `receive()`
makes an event wait for each. `GuardedProtocol` offers a `DirectClient` instead: the body is there when the request is
whole, a leaving client is a callback, and a token is one `transport.write()`. uvicorn still owns the connection, so its
bookkeeping for the request (`RequestResponseCycle`) is kept as its own `send()` would keep it; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from proxy.api.client import BaseClient
from proxy.api.errors import Dialect
from proxy.upstream.base import RawHeaders

if TYPE_CHECKING:
    from proxy.api.server import GuardedProtocol

_LENGTH = b"content-length"


class DirectClient(BaseClient):
    """The relay's `Client` on one request of one uvicorn connection."""

    __slots__ = ("_chunked", "_cycle", "_head", "_protocol")

    def __init__(
        self, protocol: GuardedProtocol, cycle: RequestResponseCycle, dialect: Dialect, request_id: str
    ) -> None:
        super().__init__(dialect, request_id)
        self._protocol = protocol
        self._cycle = cycle
        self._chunked = True
        self._head = b""
        self.left = cycle.disconnected

    def start(self, status: int, headers: RawHeaders) -> None:
        self.started = True
        cycle = self._cycle
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        for name, value in cycle.default_headers:
            lines.append(b"%b: %b\r\n" % (name, value))
        for name, value in headers:
            if name == _LENGTH:
                self._chunked = False
            lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(b"x-request-id: %b\r\n" % self._request_id.encode("latin-1"))
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        # uvloop writes at once: kept for the body that follows at once, the head costs no write of its own.
        self._head = b"".join(lines)

    def write(self, data: bytes) -> bool:
        return self._put(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, data: bytes = b"") -> None:
        if not self._chunked:
            self._put(data)
        elif data:
            self._put(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            self._put(b"0\r\n\r\n")
        cycle = self._cycle
        self._protocol.forget(self)
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive and not cycle.disconnected:
            self._protocol.transport.close()
        cycle.on_response()

    def on_ready(self) -> None:
        """The connection takes more again."""
        if self.listener is not None:
            self.listener.on_client_ready()

    def on_lost(self) -> None:
        """The connection is gone."""
        self._lost()

    def _put(self, data: bytes) -> bool:
        if self._cycle.disconnected:
            return True
        if self._head:
            data, self._head = self._head + data, b""
        self._protocol.transport.write(data)
        return not self._protocol.flow.write_paused
