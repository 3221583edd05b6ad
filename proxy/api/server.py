"""uvicorn's HTTP protocol with the limits that it lacks: header size, receiving deadlines, stalled readers.

Theory of operation
-------------------
Measured on uvicorn 0.54 (reliability report, A1): a connection that sends nothing, or two bytes a second, stays open
for ever; a 4 MB header is accepted; a client that stops reading blocks `send()` for ever; and a malformed request gets
plain text. This subclass of `HttpToolsProtocol` adds the limits, kept by the one sweep of `deadlines.py`, and answers
in JSON. It leans on the names of uvicorn's methods, which is why uvicorn's minor version is pinned.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.api.direct import DirectClient
from proxy.api.errors import OPENAI, Dialect
from proxy.api.request import request_id
from proxy.deadlines import Deadlines
from proxy.routing.plan import Refusal

EXTENSION = "spillway.direct"
"""The ASGI extension under which a request finds its `(protocol, cycle)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingLimits:
    """What a client may take. A body may take `head_s` plus one second for every `body_bytes_per_s` of it."""

    header_bytes: int = 16 * 1024
    head_s: float = 10.0
    body_bytes_per_s: int = 256 * 1024
    stalled_s: float = 30.0


def guarded_protocol(deadlines: Deadlines, limits: ReceivingLimits) -> type[HttpToolsProtocol]:
    """A protocol class for `uvicorn.Config(http=...)`; uvicorn builds one object of it per connection."""

    class Guarded(GuardedProtocol):
        _deadlines = deadlines
        _limits = limits

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """See the module's text; use `guarded_protocol()`."""

    _deadlines: Deadlines
    _limits: ReceivingLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._received = 0
        self._receiving_since: float | None = None
        self._stalled_since: float | None = None
        self._refusal: Refusal | None = None
        self._direct: list[DirectClient] = []

    def direct_client(self, cycle: RequestResponseCycle, dialect: Dialect, request_id: str) -> DirectClient:
        """The way to answer one request of this connection without going through ASGI."""
        client = DirectClient(self, cycle, dialect, request_id)
        self._direct.append(client)
        return client

    def forget(self, client: DirectClient) -> None:
        """The client has been answered."""
        if client in self._direct:
            self._direct.remove(client)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receiving_since = time.monotonic()
        self._deadlines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.discard(self)
        super().connection_lost(exc)
        lost, self._direct = self._direct, []
        for client in lost:
            client.on_lost()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > self._limits.header_bytes:
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._receiving_since = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._received > self._limits.header_bytes and self._head_size() > self._limits.header_bytes:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("headers too large")
        super().on_headers_complete()
        self.scope["extensions"] = {EXTENSION: (self, self.cycle)}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        self._receiving_since = None
        self._received = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._stalled_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()
        for client in tuple(self._direct):
            client.on_ready()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or _MALFORMED)

    def check(self, now: float) -> None:
        """The sweep: cut whoever takes too long to ask, or to listen."""
        limits = self._limits
        if self._stalled_since is not None and now - self._stalled_since > limits.stalled_s:
            self.transport.abort()
        elif self._receiving_since is not None:
            allowed_s = limits.head_s + self._received / limits.body_bytes_per_s
            if now - self._receiving_since > allowed_s:
                self._refuse(_TOO_SLOW)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer outside any request cycle, and close; nothing is said to a client that is being answered already."""
        self._receiving_since = None
        self._in_head = False
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            self.transport.write(_render(refusal))
        self.transport.close()


def _render(refusal: Refusal) -> bytes:
    name = request_id({})
    body = OPENAI.body(refusal, name)
    lines = [b"HTTP/1.1 %d %b" % (refusal.status, HTTPStatus(refusal.status).phrase.encode())]
    lines += [b"%b: %b" % header for header in OPENAI.headers(refusal)]
    lines += [b"x-request-id: " + name.encode(), b"content-length: %d" % len(body), b"connection: close", b"", body]
    return b"\r\n".join(lines)


def _refusal(status: int, code: str, message: str) -> Refusal:
    return Refusal(status=status, code=code, message=message, rule="guard")


_HEAD_TOO_LARGE = _refusal(431, "headers_too_large", "the request line and headers are too large")
_MALFORMED = _refusal(400, "malformed_request", "the request is not valid HTTP")
_TOO_SLOW = _refusal(408, "request_timeout", "the request took too long to arrive")
