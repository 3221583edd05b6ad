"""How a translated exchange ends before its time: broken off, aborted, paused, closed."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest
from proxy.policy.model import Endpoint
from proxy.routing.outcome import Failure
from proxy.upstream.translated import Translated
from tests.upstream import translated_events as said
from tests.upstream.conftest import Loading
from tests.upstream.translated_play import BODIES, LITELLM, PROVIDERS, USER, Sink, ask, attempt, call, serve
from tests.upstream.translated_server import Reply, Request, Upstream

pytestmark = LITELLM


ABORT_LIMIT_S = 0.25


async def test_nobody_listening_is_a_connect_failure(translated: Translated) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        for provider, _ in PROVIDERS:
            sink = await ask(translated, attempt(provider, url), call(Endpoint.CHAT, messages=USER))
            assert sink.failure is not None
            assert sink.failure.failure is Failure.CONNECT
            assert "127.0.0.1" not in sink.failure.detail


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"", Failure.BROKEN),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", Failure.BROKEN),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Failure.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Failure.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}", Failure.PROTOCOL),
    ],
)
async def test_a_broken_reply_is_a_failure_and_is_not_tried_again(
    translated: Translated, sent: bytes, failure: Failure
) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.raw(sent)
        reply.drop()

    for provider, _ in PROVIDERS:
        sink, upstream = await serve(translated, script, provider, call(Endpoint.CHAT, messages=USER))
        assert sink.failure is not None
        assert sink.failure.failure is failure
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("endpoint", list(BODIES))
@pytest.mark.parametrize("way", ["ends", "drops", "drops unframed"])
@pytest.mark.parametrize(("provider", "events"), [
    ("anthropic", said.ANTHROPIC_STREAM[:-2]),
    ("openai", said.CHAT_STREAM[:6]),
])  # fmt: skip
async def test_a_truncated_stream_never_looks_whole(
    translated: Translated, endpoint: Endpoint, way: str, provider: str, events: list[Any]
) -> None:
    """LiteLLM makes up a finish reason here, and its adapters the events that belong to it."""
    upto = len(events)
    for stop in (0, 1, upto // 2, upto):

        async def script(_: Request, reply: Reply, stop: int = stop) -> None:
            await reply.start_stream(chunked=way != "drops unframed")
            for event in events[:stop]:
                await reply.event(event, event.get("type"))
            await reply.end_stream() if way == "ends" else reply.drop()

        sink, upstream = await serve(translated, script, provider, call(endpoint, stream=True, **BODIES[endpoint]))
        assert sink.failure is not None
        assert sink.failure.failure is Failure.BROKEN
        assert not any(end in sink.body for end in (b"[DONE]", b"message_stop", b"response.completed"))
        assert b'"finish_reason":"' not in sink.body
        assert len(upstream.requests) == 1


async def test_a_drop_after_the_finish_reason_is_still_a_drop(translated: Translated) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.start_stream()
        for chunk in said.CHAT_STREAM[:7]:
            await reply.event(chunk)
        reply.drop()

    sink, _ = await serve(translated, script, "openai", call(Endpoint.CHAT, stream=True, messages=USER))
    assert sink.failure is not None
    assert sink.failure.failure is Failure.BROKEN


# abort, pause, close


class Waiting:
    """A script that says `events`, then waits for the client to close, and notes when it did."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self.reached = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, request: Request, reply: Reply) -> None:
        if request.json.get("stream") and self._events:
            await reply.start_stream()
            for event in self._events:
                await reply.event(event, event.get("type"))
        self.reached.set()
        await reply.gone()
        self.closed.set()


