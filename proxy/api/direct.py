"""One request served straight on uvicorn's connection, without ASGI: the fast path under our own protocol class.

Theory of operation
-------------------
ASGI costs a scope, a task and an event per request, two regular expressions per header and three Python calls per
token. `GuardedProtocol` makes a `DirectClient` instead when a routed request's head is there: the body comes to it in
callbacks, a leaving client is a callback, and a token is one `transport.write()`. uvicorn still owns the connection:
the client stands where its `RequestResponseCycle` would, under the same names, and keeps the same books. The replies
are the same to the byte on both paths; a test compares them.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from proxy.api.client import BaseClient
from proxy.api.errors import DIALECTS
from proxy.api.request import request_id
from proxy.caller import FixedHeaders
from proxy.policy.model import Endpoint, Key
from proxy.routing.decide import Router
from proxy.upstream.base import RawHeaders

if TYPE_CHECKING:
    from proxy.api.server import GuardedProtocol

_LENGTH = b"content-length"


@functools.lru_cache(maxsize=1024)
def _rendered(fixed: FixedHeaders) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in fixed])


class _NoEvent:
    """uvicorn wakes whoever awaits `receive()`; nobody does here."""

    def set(self) -> None: ...


class DirectClient(BaseClient):
    """The relay's `Client`, and uvicorn's cycle, for one request of one connection."""

    __slots__ = (
        "_chunked",
        "_head",
        "_protocol",
        "body",
        "disconnected",
        "endpoint",
        "fields",
        "headers",
        "http_version",
        "keep_alive",
        "key",
        "received_at",
        "response_complete",
        "response_started",
        "router",
        "size",
    )

    message_event = _NoEvent()

    def __init__(
        self, protocol: GuardedProtocol, endpoint: Endpoint, headers: RawHeaders, http_version: str, *, keep_alive: bool
    ) -> None:
        self.fields = dict(headers)
        super().__init__(DIALECTS[endpoint], request_id(self.fields))
        self.endpoint = endpoint
        self.headers = headers
        self.http_version = http_version
        self.received_at = time.monotonic()
        self.router: Router | None = None
        self.key: Key | None = None
        self.body: list[bytes] = []
        self.size = 0
        self._protocol = protocol
        self._chunked = http_version != "1.0"
        self._head = b""
        self.keep_alive = keep_alive
        self.disconnected = self.response_started = self.response_complete = False

    # the relay's side

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        self.started = self.response_started = True
        lines = [STATUS_LINE[status], _rendered(fixed)]
        for name, value in self._protocol.server_state.default_headers:
            lines.append(b"%b: %b\r\n" % (name, value))
        for name, value in headers:
            if name == _LENGTH:
                self._chunked = False
            lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(b"x-request-id: %b\r\n" % self.name.encode("latin-1"))
        if self._protocol.leaving.announced:
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"transfer-encoding: chunked\r\n\r\n" if self._chunked else b"\r\n")
        # uvloop writes at once: kept for the body that follows at once, the head costs no write of its own.
        self._head = b"".join(lines)

    def write(self, data: bytes) -> bool:
        return self._put(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        if not self._chunked:
            self._put(data)
        elif data:
            self._put(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            self._put(b"0\r\n\r\n")
        self.response_complete = True
        # A connection may stay idle for longer than many policies are served.
        self.router = None
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()

    # the connection's side

    def on_ready(self) -> None:
        """The connection takes more again."""
        if self.listener is not None:
            self.listener.on_client_ready()

    def on_lost(self) -> None:
        """The connection is gone."""
        self._lost()

    def _put(self, data: bytes) -> bool:
        if self.disconnected:
            return True
        if self._head:
            data, self._head = self._head + data, b""
        self._protocol.transport.write(data)
        return not self._protocol.flow.write_paused
