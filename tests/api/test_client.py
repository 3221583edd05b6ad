"""Waiting clients are told that they are still served; what follows must fit what has been said already."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest
from proxy import forward
from proxy.policy.model import Timeouts
from tests.harness import dedicated, proxy, shared, snapshot_of
from tests.scripted import CHAT_REPLY, HOLD, STREAM_HEAD, chat_events, chat_stream, chunked, reply, scripted

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
STREAM: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
FULL = reply({"error": {"message": "busy", "code": 503}}, "503 Service Unavailable")
WAYS = pytest.mark.parametrize("way", [{}, {"direct": False}], ids=["direct", "ASGI"])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "KEEP_ALIVE_S", 0.1)


class later(asyncio.Event):  # noqa: N801  reads as a step of a script
    """Set so many seconds after somebody first waits: from the request on, however long a start takes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def wait(self) -> Literal[True]:
        asyncio.get_running_loop().call_later(self._seconds, self.set)
        return await super().wait()


@WAYS
async def test_a_waiting_stream_gets_comments_and_then_its_events(way: dict[str, Any]) -> None:
    ask = {**STREAM, "stream_options": {"include_usage": True}}
    async with scripted([later(0.5), chat_stream("a")]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
            got = await spillway.post(CHAT, ask)
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/event-stream")
    comments = got.body.count(b": keep-alive\n\n")
    assert comments >= 2
    assert got.body == b": keep-alive\n\n" * comments + b"".join(chat_events("a"))
    assert got.complete


@WAYS
async def test_anthropics_clients_get_pings(way: dict[str, Any]) -> None:
    """Their SDK drops whatever has no event name."""
    events = b"".join(
        chunked(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()))
        for one in (
            {"type": "message_start", "message": {"id": "1", "usage": {"input_tokens": 3, "output_tokens": 1}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        )
    )
    async with scripted([later(0.35), STREAM_HEAD + events + b"0\r\n\r\n"]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
            got = await spillway.post(MESSAGES, STREAM)
    assert got.body.startswith(b'event: ping\ndata: {"type": "ping"}\n\n')
    assert b": keep-alive" not in got.body
    assert got.body.rstrip().endswith(b'data: {"type": "message_stop"}')


@WAYS
async def test_another_target_may_still_answer_after_a_comment(way: dict[str, Any]) -> None:
    """Comments are no content; the head is sent once."""
    async with scripted([later(0.3), FULL]) as gpu, scripted([chat_stream("a")]) as api:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url)), **way) as spillway:
            got = await spillway.post(CHAT, STREAM)
    assert got.status == 200
    assert got.body.startswith(b": keep-alive\n\n")
    assert b"HTTP/1.1" not in got.body
    assert got.events[-1] == "[DONE]"
    assert got.complete


@WAYS
@pytest.mark.parametrize(
    ("path", "begins"),
    [
        (CHAT, b'data: {"error":{'),
        (RESPONSES, b'event: error\ndata: {"type":"error",'),
        (MESSAGES, b'event: error\ndata: {"type":"error","error":{'),
    ],
)
async def test_an_error_after_a_comment_is_an_event(path: str, begins: bytes, way: dict[str, Any]) -> None:
    async with scripted([later(0.3), FULL]) as gpu:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url)), **way) as spillway:
            got = await spillway.post(path, STREAM)
    assert got.status == 200
    assert got.complete
    last = got.body[got.body.rindex(b"\n\n", 0, -2) + 2 :]
    assert last.startswith(begins)
    assert got.body.count(b"HTTP/1.1") == 0


@WAYS
async def test_a_first_token_deadline_after_comments_is_an_event(way: dict[str, Any]) -> None:
    async with scripted([HOLD]) as gpu:
        target = dedicated("gpu", gpu.url, timeouts=Timeouts(first_token_s=0.3))
        async with proxy(snapshot_of(target), **way) as spillway:
            got = await spillway.post(CHAT, STREAM)
    assert json.loads(got.events[-1])["error"]["code"] == "upstream_timeout"
    assert got.complete


@WAYS
async def test_a_document_cannot_follow_a_comment(way: dict[str, Any]) -> None:
    """The reply was promised to be a stream: what cannot stand in one is an error, and no second head."""
    async with scripted([later(0.3), reply(CHAT_REPLY)]) as gpu:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url)), **way) as spillway:
            got = await spillway.post(CHAT, STREAM)
    assert got.complete
    assert b"HTTP/1.1" not in got.body
    assert "no stream" in json.loads(got.events[-1])["error"]["message"]


@WAYS
async def test_a_reply_that_is_no_stream_gets_no_comments(way: dict[str, Any]) -> None:
    async with scripted([later(0.3), reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
            got = await spillway.post(CHAT, {**STREAM, "stream": False})
    assert got.json == CHAT_REPLY
