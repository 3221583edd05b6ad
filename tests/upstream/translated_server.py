"""A scripted HTTP/1.1 upstream: each request is answered by a coroutine of the test, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson


class Request:
    """One request as it arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.path, _ = line.split(" ")
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        self.body = body

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Reply:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.chunked = True

    async def json(self, body: Any, status: int = 200, headers: str = "") -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
        await self.raw(head.encode() + data)

    async def start_stream(self, headers: str = "", *, chunked: bool = True) -> None:
        self.chunked = chunked
        framing = "transfer-encoding: chunked" if chunked else "connection: close"
        await self.raw(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}{framing}\r\n\r\n".encode())

    async def event(self, data: Any, name: str | None = None) -> None:
        text = data if isinstance(data, bytes) else orjson.dumps(data)
        block = (f"event: {name}\n".encode() if name else b"") + b"data: " + text + b"\n\n"
        await self.raw(b"%x\r\n%s\r\n" % (len(block), block) if self.chunked else block)

    async def end_stream(self) -> None:
        if self.chunked:
            await self.raw(b"0\r\n\r\n")
        else:
            self.drop()

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def drop(self) -> None:
        """Close the connection here and now."""
        self._writer.close()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass


Script = Callable[[Request, Reply], Awaitable[None]]


class Upstream:
    """`async with Upstream(script) as upstream`; `requests` are those seen, `connections` how many were opened."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.connections = 0

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                request = Request(head, b"")
                request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
                self.requests.append(request)
                await self._script(request, Reply(reader, writer))
        writer.close()
