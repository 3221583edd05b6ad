"""Keep-alive connections to one origin.

Theory of operation
-------------------
The most recently used idle connection is taken first, so that the surplus of a burst grows old and is dropped. Idle
connections are given up before the usual upstream gives them up (uvicorn, and so vLLM and SGLang, closes after 5 s):
losing that race costs a resend. Connecting is the only thing here that takes time; it runs as a task that `abort()`
cancels. A pool that is retired serves who still comes, and keeps no connection beyond its exchange.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable

from proxy.upstream.base import Sink
from proxy.upstream.connection import Connection
from proxy.upstream.errors import ConnectFailed, ConnectTimedOut

IDLE_S = 4.0
"""How long an idle connection is kept; below the 5 s after which uvicorn closes it."""


class Origin:
    """Where a pool connects to: host, port, and TLS or not."""

    __slots__ = ("host", "port", "tls")

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.host = host
        self.port = port
        self.tls = tls


class Pool:
    """The connections to one origin."""

    def __init__(self, origin: Origin, *, connect_s: float) -> None:
        self._origin = origin
        self.connect_s = connect_s
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._retired = False

    def exchange(self, data: bytes, sink: Sink) -> Pooled:
        """Send a request's bytes on an idle connection, or on a new one."""
        pooled = Pooled(self, data, sink)
        connection = self._take()
        if connection is None:
            pooled.dial()
        else:
            pooled.use(connection)
        return pooled

    async def connect(self) -> Connection:
        """A new connection. Raises `ConnectFailed` or `ConnectTimedOut`."""
        origin = self._origin
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), origin.host, origin.port, ssl=origin.tls
                )
        except TimeoutError:
            raise ConnectTimedOut(f"no connection within {self.connect_s:g} s") from None
        except (OSError, ValueError, OverflowError) as error:
            # Besides what the network does: a name that no encoding of names allows, a port that cannot be.
            raise ConnectFailed(type(error).__name__) from None
        if connection.closing:
            raise ConnectFailed("closed at once")
        self._open.add(connection)
        return connection

    def on_idle(self, connection: Connection) -> None:
        if self._retired:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def on_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def retire(self) -> None:
        """Let go: idle connections now, the others when their exchange ends."""
        self._retired = True
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        for connection in tuple(self._open):
            connection.abort()
        self._idle.clear()

    def _take(self) -> Connection | None:
        expired = time.monotonic() - IDLE_S
        while self._idle and self._idle[0].idle_since < expired:
            self._idle.popleft().abort()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                return connection
        return None


class Pooled:
    """One request on its way through a pool: the `Exchange` that the relay holds."""

    __slots__ = ("_connection", "_data", "_dialling", "_pool", "_sink")

    def __init__(self, pool: Pool, data: bytes, sink: Sink) -> None:
        self._pool = pool
        self._data = data
        self._sink = sink
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None

    def use(self, connection: Connection) -> None:
        self._connection = connection
        connection.send(self._data, self._sink, self.dial if connection.reused else None)

    def dial(self) -> None:
        """Connect, then send: for the first connection, and again when a reused one was already dead."""
        self._connection = None
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    def pause(self) -> None:
        if (connection := self._ours()) is not None:
            connection.pause()

    def resume(self) -> None:
        if (connection := self._ours()) is not None:
            connection.resume()

    def abort(self, closed: Callable[[], None] | None = None) -> None:
        if self._dialling is not None:
            if closed is not None:
                self._dialling.add_done_callback(lambda _: closed())
            self._dialling.cancel()
        if (connection := self._ours()) is not None:
            connection.abort(closed)

    def _ours(self) -> Connection | None:
        """The connection, unless the exchange is over and it carries somebody else's by now."""
        connection = self._connection
        return connection if connection is not None and connection.serves(self._sink) else None

    async def _dial(self) -> None:
        try:
            connection = await self._pool.connect()
        except (ConnectFailed, ConnectTimedOut) as error:
            self._sink.on_failure(error)
            return
        finally:
            self._dialling = None
        self.use(connection)
