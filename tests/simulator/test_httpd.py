"""HTTP/1.1 as the simulators speak it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import orjson
from proxy.simulator.asks import CHAT
from proxy.simulator.engine import EngineSimulator
from tests.simulator.calls import FAST, USER


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Keep-alive, pipelined even, with an error in between."""
    bodies = [{"messages": USER, "max_tokens": tokens} for tokens in (3, 0, 2)]
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        for body in bodies:
            content = orjson.dumps(body)
            writer.write(
                f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
            )
        replies = [await read_reply(reader) for _ in bodies]
        assert sim.open_connections == 1
        writer.close()
        await writer.wait_closed()
    assert [reply.get("usage", {}).get("completion_tokens") for reply in replies] == [3, None, 2]


async def read_reply(reader: asyncio.StreamReader) -> Any:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return orjson.loads(await reader.readexactly(length))


async def test_not_http_is_told_so_and_closed() -> None:
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()


async def test_a_request_may_come_in_pieces_and_wait_for_100_continue() -> None:
    content = orjson.dumps({"messages": USER, "max_tokens": 2})
    head = f"POST {CHAT} HTTP/1.1\r\nhost: s\r\nexpect: 100-continue\r\ncontent-length: {len(content)}\r\n\r\n"
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(head[:20].encode())
        await writer.drain()
        writer.write(head[20:].encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(content[:10])
        await writer.drain()
        writer.write(content[10:])
        assert (await read_reply(reader))["usage"]["completion_tokens"] == 2
        writer.close()
        await writer.wait_closed()


async def test_a_stream_is_chunked_and_leaves_the_connection_usable() -> None:
    content = orjson.dumps({"messages": USER, "max_tokens": 3, "stream": True})
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        head = await reader.readuntil(b"\r\n\r\n")
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readline() == b"\r\n"
        assert await reader.readline() == b"\r\n"
        assert b"transfer-encoding: chunked" in head
        assert body.endswith(b"data: [DONE]\n\n")
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: s\r\n\r\n")
        assert (await read_reply(reader))["object"] == "list"
        writer.close()
        await writer.wait_closed()


async def test_connection_close_is_honoured() -> None:
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_leaving_the_context_hangs_up_on_everybody() -> None:
    async with EngineSimulator(FAST) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: s\r\n\r\n")
        await read_reply(reader)
    assert sim.open_connections == 0
    with suppress(ConnectionResetError):  # as good an end as any
        assert await reader.read() == b""
    writer.close()
