"""One keep-alive HTTP/1.1 connection to an upstream: bytes out, `Sink` calls in.

Theory of operation
-------------------
An `asyncio.Protocol` around httptools' response parser. What one read delivered is handed over in one `on_data`, then
`on_end`; nothing waits to be batched and nothing wakes a task. The replies of one connection are strictly sequential:
`send()` is only called on an idle connection. The connection goes back to its pool when a reply ends cleanly and both
sides want to keep it; any surprise closes it.

A reused connection may have been closed by the upstream the moment we wrote to it (vLLM closes after 5 s idle). When it
dies before a single byte of reply, `on_stale` lets the pool send the same bytes again on a new connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from proxy.upstream.base import Head, RawHeaders, Sink
from proxy.upstream.errors import ConnectionBroken, ProtocolViolated

STALE_S = 1.0
"""A connection that dies later than this after a request was written was not closed for being idle."""
MAX_HEADER_BYTES = 64 * 1024


class Owner(Protocol):
    """What a connection tells its pool."""

    def on_idle(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """See the module's text. `idle_since` is the pool's note of when the connection was last used."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sink: Sink | None = None
        self._on_stale: Callable[[], None] | None = None
        self._closed: Callable[[], None] | None = None
        self._sent_at = 0.0
        self._headers: RawHeaders = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._answered = False
        self._until_close = False
        self._heading = False
        self._heading_bytes = 0
        self._complete = False
        self._keep_alive = False
        self._paused = False
        self.reused = False
        self.idle_since = 0.0

    # the pool's side

    def send(self, data: bytes, sink: Sink, on_stale: Callable[[], None] | None) -> None:
        """Write one request. `on_stale` is called instead of the sink if a reused connection proves to be dead."""
        assert self._transport is not None
        self._sink = sink
        self._on_stale = on_stale
        self._sent_at = time.monotonic()
        self._answered = self._complete = self._until_close = False
        self._heading = True
        self._heading_bytes = 0
        self._transport.write(data)

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def serves(self, sink: Sink) -> bool:
        """Whether the exchange in progress is this sink's; a connection outlives the exchanges it carries."""
        return self._sink is sink

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def abort(self, closed: Callable[[], None] | None = None) -> None:
        """Close at once, unread bytes and all; the sink hears nothing more. `closed` is called when that is done."""
        self._sink = self._on_stale = None
        if self._transport is not None:
            self._closed = closed or self._closed
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._sink is None:
            # Nothing was asked: an unsolicited byte means the two sides no longer agree where a reply starts.
            self._close()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep_alive = False
            self._deliver()
            self._fail(ProtocolViolated(f"unreadable reply: {type(error).__name__}"))
            return
        if self._heading:
            # The parser keeps an unfinished line to itself, however long.
            self._heading_bytes += len(data)
            if self._heading_bytes > MAX_HEADER_BYTES:
                self._fail(ProtocolViolated(f"more than {MAX_HEADER_BYTES} bytes of headers"))
            return
        self._deliver()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.on_closed(self)
        self._transport = None
        if self._closed is not None:
            self._closed()
            self._closed = None
        sink, stale = self._sink, self._on_stale
        self._sink = self._on_stale = None
        if sink is None:
            return
        if not self._answered and stale is not None and time.monotonic() - self._sent_at < STALE_S:
            stale()
        elif self._until_close and exc is None:
            sink.on_end()
        else:
            sink.on_failure(ConnectionBroken("closed before the reply was complete"))

    # httptools' side

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Unsolicited
        self._headers = []
        self._header_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise _HeadersTooLarge
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._heading = False
        head = Head(status, self._headers)
        # RFC 9112, 6.3: with neither a length nor chunks, the reply ends where the connection does.
        names = [name for name, _ in self._headers]
        framed = b"content-length" in names or b"transfer-encoding" in names
        self._until_close = not framed and status not in (204, 304)
        if self._sink is not None:
            self._sink.on_head(head)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self._complete = True
            # The parser forgets with the end of its callback.
            self._keep_alive = self._parser.should_keep_alive() and not self._until_close

    def _deliver(self) -> None:
        """Hand over what one read brought. The sink may abort us from inside any call."""
        if self._body and self._sink is not None:
            data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body.clear()
            self._sink.on_data(data)
        self._body.clear()
        if self._complete and self._sink is not None:
            self._finish()

    def _finish(self) -> None:
        sink = self._sink
        self._sink = self._on_stale = None
        if self._keep_alive:
            if self._paused:
                self.resume()
            self.reused = True
            self._owner.on_idle(self)
        else:
            self._close()
        if sink is not None:
            sink.on_end()

    def _fail(self, error: ProtocolViolated) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.on_failure(error)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _HeadersTooLarge(Exception):
    """The reply's headers grew past `MAX_HEADER_BYTES`."""


class _Unsolicited(Exception):
    """A second reply to one request: the first one stands, the connection does not."""
