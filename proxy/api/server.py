"""uvicorn's HTTP protocol with the limits that it lacks: header size, receiving deadlines, stalled readers.

Theory of operation
-------------------
Measured on uvicorn 0.54 (reliability report, A1): a connection that sends nothing, or two bytes a second, stays open
for ever; a 4 MB header is accepted; a client that stops reading blocks `send()` for ever; and a malformed request gets
plain text. This subclass of `HttpToolsProtocol` adds the limits, kept by the one sweep of `deadlines.py`, and answers
in JSON. It leans on the names of uvicorn's methods, which is why uvicorn's minor version is pinned.

Clients that offer an upgrade to HTTP/2 with every request (Java's, curl's) lose their body there: httptools takes what
follows for another protocol. Nobody has to accept an offer (RFC 9110, section 7.8), so the head is read once more
without it.

A server that leaves says so in every reply (`Connection: close`, RFC 9112, section 9.6), which is the only way to close
a connection that no request can be lost by. Others are closed once they are idle, and what they still bring is served.
"""

from __future__ import annotations

import asyncio
import select
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.api.direct import DirectClient
from proxy.api.errors import dialect_at
from proxy.api.openai import ROUTED, DataPort
from proxy.api.request import request_id
from proxy.deadlines import Deadlines
from proxy.routing.plan import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingLimits:
    """What a client may take. A body may take `head_s` plus one second for every `body_bytes_per_s` of it."""

    header_bytes: int = 16 * 1024
    head_s: float = 10.0
    body_bytes_per_s: int = 256 * 1024
    stalled_s: float = 30.0


class Leaving:
    """How far a server is with leaving; all of its connections look here."""

    __slots__ = ("announced", "idle_s")

    def __init__(self) -> None:
        self.announced = False
        """Whether each reply says that it is the last one of its connection."""
        self.idle_s: float | None = None
        """Connections are closed that were idle, or silent from their start, for so long; None: uvicorn's setting."""


def guarded_protocol(
    deadlines: Deadlines, limits: ReceivingLimits, port: DataPort | None = None, leaving: Leaving | None = None
) -> type[HttpToolsProtocol]:
    """A protocol class for `uvicorn.Config(http=...)`; uvicorn builds one object of it per connection.

    With a `port`, its routed endpoints are served without ASGI.
    """
    stage = Leaving() if leaving is None else leaving

    class Guarded(GuardedProtocol):
        _deadlines = deadlines
        _limits = limits
        _port = port
        leaving = stage

    return Guarded


