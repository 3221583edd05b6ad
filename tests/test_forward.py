"""A stream that breaks, at every byte: complete, or a JSON error, or an error event; nothing silent, nothing twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import openai
import pytest

from tests.harness import Proxy, Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import CHAT_REPLY, CLOSE, RESET, Script, Step, chat_stream, chunked, reply, scripted
from tests.thorough import THOROUGH

CHAT = "/v1/chat/completions"
STREAM = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WIRE = chat_stream("one", "two")
CALM = reply(CHAT_REPLY, "200 OK", "connection: close")
CALM_PER_BREAK = 2
"""Good answers between two broken ones, so that the breaker has no say in these tests."""


def broken_at(offsets: Sequence[int], ending: Step, wire: bytes = WIRE) -> list[Script]:
    scripts: list[Script] = []
    for offset in offsets:
        scripts += [[CALM]] * CALM_PER_BREAK
        scripts.append([wire[:offset], ending])
    return scripts


async def replies(spillway: Proxy, count: int, ask: dict[str, object]) -> list[Reply]:
    found = []
    for _ in range(count):
        for _ in range(CALM_PER_BREAK):
            assert (await spillway.post(CHAT, {**ask, "stream": False})).status == 200
        found.append(await spillway.post(CHAT, ask))
    return found


def texts(got: Reply) -> str:
    chunks = [json.loads(event) for event in got.events if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


def check_ending(got: Reply) -> str:
    """Which of the three lawful endings this is."""
    assert got.complete, got
    if got.status != 200:
        assert got.status == 502
        assert got.json["error"]["message"]
        return "json"
    assert "onetwo".startswith(texts(got))
    if got.events[-1] == "[DONE]":
        assert texts(got) == "onetwo"
        return "complete"
    assert json.loads(got.events[-1])["error"]["code"] in {"upstream_stream_truncated", "upstream_protocol"}
    return "event"


@pytest.mark.parametrize("ending", [RESET, CLOSE], ids=["reset", "close"])
async def test_a_break_at_every_byte_is_never_silent(ending: Step) -> None:
    offsets = sorted({*range(0, len(WIRE), 1 if THOROUGH else 4), *range(len(WIRE) - 8, len(WIRE) + 1)})
    async with scripted(*broken_at(offsets, ending)) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        endings = [check_ending(got) for got in await replies(spillway, len(offsets), STREAM)]
    first_event, complete = endings.index("event"), endings.index("complete")
    assert set(endings[:first_event]) == {"json"}
    assert set(endings[first_event:complete]) == {"event"}
    assert WIRE[: offsets[first_event]].count(b'"one"') == 1
    assert endings[-1] == "complete"


async def test_a_break_at_every_byte_before_content_is_mended_elsewhere_without_repeating_text() -> None:
    offsets = range(0, len(WIRE) + 1, 41)
    async with scripted(*broken_at(offsets, RESET)) as gpu, scripted([chat_stream("one", "two")]) as api:
        policy = snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))
        async with proxy(policy) as spillway:
            got = await replies(spillway, len(offsets), STREAM)
    endings = [check_ending(one) for one in got]
    assert "json" not in endings
    mended = [one for one in got if one.headers["x-spillway-target"] == "api"]
    assert mended
    assert all(texts(one) == "onetwo" for one in mended)


@pytest.mark.parametrize("cut", range(2, 4))
async def test_the_openai_sdk_raises_on_a_broken_stream(cut: int) -> None:
    wire = chat_stream("one", "two")
    offset = wire.index(b"0\r\n\r\n", wire.index(b'"one"')) if cut == 3 else wire.index(b'"two"')
    async with scripted([wire[:offset] if cut == 2 else wire[: wire.index(b'"stop"')], RESET]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            client = openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{spillway.port}/v1", api_key="x", max_retries=0, timeout=5
            )
            seen = []
            with pytest.raises(openai.APIError):
                async for chunk in await client.chat.completions.create(**STREAM):  # type: ignore[call-overload]
                    seen.append(chunk.choices[0].delta.content or "")
            await client.close()
    assert "".join(seen) in {"one", "onetwo"}


async def test_a_stream_without_done_is_completed() -> None:
    wire = WIRE.replace(b"e\r\ndata: [DONE]\n\n\r\n", b"")
    assert wire != WIRE
    async with scripted([wire]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, STREAM)
    assert got.events[-1] == "[DONE]"
    assert texts(got) == "onetwo"


ERROR_EVENT = chunked(b'data: {"object":"error","message":"cuda out of memory","code":500}\n\n') + b"0\r\n\r\n"


async def test_an_error_after_content_ends_the_stream_with_that_error() -> None:
    seen = asyncio.Event()
    head = WIRE[: WIRE.index(b"\r\n", WIRE.index(b'"one"')) + 2]
    async with scripted([head, seen, ERROR_EVENT]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        start = await reader.readuntil(b'"one"')
        seen.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
    assert start.startswith(b"HTTP/1.1 200")
    assert b'data: {"error":{"message":"target `gpu`: cuda out of memory"' in rest
    assert b"[DONE]" not in rest


async def test_an_error_before_anything_was_sent_is_a_status() -> None:
    head = WIRE[: WIRE.index(b"\r\n\r\n") + 4]
    async with scripted([head + ERROR_EVENT]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, STREAM)
    assert got.status == 502
    assert "cuda out of memory" in got.json["error"]["message"]


async def test_a_reply_that_is_no_stream_though_one_was_asked_for_still_passes() -> None:
    async with scripted([CALM]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, STREAM)
    assert got.json == CHAT_REPLY
