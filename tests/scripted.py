"""A scripted upstream: it answers each connection with exactly the bytes, pauses and endings that a test writes down.

A script is a list of steps, played once a request's head and body have arrived:

    b"..."        send these bytes
    HOLD          wait until the peer closes the connection, and note when
    RESET         close with a TCP reset
    CLOSE         close in an orderly way
    an Event      wait until the test sets it

A script that runs out keeps the connection open for the next request. Each request gets the next script; the last one
repeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class Step(Enum):
    HOLD = auto()
    RESET = auto()
    CLOSE = auto()


HOLD, RESET, CLOSE = Step.HOLD, Step.RESET, Step.CLOSE
Script = Sequence[bytes | Step | asyncio.Event]


@dataclass
class Received:
    """One request as the upstream saw it."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedUpstream:
    """The server's address and what has happened to it so far."""

    scripts: list[Script]
    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    closed_at: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    arrived: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
                self.requests.append(request)
                self.arrived.put_nowait(request)
                if not await self._play(script, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_at.put_nowait(time.monotonic())
        finally:
            writer.close()

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is HOLD:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                self.closed_at.put_nowait(time.monotonic())
                return False
            else:
                if step is RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                return False
        return True


@contextlib.asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream on a free port of the loopback."""
    upstream = ScriptedUpstream(list(scripts))
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    line, *rest = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
    return Received(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def reply(body: bytes | dict[str, Any], status: str = "200 OK", *headers: str) -> bytes:
    """A whole JSON reply with its length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chat_events(*texts: str, usage: bool = True) -> list[bytes]:
    """The events of a chat stream as vLLM sends them when usage is asked for."""

    def event(choices: list[Any], **more: Any) -> bytes:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices}
        return b"data: " + json.dumps({**chunk, **more}, separators=(",", ":")).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[Any]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    events = [event(choice({"role": "assistant", "content": ""}))]
    events += [event(choice({"content": text})) for text in texts]
    events.append(event(choice({}, "stop")))
    if usage:
        counts = {"prompt_tokens": 7, "total_tokens": 7 + len(texts), "completion_tokens": len(texts)}
        events.append(event([], usage=counts, system_fingerprint="fp-1"))
    events.append(b"data: [DONE]\n\n")
    return events


def chat_stream(*texts: str) -> bytes:
    """A whole chat stream's bytes on the wire."""
    return STREAM_HEAD + b"".join(chunked(event) for event in chat_events(*texts)) + LAST_CHUNK


CHAT_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}
