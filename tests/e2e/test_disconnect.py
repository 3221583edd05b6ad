"""How soon an upstream is let go when its client leaves: within 250 ms, every time, on every endpoint, in every phase.

It is a measurement, so it stands apart from the fast tests, which share their cores.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import pytest
from tests.harness import proxy, request_bytes, shared, snapshot_of
from tests.scripted import HOLD, STREAM_HEAD, Script, chat_events, chunked, scripted

TRIES = 100
LIMIT_S = 0.25


def stream(*events: str | bytes) -> list[bytes]:
    return [STREAM_HEAD + b"".join(chunked(one.encode() if isinstance(one, str) else one) for one in events)]


ROLE, TEXT = chat_events("a")[:2]
WORDS = 'data: {"object":"text_completion","choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n'
CREATED = 'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n'
DELTA = 'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n'
USAGE = '"usage":{"input_tokens":7,"output_tokens":0}'
START = 'event: message_start\ndata: {"type":"message_start","message":{' + USAGE + "}}\n\n"
BLOCK = 'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'

BEFORE: dict[str, list[bytes]] = {
    "chat/completions": stream(ROLE),
    "completions": stream(": waiting\n\n"),
    "responses": stream(CREATED),
    "messages": stream(START),
}
MIDST: dict[str, list[bytes]] = {
    "chat/completions": stream(ROLE, TEXT),
    "completions": stream(WORDS),
    "responses": stream(CREATED, DELTA),
    "messages": stream(START, BLOCK),
}


async def leave(path: str, ask: dict[str, object], script: Script, seen: bytes) -> list[float]:
    """How late the upstream saw its connection close, in seconds, try by try; each must have been metered."""
    late = []
    async with scripted([*script, HOLD]) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        for _ in range(TRIES):
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", f"/v1/{path}", json.dumps(ask).encode()))
            await asyncio.wait_for(up.arrived.get(), 5)
            if seen:
                await reader.readuntil(seen)
            left_at = time.monotonic()
            writer.close()
            late.append(await asyncio.wait_for(up.closed_at.get(), 5) - left_at)
        assert spillway.counted("abandoned") == TRIES
    return late


def check(late: list[float]) -> None:
    at_most, median = max(late) * 1000, sorted(late)[TRIES // 2] * 1000
    sys.stdout.write(f"upstream closed after at most {at_most:.1f} ms, median {median:.1f} ms\n")
    assert max(late) <= LIMIT_S, sorted(late)[-5:]


@pytest.mark.parametrize("path", BEFORE)
async def test_before_the_first_token(path: str) -> None:
    check(await leave(path, {"model": "m", "stream": True}, BEFORE[path], b""))


@pytest.mark.parametrize("path", MIDST)
async def test_in_mid_stream(path: str) -> None:
    check(await leave(path, {"model": "m", "stream": True}, MIDST[path], b"a"))


@pytest.mark.parametrize("path", [*BEFORE, "embeddings", "messages/count_tokens"])
async def test_not_streaming(path: str) -> None:
    check(await leave(path, {"model": "m"}, [], b""))
