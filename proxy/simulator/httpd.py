"""The simulators' HTTP/1.1 server: callbacks on `asyncio.Protocol` and httptools, no task per request.

Theory of operation
-------------------
A handler gets a `Request` and an `Exchange` and returns at once; it answers through the exchange now or later, whole or
in chunks. Reading never stops, so a peer that leaves is noticed by the next turn of the event loop, which is what tests
of disconnects measure; `Exchange.on_leave` is called then, once, and only while the answer is not complete. Requests
that a peer pipelines wait for the one before them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

import httptools

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One complete request; header names are lower-case, `path` has no query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Exchange:
    """The answering side of one request. Once the peer has left, or the answer is complete, writing does nothing."""

    __slots__ = ("_chunked", "_connection", "on_leave")

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection
        self._chunked = False
        self.on_leave: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether the peer is there and still waits for something."""
        return self._connection is not None

    def reply(self, status: int, content_type: str, body: bytes, headers: Headers = ()) -> None:
        """Send a whole answer."""
        if self._connection is not None:
            self._connection.send_head(status, content_type, (*headers, ("content-length", str(len(body)))), body)
            self._complete()

    def start(self, status: int, content_type: str, headers: Headers = ()) -> None:
        """Send the head of an answer whose length is not known; `send` and `end` follow."""
        if self._connection is not None:
            self._chunked = True
            self._connection.send_head(status, content_type, (*headers, ("transfer-encoding", "chunked")), b"")

    def send(self, data: bytes) -> None:
        """Send a piece of the body after `start`."""
        if self._connection is not None and data:
            self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """Complete the body."""
        if self._connection is not None and self._chunked:
            self._connection.send(b"0\r\n\r\n")
            self._complete()

    def peer_left(self) -> None:
        """The connection is gone: tell the handler."""
        self._connection = None
        if self.on_leave is not None:
            self.on_leave()

    def _complete(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answered()


Handler = Callable[[Request, Exchange], None]


class _Connection(asyncio.Protocol):
    """One connection, kept alive; httptools calls the `on_...` methods."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._requests: deque[tuple[Request, bool]] = deque()
        self._exchange: Exchange | None = None
        self._keep_alive = True
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        self._requests.clear()
        if exchange is not None:
            exchange.peer_left()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.close()
        except httptools.HttpParserError:
            if self._exchange is None:
                self.send_head(400, "text/plain", (("content-length", "0"), ("connection", "close")), b"")
            self.close()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        request = Request(self._parser.get_method().decode("latin-1"), path, self._headers, b"".join(self._body))
        self._requests.append((request, self._parser.should_keep_alive()))
        self._next()

    def _next(self) -> None:
        if self._exchange is None and self._requests:
            request, self._keep_alive = self._requests.popleft()
            self._exchange = Exchange(self)
            self._server.handler(request, self._exchange)

    def answered(self) -> None:
        """The exchange is complete: on to the next request, or goodbye."""
        self._exchange = None
        if self._keep_alive:
            self._next()
        else:
            self.close()

    def send_head(self, status: int, content_type: str, headers: Headers, body: bytes) -> None:
        """Write status line, headers and what is known of the body in one piece."""
        lines = [
            f"HTTP/1.1 {status} {_phrase(status)}",
            f"server: {self._server.name}",
            f"content-type: {content_type}",
        ]
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()


class HttpServer:
    """Listens while its context is entered. `port` 0 takes a free one; `url` is known once entered."""

    def __init__(self, handler: Handler, *, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.handler = handler
        self.name = name
        self.host = host
        self.port = port
        self.connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=2048)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
            for connection in tuple(self.connections):
                connection.abort()
            await self._listener.wait_closed()
            await asyncio.sleep(0)  # an aborted transport reports its end in the next turn


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
