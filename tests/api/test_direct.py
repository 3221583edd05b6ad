"""The same request, served from the protocol's callbacks and through ASGI on three servers: the same bytes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from proxy.policy.model import Snapshot, Tenant
from tests.harness import Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
    CLOSE,
    HOLD,
    RESET,
    STREAM_HEAD,
    Script,
    chat_events,
    chat_stream,
    chunked,
    reply,
    scripted,
)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
USAGE = {**STREAM, "stream_options": {"include_usage": True}}
WIRE = chat_stream("one", "two")
FULL = reply({"error": {"message": "busy", "type": "Service Unavailable", "code": 503}}, "503 Service Unavailable")
MISTAKE = reply({"error": {"message": "bad", "type": "x", "param": None, "code": 400}}, "400 Bad Request")
WAYS: dict[str, dict[str, Any]] = {
    "through ASGI": {"direct": False},
    "plain httptools": {"http": "httptools"},
    "plain h11": {"http": "h11"},
}
CASES: dict[str, tuple[str, Any, Script, dict[str, str]]] = {
    "a reply": (CHAT, ASK, [reply(CHAT_REPLY)], {}),
    "a long reply": (CHAT, ASK, [reply({**CHAT_REPLY, "x": "y" * 300_000})], {}),
    "a stream": (CHAT, STREAM, [WIRE], {}),
    "a stream with usage": (CHAT, USAGE, [WIRE], {}),
    "a stream cut after content": (CHAT, STREAM, [WIRE[: WIRE.index(b'"two"')], RESET], {}),
    "a stream that never began": (CHAT, STREAM, [STREAM_HEAD, CLOSE], {}),
    "a failure": (CHAT, ASK, [reply({}, "500 Internal Server Error")], {}),
    "a failure for Anthropic": (MESSAGES, ASK, [reply({}, "500 Internal Server Error")], {}),
    "an engine that is full": (CHAT, ASK, [FULL], {}),
    "the caller's mistake": (CHAT, ASK, [MISTAKE], {}),
    "the caller's mistake for Anthropic": (MESSAGES, ASK, [MISTAKE], {}),
    "a wrong key": (CHAT, ASK, [reply(CHAT_REPLY)], {"authorization": "Bearer no"}),
    "no such model": (CHAT, {"model": "none"}, [reply(CHAT_REPLY)], {}),
    "no JSON": (MESSAGES, b"{", [reply(CHAT_REPLY)], {}),
    "a wrong type": (CHAT, ASK, [reply(CHAT_REPLY)], {"content-type": "text/plain"}),
    "too large": (CHAT, {**ASK, "x": "y" * 400_000}, [reply(CHAT_REPLY)], {}),
}
VARIES = {"date", "transfer-encoding", "connection", "x-spillway-degraded"}
"""Framing, and what depends on whether the first sweep has come by: these proxies have no store."""


async def served(policy: Snapshot, path: str, body: Any, headers: dict[str, str], way: dict[str, Any]) -> Reply:
    async with proxy(policy, max_body_bytes=350_000, **way) as spillway:
        return await spillway.post(path, body, {"x-request-id": "same", "authorization": "Bearer sk-t", **headers})


def told(got: Reply) -> tuple[int, dict[str, str], bytes, bool]:
    return got.status, {name: got.headers[name] for name in got.headers.keys() - VARIES}, got.body, got.complete


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
async def test_every_way_of_serving_says_the_same(case: str, way: str) -> None:
    path, body, script, headers = CASES[case]
    async with scripted(script) as up:
        policy = snapshot_of(dedicated("gpu", up.url), t=Tenant(name="t"))
        direct = await served(policy, path, body, headers, {})
        other = await served(policy, path, body, headers, WAYS[way])
    assert told(other) == told(direct)
    assert direct.complete


@pytest.mark.parametrize("way", [None, *WAYS])
async def test_a_spilled_stream_says_so_on_every_way(way: str | None) -> None:
    async with scripted([FULL]) as gpu, scripted([WIRE]) as api:
        policy = snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url), t=Tenant(name="t"))
        got = await served(policy, CHAT, USAGE, {}, WAYS[way] if way else {})
    assert got.body == b"".join(chat_events("one", "two"))
    assert got.headers["x-spillway-reason"] == "engine full: gpu answered 503"


@pytest.mark.parametrize("way", [None, *WAYS])
@pytest.mark.parametrize("phase", ["waiting", "streaming"])
async def test_a_leaving_client_is_noticed_on_every_way(phase: str, way: str | None) -> None:
    first = STREAM_HEAD + b"".join(chunked(event) for event in chat_events("a")[: 1 if phase == "waiting" else 2])
    async with scripted([first, HOLD]) as up:
        async with proxy(snapshot_of(shared("api", up.url)), **(WAYS[way] if way else {})) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
            await up.arrived.get()
            if phase == "streaming":
                await reader.readuntil(b'"a"')
            left_at = time.monotonic()
            writer.close()
            closed_at = await asyncio.wait_for(up.closed_at.get(), 5)
            assert spillway.counted("abandoned") == 1
    assert closed_at - left_at <= 0.25


@pytest.mark.parametrize("way", [None, *WAYS])
async def test_requests_over_the_limit_are_refused_at_once_on_every_way(way: str | None) -> None:
    go = asyncio.Event()
    async with scripted([go, reply(CHAT_REPLY)]) as up:
        policy = snapshot_of(dedicated("gpu", up.url))
        async with proxy(policy, max_in_flight=1, **(WAYS[way] if way else {})) as spillway:
            first = asyncio.create_task(spillway.post(CHAT, ASK))
            await up.arrived.get()
            second = await spillway.post(CHAT, ASK)
            go.set()
            assert (await first).status == 200
            third = await spillway.post(CHAT, ASK)
    assert (second.status, second.json["error"]["code"]) == (503, "overloaded")
    assert second.headers["x-should-retry"] == "true"
    assert third.status == 200


async def test_a_cancelled_request_is_answered_and_every_other_served_on() -> None:
    """What draining does with those that take too long."""
    async with scripted([STREAM_HEAD + b"".join(chunked(e) for e in chat_events("a")[:2]), HOLD]) as up:
        policy = snapshot_of(dedicated("gpu", up.url))
        async with proxy(policy) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
            await reader.readuntil(b'"a"')
            spillway.spillway.data.cancel()
            rest = await reader.readuntil(b"0\r\n\r\n")
            await asyncio.wait_for(up.closed_at.get(), 1)
            writer.close()
    assert b'"code":"shutting_down"' in rest
