"""What no upstream confirmed is charged all the same, by the rule of `upstream.reckoning`: through the whole proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from proxy.policy.model import Timeouts

from tests.harness import SHARED_PRICE, Proxy, proxy, request_bytes, shared, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
    CLOSE,
    HOLD,
    LAST_CHUNK,
    RESET,
    STREAM_HEAD,
    Script,
    ScriptedUpstream,
    chat_events,
    chunked,
    reply,
    scripted,
)

CHAT, MESSAGES, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi there, how are you?"}], "max_tokens": 200}
STREAM = {**ASK, "stream": True}
WORDS = ["one", "two", "three", "four", "five", "six"]

INPUT_NANO_USD, OUTPUT_NANO_USD = (
    SHARED_PRICE.input_nano_usd_per_mtok // 10**6,
    SHARED_PRICE.output_nano_usd_per_mtok // 10**6,
)


def sent(body: dict[str, Any]) -> int:
    """The estimate of a request's input: four bytes a token."""
    return len(json.dumps(body).encode()) // 4


def stream(events: Sequence[bytes], *ending: Any) -> Script:
    return [STREAM_HEAD + b"".join(map(chunked, events)), *ending]


def whole(events: Sequence[bytes]) -> Script:
    return [STREAM_HEAD + b"".join(map(chunked, events)) + LAST_CHUNK]


def reported(prompt: int, completion: int, events: Sequence[bytes] = ()) -> list[bytes]:
    """A chat stream of all `WORDS` whose usage says something else."""
    found = [event for event in chat_events(*WORDS, usage=False) if b"[DONE]" not in event]
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    last = {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage}
    return [*found, *events, b"data: " + json.dumps(last).encode() + b"\n\n", b"data: [DONE]\n\n"]


def charged(spillway: Proxy) -> tuple[int, int]:
    """The input and output of the one attempt that was made, which must have been charged, and marked."""
    tokens = spillway.counted("input_tokens"), spillway.counted("output_tokens")
    nano_usd = tokens[0] * INPUT_NANO_USD + tokens[1] * OUTPUT_NANO_USD
    assert spillway.counted("attempts") == spillway.counted("estimated_attempts") == 1
    assert spillway.counted("nano_usd") == spillway.counted("estimated_nano_usd") == nano_usd > 0
    assert spillway.counted("estimated_tokens") == sum(tokens)
    return tokens


async def asked(script: Script, body: dict[str, Any], path: str = CHAT, **target: Any) -> tuple[int, int]:
    async with scripted(script) as up, proxy(snapshot_of(shared("api", up.url, **target))) as spillway:
        await spillway.post(path, body)
        return charged(spillway)


NO_USAGE = {key: value for key, value in CHAT_REPLY.items() if key != "usage"}


async def test_a_reply_without_usage() -> None:
    size = len(json.dumps(NO_USAGE).encode())
    assert await asked([reply(NO_USAGE)], ASK) == (sent(ASK), -(-size // 4))


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": -7, "completion_tokens": 2}, {"prompt_tokens": 7, "completion_tokens": 10**15}, "7"],
)
async def test_a_reply_whose_usage_is_none(usage: Any) -> None:
    body = {**NO_USAGE, "usage": usage}
    assert await asked([reply(body)], ASK) == (sent(ASK), -(-len(json.dumps(body).encode()) // 4))


async def test_vectors_without_usage_have_no_output() -> None:
    ask = {"model": "m", "input": "one two three"}
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.25] * 500}], "model": "m"}
    assert await asked([reply(vectors)], ask, EMBEDDINGS) == (sent(ask), 0)


async def test_a_stream_without_usage() -> None:
    assert await asked(whole(chat_events(*WORDS, usage=False)), STREAM) == (sent(STREAM), len(WORDS))


@pytest.mark.parametrize(
    ("prompt", "completion", "tokens"),
    [(0, 6, (None, 6)), (9, 0, (9, 6)), (0, 0, (None, 6)), (9, 500, (9, 500))],
    ids=["no input", "no output", "zeros", "far more than was allowed"],
)
async def test_a_stream_whose_usage_cannot_be_true(
    prompt: int, completion: int, tokens: tuple[int | None, int]
) -> None:
    got = await asked(whole(reported(prompt, completion)), STREAM)
    assert got == (sent(STREAM) if tokens[0] is None else tokens[0], tokens[1])


async def test_a_usage_of_fewer_tokens_than_half_of_what_passed() -> None:
    events = chat_events(*WORDS * 4, usage=False)[1:-2]
    assert await asked(whole(reported(9, 5, events)), STREAM) == (9, 30)


