"""The HTTP client for the API server: one request a connection, since most of them last for half a minute.

It trusts the cluster's own authority and nobody else, follows no redirect and uses no proxy of the environment. Token
and authority are read for each request. The kernel finds out within twenty seconds that the other end is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Self

import httptools

from proxy.cluster.access import MAX_BODY_BYTES, Access, from_here, refusal, words
from proxy.discovery.api import ApiFailed

_TCP = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 19_000))
_SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _TCP if hasattr(socket, name)),
]
_READ_BYTES = 1 << 16
_DENIED = "`list` and `watch` what is in `endpointslices` of `discovery.k8s.io` (hint: give it a Role that lets it)"


class HttpApi:
    """See `Api`."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access or from_here()

    @property
    def is_here(self) -> bool:
        """See `Api`."""
        try:
            return ip_address(self._access.host).is_loopback
        except ValueError:
            return self._access.host == "localhost"

    async def get(self, path: str) -> bytes:
        """See `Api`."""
        body = bytearray()
        async with self.watch(path) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise ApiFailed(f"the API server's answer is longer than {MAX_BODY_BYTES >> 20} MiB")
        return bytes(body)

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Api`."""
        try:
            request, tls = await asyncio.to_thread(self._prepared, path)
            async with _connection(self._access, tls) as (reader, writer):
                writer.write(request)
                answer = _Answer(reader)
                await answer.head()
                if answer.status != 200:
                    text = refusal(answer.status, _DENIED)
                    raise ApiFailed(text, status=answer.status, retry_after_s=answer.retry_after_s)
                yield answer
        except (OSError, httptools.HttpParserError) as error:
            raise ApiFailed(f"no answer from the API server: {words(error)}") from None

    def _prepared(self, path: str) -> tuple[bytes, ssl.SSLContext]:
        """The head of a request, and whom to trust: both are in files."""
        access = self._access
        fields = {"Host": access.url.removeprefix("https://"), "Connection": "close", **access.headers()}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("ascii"), access.tls()


@asynccontextmanager
async def _connection(
    access: Access, tls: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(access.host, access.port, ssl=tls)
    try:
        for option in _SOCKET_OPTIONS:
            writer.get_extra_info("socket").setsockopt(*option)
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class _Answer:
    """An answer as it comes; iterating over it gives the pieces of its body."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._complete = False
        self.status = 0
        self.retry_after_s = 0.0

    async def head(self) -> None:
        """Until it is known what the answer is."""
        while not self.status:
            await self._read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._complete:
                raise StopAsyncIteration
            await self._read()
        piece = b"".join(self._pieces)
        self._pieces.clear()
        return piece

    async def _read(self) -> None:
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise ConnectionError("it broke off")
        self._parser.feed_data(data)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():
            self.retry_after_s = float(value)  # the API server says it in whole seconds

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