async def test_abort_at_any_moment_before_the_request_is_out_leaves_nothing_behind(translated: Translated) -> None:
    """LiteLLM prepares a request in a thread, which goes on when its exchange is gone."""
    script = Waiting([])
    async with Upstream(script) as upstream:
        for turns in range(30):
            sink = Sink()
            request = call(Endpoint.CHAT, stream=bool(turns % 2), messages=USER)
            exchange = translated.open(attempt("hosted_vllm", upstream.url), request, sink)
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            exchange.abort()
            assert not sink.over.is_set()
        await translated.aclose()
        gc.collect()
        assert len(upstream.requests) <= upstream.connections


@pytest.mark.parametrize("endpoint", list(BODIES))
@pytest.mark.parametrize(("provider", "events"), [
    ("anthropic", said.ANTHROPIC_STREAM[:9]),
    ("openai", said.CHAT_STREAM[:3]),
    ("hosted_vllm", said.CHAT_STREAM[:3]),
])  # fmt: skip
@pytest.mark.parametrize("phase", ["whole", "before the first token", "mid-stream"])
async def test_abort_closes_the_upstream_connection_at_once(
    translated: Translated, endpoint: Endpoint, provider: str, events: list[Any], phase: str
) -> None:
    script = Waiting(events if phase == "mid-stream" else [])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(endpoint, stream=phase != "whole", **BODIES[endpoint])
        exchange = translated.open(attempt(provider, upstream.url), request, sink)
        async with asyncio.timeout(20):
            await script.reached.wait()
            if phase == "mid-stream":
                await sink.arrived.wait()
        seen = len(sink.blocks)
        exchange.abort()
        exchange.abort()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()
    assert len(sink.blocks) == seen
    assert not sink.over.is_set()


async def test_a_sink_may_abort_while_it_is_being_fed(translated: Translated) -> None:
    """The relay does so when it finds an error in the stream."""
    script = Waiting(said.CHAT_STREAM[:5])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        exchange = translated.open(attempt("openai", upstream.url), request, sink)
        sink.after = lambda _: exchange.abort()
        async with asyncio.timeout(20):
            await sink.arrived.wait()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()
    assert len(sink.blocks) == 1


async def test_pause_stops_the_flow_and_resume_goes_on_without_loss(translated: Translated) -> None:
    total = 400
    filler = "x" * 4000
    written = 0

    async def script(_: Request, reply: Reply) -> None:
        nonlocal written
        await reply.start_stream()
        for number in range(total):
            await reply.event(said.chat_chunk({"content": f"{number} {filler} "}))
            written = number + 1
        for chunk in said.CHAT_STREAM[6:]:
            await reply.event(chunk)
        await reply.end_stream()

    async with Upstream(script) as upstream:
        sink = Sink()
        paused = asyncio.Event()

        def pause(sink: Sink) -> None:
            if len(sink.blocks) == 3:
                exchange.pause()
                paused.set()

        sink.after = pause
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        exchange = translated.open(attempt("openai", upstream.url), request, sink)
        async with asyncio.timeout(20):
            await paused.wait()
            before = -1
            while written != before:  # until the sockets' buffers are full
                before = written
                await asyncio.sleep(0.05)
        assert len(sink.blocks) == 3
        assert not sink.over.is_set()
        exchange.resume()
        async with asyncio.timeout(20):
            await sink.over.wait()
    assert sink.text.split()[::2] == [str(number) for number in range(total)]


async def test_closing_ends_what_is_running(loading: Loading) -> None:
    translated = Translated()
    script = Waiting(said.CHAT_STREAM[:3])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        translated.open(attempt("openai", upstream.url), request, sink)
        async with asyncio.timeout(20):
            await sink.arrived.wait()
        await translated.aclose()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()


async def test_connections_are_kept_alive_between_exchanges(translated: Translated) -> None:
    for provider, script in PROVIDERS:
        async with Upstream(script()) as upstream:
            to = attempt(provider, upstream.url)
            for stream in (False, True, True, False):
                await ask(translated, to, call(Endpoint.CHAT, stream=stream, messages=USER))
            assert upstream.connections == 1
            assert len(upstream.requests) == 4