class GuardedProtocol(HttpToolsProtocol):
    """See the module's text; use `guarded_protocol()`."""

    _deadlines: Deadlines
    _limits: ReceivingLimits
    _port: DataPort | None
    leaving: Leaving
    url = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._received = 0
        self._receiving_since: float | None = None
        self._stalled_since: float | None = None
        self._idle_since: float | None = None
        self._refusal: Refusal | None = None
        self._direct: DirectClient | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receiving_since = time.monotonic()
        self._deadlines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.discard(self)
        super().connection_lost(exc)
        direct, self._direct = self._direct, None
        if direct is not None:
            # The two know each other, and would wait for a full collection.
            self.cycle = None  # type: ignore[assignment]
            if not direct.response_complete:
                direct.on_lost()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._idle_since = None
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._feed(data)
        if self._in_head and self._received > self._limits.header_bytes:
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._receiving_since = time.monotonic()
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._received > self._limits.header_bytes and self._head_size() > self._limits.header_bytes:
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("headers too large")
        if self.parser.should_upgrade():
            return
        posts = self.parser.get_method() == b"POST"
        endpoint = ROUTED.get(self.url) or ROUTED.get(self.url.partition(b"?")[0])
        if self._port is None or endpoint is None or self._answering() or self.expect_100_continue or not posts:
            self._through_asgi()
            return
        version = self.parser.get_http_version()
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self._direct = DirectClient(self, endpoint, self.headers, version, keep_alive=keep_alive)
        self.cycle = self._direct  # type: ignore[assignment]
        self._port.opened(self._direct)

    def on_body(self, body: bytes) -> None:
        direct = self._direct
        if direct is None:
            super().on_body(body)
        elif not direct.response_complete:
            direct.body.append(body)
            direct.size += len(body)
            if self._port is not None and direct.size > self._port.max_body_bytes:
                self._port.refuse_size(direct)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._receiving_since = None
        self._received = 0
        direct = self._direct
        if direct is None:
            super().on_message_complete()
        elif self._port is not None and not direct.response_complete:
            self._port.begin(direct)

    def on_response_complete(self) -> None:
        if self.pipeline or self._port is None:
            super().on_response_complete()
            return
        # As uvicorn does it, less a timer per request: the sweep closes idle connections.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._idle_since = time.monotonic()
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        self._stalled_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()
        if self._direct is not None:
            self._direct.on_ready()

    def check(self, now: float) -> None:
        """The sweep: cut whoever takes too long to ask, or to listen."""
        limits = self._limits
        if self._stalled_since is not None and now - self._stalled_since > limits.stalled_s:
            self.transport.abort()
        elif self._receiving_since is not None:
            allowed_s = limits.head_s + self._received / limits.body_bytes_per_s
            if now - self._receiving_since > allowed_s:
                self._refuse(_TOO_SLOW)
            elif self.leaving.idle_s is not None and not self._received:
                self._close_idle(now - self._receiving_since)
        elif self._idle_since is not None:
            self._close_idle(now - self._idle_since)

    def _close_idle(self, idle_s: float) -> None:
        leaving_s = self.leaving.idle_s
        # What a client has sent by now is served: it waits to be read while the loop is busy with others.
        if idle_s > (self.timeout_keep_alive if leaving_s is None else leaving_s) and not _readable(self.transport):
            self.transport.close()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._feed(self._declined() + data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or _MALFORMED)

    def _declined(self) -> bytes:
        """The head once more without the offer of an upgrade, for a new parser."""
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        if len(kept) == len(self.headers):
            return b"\0"  # CONNECT, which is nothing but an upgrade: no parser takes this
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([line, *[b"%b: %b" % header for header in kept], b"", b""])

    def _through_asgi(self) -> None:
        """The way of everything that is not routed: uvicorn's own, from the beginning of the message."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        self._direct = None
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        if self.leaving.announced:
            self.cycle.keep_alive = False

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer outside any request cycle, and close; nothing is said to a client that is being answered already."""
        self._receiving_since = None
        answered = self._answering() if self._in_head else self.cycle is not None and self.cycle.response_started
        self._in_head = False
        if self.transport.is_closing():
            return
        if not answered:
            self.transport.write(_render(refusal, self.url.decode("latin-1")))
        self.transport.close()

    def _answering(self) -> bool:
        """Whether an earlier request of this connection is being answered: nothing may be written in between."""
        return self.cycle is not None and not self.cycle.response_complete


def _readable(transport: asyncio.Transport) -> bool:
    """Whether something has arrived that the loop has not come to read yet."""
    arrived = select.poll()
    arrived.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(arrived.poll(0))


def _render(refusal: Refusal, path: str) -> bytes:
    name, dialect = request_id({}), dialect_at(path)
    body = dialect.body(refusal, name)
    lines = [b"HTTP/1.1 %d %b" % (refusal.status, HTTPStatus(refusal.status).phrase.encode())]
    lines += [b"%b: %b" % header for header in dialect.headers(refusal)]
    lines += [b"x-request-id: " + name.encode(), b"content-length: %d" % len(body), b"connection: close", b"", body]
    return b"\r\n".join(lines)


def _refusal(status: int, code: str, message: str) -> Refusal:
    return Refusal(status=status, code=code, message=message, rule="guard")


_HEAD_TOO_LARGE = _refusal(431, "headers_too_large", "the request line and headers are too large")
_MALFORMED = _refusal(400, "malformed_request", "the request is not valid HTTP")
_TOO_SLOW = _refusal(408, "request_timeout", "the request took too long to arrive")
