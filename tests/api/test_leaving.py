"""Connections of a server that leaves: each reply says so, and none is closed that somebody uses."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from proxy.api.server import Leaving
from proxy.policy.model import Snapshot
from tests.harness import dedicated, proxy, request_bytes, snapshot_of
from tests.scripted import CHAT_REPLY, LAST_CHUNK, STREAM_HEAD, chat_events, chunked, reply, scripted
from tests.wire import wire

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ASKED = request_bytes("POST", CHAT, json.dumps(ASK).encode())
STREAMED = request_bytes("POST", CHAT, json.dumps({**ASK, "stream": True}).encode())
IDLE_S = 0.2


def policy(port: int = 1) -> Snapshot:
    return snapshot_of(dedicated("gpu", f"http://127.0.0.1:{port}/v1"))


@pytest.mark.parametrize("direct", [True, False])
async def test_a_reply_says_that_it_is_the_last_one_of_its_connection(direct: bool) -> None:
    leaving = Leaving()
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(policy(up.port), direct=direct, leaving=leaving) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ASKED)
            assert "connection" not in (await client.reply()).headers
            leaving.announced = True
            await client.send(ASKED)
            got = await client.reply()
            assert (got.status, got.headers["connection"]) == (200, "close")
            assert await client.rest() == b""


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("GET", "/nowhere"), ("POST", "/v1/models")])
async def test_so_do_those_that_are_not_routed(method: str, path: str) -> None:
    leaving = Leaving()
    leaving.announced = True
    async with proxy(policy(), leaving=leaving) as spillway, wire(spillway.port) as client:
        await client.send(request_bytes(method, path))
        assert (await client.reply()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_request_that_came_before_is_told_in_its_reply() -> None:
    leaving, later = Leaving(), asyncio.Event()
    async with scripted([later, reply(CHAT_REPLY)]) as up, proxy(policy(up.port), leaving=leaving) as spillway:
        async with wire(spillway.port) as client:
            await client.send(ASKED)
            await up.arrived.get()
            leaving.announced = True
            later.set()
            assert (await client.reply()).headers["connection"] == "close"
            assert await client.rest() == b""


async def test_a_stream_that_began_before_leaves_its_connection_good_for_one_more() -> None:
    leaving, later = Leaving(), asyncio.Event()
    role, word, *rest = (chunked(event) for event in chat_events("x"))
    script = [STREAM_HEAD + role + word, later, b"".join(rest) + LAST_CHUNK]
    async with scripted(script, [reply(CHAT_REPLY)]) as up, proxy(policy(up.port), leaving=leaving) as spillway:
        async with wire(spillway.port) as client:
            await client.send(STREAMED)
            head = await client.until(b"data: ")
            leaving.announced = True
            leaving.idle_s = IDLE_S
            later.set()
            end = await client.until(LAST_CHUNK)
            await client.send(ASKED)
            more = await client.reply()
            assert await client.rest() == b""
    assert b"connection:" not in head
    assert b"[DONE]" in end
    assert (more.status, more.headers["connection"]) == (200, "close")


async def test_connections_that_nobody_uses_are_closed_without_a_word() -> None:
    leaving = Leaving()
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(policy(up.port), leaving=leaving) as spillway:
        async with wire(spillway.port) as used, wire(spillway.port) as silent:
            await used.send(ASKED)
            await used.reply()
            assert await used.still_good()
            began_at = time.monotonic()
            leaving.idle_s = IDLE_S
            assert await used.rest() == await silent.rest() == b""
            assert time.monotonic() - began_at < 2.0


async def test_whoever_is_asking_or_being_answered_is_left_alone() -> None:
    leaving, later = Leaving(), asyncio.Event()
    async with scripted([later, reply(CHAT_REPLY)]) as up, proxy(policy(up.port), leaving=leaving) as spillway:
        async with wire(spillway.port) as waiting, wire(spillway.port) as asking, wire(spillway.port) as nobody:
            await waiting.send(ASKED)
            await up.arrived.get()
            await asking.send(ASKED[:20])
            leaving.idle_s = 0.0
            assert await nobody.rest() == b""
            await asyncio.sleep(2 * IDLE_S)
            await asking.send(ASKED[20:])
            later.set()
            assert [(await one.reply()).status for one in (waiting, asking)] == [200, 200]
