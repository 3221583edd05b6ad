"""How the tests of the simulators call them: through the SDK, and over a bare socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
from openai import AsyncOpenAI
from proxy.simulator.asks import CHAT
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.front import Front
from proxy.simulator.profile import PROFILES

FAST = replace(PROFILES["8b-fp8-1xh100"], step_s=1e-3)
USER = [{"role": "user", "content": "x" * 40}]


@asynccontextmanager
async def sdk(sim: Front) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=sim.url, api_key="none", max_retries=0) as client:
        yield client


async def exchange(sim: Front, path: str, body: object, *, method: str = "POST") -> tuple[int, bytes, bytes]:
    """One request on a connection of its own: status, head and body."""
    content = b"" if body is None else orjson.dumps(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    head = f"{method} {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    head_bytes, _, rest = raw.partition(b"\r\n\r\n")
    return int(head_bytes.split(b" ", 2)[1]), head_bytes, rest


async def begin(sim: EngineSimulator, max_tokens: int, stream: bool = True) -> Callable[[], Awaitable[None]]:
    """Send a long request and return what closes its connection."""
    body = {"model": sim.model, "messages": USER, "max_tokens": max_tokens, "ignore_eos": True, "stream": stream}
    content = orjson.dumps(body)
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    requests = len(sim.ledger.entries)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    await sim.ledger.until(lambda: len(sim.ledger.entries) == requests + 1)

    async def leave() -> None:
        writer.close()
        await writer.wait_closed()

    return leave
