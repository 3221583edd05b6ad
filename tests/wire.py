"""A client made of bytes: it sends what no HTTP library would, and survives how a server answers to that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from tests.harness import Reply, read_reply, request_bytes


class Wire:
    """One TCP connection. What the server says is kept even when it resets the connection afterwards."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._said = asyncio.StreamReader()
        self._listening = asyncio.create_task(self._listen())

    async def send(self, data: bytes) -> None:
        """Send as much as the server takes."""
        with contextlib.suppress(ConnectionError):
            await self._loop.sock_sendall(self._connection, data)

    async def reply(self, within_s: float = 5.0) -> Reply:
        """The next reply."""
        async with asyncio.timeout(within_s):
            return await read_reply(self._said)

    async def rest(self, within_s: float = 5.0) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(within_s):
            return await self._said.read()

    async def until(self, words: bytes, within_s: float = 5.0) -> bytes:
        """Everything up to and including `words`."""
        async with asyncio.timeout(within_s):
            return await self._said.readuntil(words)

    async def still_good(self) -> bool:
        """Whether the connection answers one more request; False when it was closed, in order, without another word."""
        await self.send(request_bytes("GET", "/healthz"))
        try:
            return (await self.reply()).status == 200
        except asyncio.IncompleteReadError as error:
            assert error.partial == b""
            return False

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._connection.close()

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._connection, 65536):
                self._said.feed_data(data)
        self._said.feed_eof()


@contextlib.asynccontextmanager
async def wire(port: int, receive_buffer_bytes: int | None = None, *, listen: bool = True) -> AsyncIterator[Wire]:
    """Connect to the loopback; without `listen`, nothing is ever read."""
    with socket.socket() as connection:
        connection.setblocking(False)
        if receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        one = Wire(connection)
        if not listen:
            one._listening.cancel()
        try:
            yield one
        finally:
            await one.close()
