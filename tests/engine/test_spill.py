"""An engine with room for two and a burst of many: everybody is answered, and what spilled says so."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine.asks import GENERATING, of_length
from tests.engine.fixtures import StartSpillway, client
from tests.engine.replies import events
from tests.engine.spillway import Spillway, until
from tests.engine.vllm import Engine

BURST = 24
TOKENS = 60

DEDICATED_THEN = """
version: 1
targets:
  small:
    lane: dedicated
    engine: vllm
    url: {url}
    model: tiny
    gpus: {{type: CPU, count: 1, usd_per_hour: 1.20}}
  elsewhere:
    lane: shared
    {shared}
    price: {{input: 0.50, output: 1.50}}
models:
  tiny: [small, elsewhere]
"""


async def burst(
    spillway: Spillway, asks: list[tuple[str, dict[str, Any]]], *, at_once: int = BURST
) -> list[httpx.Response]:
    """The replies to all of these requests, so many of them in flight at any time."""
    headers = {"authorization": f"Bearer {proxies.KEY}"}
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(
        base_url=spillway.url, headers=headers, timeout=httpx.Timeout(60, pool=None), limits=limits, trust_env=False
    ) as http:
        return await asyncio.gather(*[http.post(path, json=body) for path, body in asks])


def assert_whole(reply: httpx.Response) -> None:
    """The reply is a success from beginning to end."""
    assert reply.status_code == 200, reply.text
    if not reply.headers["content-type"].startswith("text/event-stream"):
        assert "error" not in reply.json() or reply.json()["error"] is None
        return
    stream = events(reply.content)
    assert not [event for event in stream if event.get("event") == "error" or "error" in event["data"]]
    last = stream[-1]
    assert last["data"] == "[DONE]" or last["data"]["type"] in {"message_stop", "response.completed"}


def assert_all_answered_and_accounted_for(spillway: Spillway, replies: list[httpx.Response]) -> None:
    """100 % answered, none failed; each spilled one is marked in header, log and metric, with a reason.

    A request spills when the engine refuses it (`full`), or refused another a moment ago (`engine_full`).
    """
    for reply in replies:
        assert_whole(reply)
    spilled = [reply for reply in replies if reply.headers["x-spillway-lane"] == "shared"]
    kept = [reply for reply in replies if reply.headers["x-spillway-lane"] == "dedicated"]
    assert spilled
    assert kept
    for reply in spilled:
        assert reply.headers["x-spillway-target"] == "elsewhere"
        assert reply.headers["x-spillway-reason"].startswith("engine full: small")
        *refused, last = spillway.record_of(reply.headers["x-request-id"])["attempts"]
        assert (last["target"], last["cause"], last["failure"]) == ("elsewhere", "spillover", None)
        assert last["reason"] == reply.headers["x-spillway-reason"]
        assert last["nano_usd"] > 0
        for first in refused:
            assert (first["target"], first["failure"], first["committed"]) == ("small", "full", False)
            assert first["output_tokens"] == 0
    for reply in kept:
        (only,) = spillway.record_of(reply.headers["x-request-id"])["attempts"]
        assert (only["target"], only["failure"], only["nano_usd"]) == ("small", None, 0)
    labels = {"from": "small", "to": "elsewhere"}
    told = spillway.metric("spillway_spill_total", **labels, reason="full")
    known = spillway.metric("spillway_spill_total", **labels, reason="engine_full")
    assert told > 0
    assert told + known == len(spilled)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streams"])
async def test_overflow_spills_to_a_provider(
    stream: bool, small_engine: Engine, provider: str, start_spillway: StartSpillway
) -> None:
    shared = f"provider: openai\n    url: {provider}\n    model: simulated\n    api_key: ${{ENGINE_KEY}}"
    spillway = start_spillway(DEDICATED_THEN.format(url=small_engine.url, shared=shared))
    path = "/chat/completions"
    asks = [(path, of_length(path, TOKENS, stream=stream))] * BURST
    replies = await burst(spillway, asks)
    assert_all_answered_and_accounted_for(spillway, replies)


@pytest.mark.parametrize("path", GENERATING)
async def test_overflow_spills_to_another_engine(
    path: str, small_engine: Engine, engine: Engine, start_spillway: StartSpillway
) -> None:
    """Streams that arrive together pass vLLM's first look at its queue, and are refused after it has answered 200: as
    an error event on chat, completions and messages, and by a connection closed after two events on responses. All four
    count as full."""
    shared = f"provider: hosted_vllm\n    url: {engine.url}\n    model: tiny\n    api_key: ${{ENGINE_KEY}}"
    spillway = start_spillway(DEDICATED_THEN.format(url=small_engine.url, shared=shared))
    asks = [(path, of_length(path, TOKENS, stream=index % 3 > 0)) for index in range(BURST)]
    replies = await burst(spillway, asks)
    assert_all_answered_and_accounted_for(spillway, replies)


async def test_nobody_fails_while_the_engine_stays_full(
    small_engine: Engine, engine: Engine, start_spillway: StartSpillway
) -> None:
    """Being full is no failure, so that no retry budget runs out however long it lasts."""
    shared = f"provider: hosted_vllm\n    url: {engine.url}\n    model: tiny\n    api_key: ${{ENGINE_KEY}}"
    spillway = start_spillway(DEDICATED_THEN.format(url=small_engine.url, shared=shared))
    asks = [(path, of_length(path, 20, stream=stream)) for path in GENERATING for stream in (False, True)] * 20
    replies = await burst(spillway, asks, at_once=12)
    lanes = Counter(reply.headers["x-spillway-lane"] for reply in replies)
    assert lanes["shared"] > lanes["dedicated"] > 0
    assert_all_answered_and_accounted_for(spillway, replies)
    assert spillway.metric("spillway_retries_total") == 0


async def test_full_is_not_broken(small_engine: Engine, provider: str, start_spillway: StartSpillway) -> None:
    """The engine is used again as soon as it has room: being full opens no breaker."""
    shared = f"provider: openai\n    url: {provider}\n    model: simulated\n    api_key: ${{ENGINE_KEY}}"
    spillway = start_spillway(DEDICATED_THEN.format(url=small_engine.url, shared=shared))
    path = "/chat/completions"
    await burst(spillway, [(path, of_length(path, TOKENS, stream=True))] * BURST)
    with client(spillway.url, proxies.KEY) as http:

        def is_back() -> bool:
            return http.post(path, json=of_length(path, 2)).headers["x-spillway-lane"] == "dedicated"

        until(is_back, "an engine that was full is not used again", 2)


async def test_caller_who_insists_on_dedicated_is_told_to_come_back(
    small_engine: Engine, provider: str, start_spillway: StartSpillway
) -> None:
    shared = f"provider: openai\n    url: {provider}\n    model: simulated\n    api_key: ${{ENGINE_KEY}}"
    spillway = start_spillway(DEDICATED_THEN.format(url=small_engine.url, shared=shared))
    headers = {"authorization": f"Bearer {proxies.KEY}", "x-spillway-lane": "dedicated"}
    async with httpx.AsyncClient(base_url=spillway.url, headers=headers, timeout=60, trust_env=False) as http:
        path = "/chat/completions"
        replies = await asyncio.gather(*[http.post(path, json=of_length(path, TOKENS)) for _ in range(8)])
    refused = [reply for reply in replies if reply.status_code != 200]
    assert refused
    assert len(refused) < len(replies)
    for reply in refused:
        assert (reply.status_code, int(reply.headers["retry-after"]) > 0) == (429, True)
        assert reply.json()["error"]["message"]