async def test_a_document_of_kilobytes_that_is_said_to_have_no_output() -> None:
    body = {**CHAT_REPLY, "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 2000}}]}
    body["usage"] = {"prompt_tokens": 9, "completion_tokens": 0}
    assert await asked([reply(body)], ASK) == (9, 200)
    unlimited = {**ASK, "max_tokens": None}
    assert await asked([reply(body)], unlimited) == (9, -(-len(json.dumps(body).encode()) // 4))


@pytest.mark.parametrize("ending", [RESET, CLOSE], ids=["reset", "close"])
async def test_a_stream_that_breaks(ending: Any) -> None:
    assert await asked(stream(chat_events(*WORDS)[:5], ending), STREAM) == (sent(STREAM), 4)


async def test_an_error_after_tokens() -> None:
    error = b'data: {"error":{"message":"cuda out of memory","code":500}}\n\n'
    assert await asked(stream([*chat_events(*WORDS)[:4], error]), STREAM) == (sent(STREAM), 3)


async def test_a_stream_that_stalls() -> None:
    got = await asked(stream(chat_events(*WORDS)[:3], HOLD), STREAM, timeouts=Timeouts(idle_s=0.1))
    assert got == (sent(STREAM), 2)


@pytest.mark.parametrize("body", [STREAM, ASK], ids=["stream", "document"])
async def test_an_upstream_that_keeps_us_waiting_has_read_its_input(body: dict[str, Any]) -> None:
    hasty = Timeouts(first_token_s=0.1, total_s=0.1)
    assert await asked([HOLD], body, timeouts=hasty) == (sent(body), 0)


async def test_a_document_that_breaks_half_way() -> None:
    whole_reply = reply(CHAT_REPLY)
    head = whole_reply.index(b"\r\n\r\n") + 4
    assert await asked([whole_reply[: head + 40], RESET], ASK) == (sent(ASK), 10)


# who leaves


async def left(up: ScriptedUpstream, spillway: Proxy, path: str, body: dict[str, Any], seen: bytes) -> None:
    """Ask, read as far as `seen`, and leave."""
    reader, writer = await spillway.connect()
    writer.write(request_bytes("POST", path, json.dumps(body).encode()))
    await asyncio.wait_for(up.arrived.get(), 5)
    if seen:
        await reader.readuntil(seen)
    writer.close()
    await asyncio.wait_for(up.closed_at.get(), 5)


def named(kind: str, **body: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n".encode()


STARTED = named(
    "message_start", message={"usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1}}
)
BLOCK = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
TEXTS = [named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS]
OPENED = named("response.created", response={"status": "in_progress", "usage": None})
DELTAS = [named("response.output_text.delta", delta=word) for word in WORDS]
MESSAGE = {**STREAM, "max_tokens": 50}
RESPONSE = {"model": "m", "input": "hi there", "stream": True}

LEAVERS = {
    "chat": (CHAT, STREAM, chat_events(*WORDS)[:7], b'"six"', (sent(STREAM), 6)),
    "messages": (MESSAGES, MESSAGE, [STARTED, BLOCK, *TEXTS], b'"six"', (30, 6)),
    "responses": (RESPONSES, RESPONSE, [OPENED, *DELTAS], b'"six"', (sent(RESPONSE), 6)),
    "before the first token": (CHAT, STREAM, chat_events()[:1], b"", (sent(STREAM), 0)),
    "before the head": (CHAT, STREAM, [], b"", (sent(STREAM), 0)),
    "a document": (CHAT, ASK, [], b"", (sent(ASK), 0)),
}


@pytest.mark.parametrize("who", LEAVERS)
async def test_a_client_that_leaves(who: str) -> None:
    path, body, events, seen, tokens = LEAVERS[who]
    script = stream(events, HOLD) if events else [HOLD]
    async with scripted(script) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        await left(up, spillway, path, body, seen)
        assert charged(spillway) == tokens


async def test_a_client_that_leaves_after_the_usage_pays_what_was_reported() -> None:
    events = [event for event in chat_events(*WORDS) if b"[DONE]" not in event]
    ask = {**STREAM, "stream_options": {"include_usage": True}}
    async with scripted(stream(events, HOLD)) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        await left(up, spillway, CHAT, ask, b'"usage"')
        assert (spillway.counted("input_tokens"), spillway.counted("output_tokens")) == (7, len(WORDS))
        assert spillway.counted("estimated_attempts") == 0
        assert spillway.counted("nano_usd") > 0


# what has been learned, what costs nothing


async def test_a_stream_is_cut_at_as_many_tokens_as_its_events_have_had_before() -> None:
    scripts = [whole(reported(9, 3 * len(WORDS)))] * 60
    async with scripted(*scripts, stream(chat_events(*WORDS)[:5], HOLD)) as up:
        async with proxy(snapshot_of(shared("api", up.url))) as spillway:
            for _ in scripts:
                await spillway.post(CHAT, STREAM)
                await up.arrived.get()
            assert spillway.counted("estimated_attempts") == 0
            before = spillway.counted("output_tokens")
            await left(up, spillway, CHAT, STREAM, b'"four"')
            assert spillway.counted("output_tokens") - before == 3 * 4


FULL = reply({"error": {"message": "full", "type": "rate_limit_error"}}, "429 Too Many Requests")
FAULT = reply({"error": {"message": "no", "type": "server_error"}}, "500 Internal Server Error")
BUSY = b'data: {"error": {"message": "busy", "type": "Service Unavailable", "param": null, "code": 503}}\n\n'


@pytest.mark.parametrize("answer", [[FULL], [FAULT], [RESET], whole([BUSY])], ids=["full", "fault", "reset", "busy"])
async def test_an_upstream_that_did_not_answer_costs_nothing(answer: Script) -> None:
    async with scripted(answer) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        await spillway.post(CHAT, STREAM)
        assert spillway.counted("attempts") == 1
        assert spillway.counted("nano_usd") == spillway.counted("input_tokens") == 0
