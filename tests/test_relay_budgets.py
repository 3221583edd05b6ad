"""Money and the relay: what is cut, what is bounded, what is refused or served otherwise, as the client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.model import Budget, Candidate, Cap, Enforce, Exhausted, Per, Price, Snapshot, Target

from tests.harness import Proxy, Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
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

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
USD = 10**9
PATIENCE_S = 10.0


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    """A store of one's own: money is leased, and without one there is none."""
    with EmbeddedStore(tmp_path) as store:
        yield store.url


def budget(limit: int = USD, **given: Any) -> Budget:
    return Budget(**{"name": "cap", "caps": (Cap(limit, Per.TOTAL),), **given})


def policy(one: Budget, *targets: Target) -> Snapshot:
    return replace(snapshot_of(*targets), budgets=(one,))


def with_small(one: Budget, *targets: Target, small: Target) -> Snapshot:
    """A policy with another model to fall back on."""
    plain = policy(one, *targets)
    return replace(
        plain,
        targets={**plain.targets, small.name: small},
        models={**plain.models, "small": (Candidate(target=small, model="tiny"),)},
    )


def code(got: Reply) -> str:
    return str(got.json["error"]["code"])


def spent(spillway: Proxy) -> tuple[int, int]:
    """What this process has charged the budget, and holds of it."""
    (term,) = spillway.spillway._metering.purse.funds(0.0).terms_named("cap")
    return term.used, term.held


async def idle(spillway: Proxy) -> None:
    """Until nothing is held any more."""
    async with asyncio.timeout(PATIENCE_S):
        while spent(spillway)[1]:
            await asyncio.sleep(0)


def named(kind: str, **body: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n".encode()


WORDS = 2000
STARTED = named("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}})
BLOCK = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
ENDLESS = {
    "chat": (CHAT, STREAM, chat_events(*["word"] * WORDS)[:-3]),
    "messages": (
        MESSAGES,
        STREAM | {"max_tokens": 50_000},
        [
            STARTED,
            BLOCK,
            *[named("content_block_delta", index=0, delta={"type": "text_delta", "text": "word"})] * WORDS,
        ],
    ),
    "responses": (
        RESPONSES,
        {"model": "m", "input": "hi", "stream": True},
        [
            named("response.created", response={"status": "in_progress", "usage": None}),
            *[named("response.output_text.delta", delta="word")] * WORDS,
        ],
    ),
}
NEEDED = 400_000
"""Nano-dollars for the input's bound and a first step at the harness's price, with a little to spare."""
SMALL_CAP = 8 * NEEDED
"""Of which an eighth is leased at first."""


FEW = 10


async def last_chunk(reader: asyncio.StreamReader) -> bytes:
    """All that follows, to the end of the reply."""
    read = b""
    while not read.endswith(b"\r\n0\r\n\r\n"):
        more = await reader.read(1 << 16)
        assert more
        read += more
    return read


@pytest.mark.parametrize("protocol", ENDLESS)
async def test_a_stream_is_cut_when_its_budget_is_used_up(protocol: str, store_url: str) -> None:
    path, ask, events = ENDLESS[protocol]
    begun = asyncio.Event()
    chunks = [chunked(event) for event in events]
    async with scripted([STREAM_HEAD, *chunks[:FEW], begun, *chunks[FEW:], HOLD]) as up:
        async with proxy(policy(budget(SMALL_CAP), shared("api", up.url)), store_url=store_url) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", path, json.dumps(ask).encode()))
            seen = await asyncio.wait_for(reader.readuntil(b"word"), PATIENCE_S)
            begun.set()
            rest = await asyncio.wait_for(last_chunk(reader), PATIENCE_S)
            await asyncio.wait_for(up.closed_at.get(), PATIENCE_S)
            used, held = spent(spillway)
            writer.close()
    assert seen.startswith(b"HTTP/1.1 200")
    last = json.loads([line for line in rest.split(b"\n") if line.startswith(b"data: ")][-1][6:])
    if protocol == "messages":
        assert last == {"type": "error", "error": {"type": "rate_limit_error", "message": last["error"]["message"]}}
    else:
        assert last["error"]["code"] == "budget_exceeded"
    assert "used up" in last["error"]["message"]
    assert held == 0
    assert used > 0


async def test_a_stream_that_gets_money_in_time_goes_on(store_url: str) -> None:
    """More than what is leased at first, and less than the budget: syncs bring it while the stream runs."""
    events = [chunked(event) for event in chat_events(*["word"] * 300)]
    more = asyncio.Event()
    script: Script = [STREAM_HEAD, *events[:40], more, *events[40:], b"0\r\n\r\n"]
    async with scripted(script) as up:
        async with proxy(policy(budget(16 * NEEDED), shared("api", up.url)), store_url=store_url) as spillway:
            asking = asyncio.create_task(spillway.post(CHAT, STREAM))
            await up.arrived.get()
            (term,) = spillway.spillway._metering.purse.funds(0.0).terms_named("cap")
            async with asyncio.timeout(PATIENCE_S):
                while term.granted < 1_000_000:
                    await asyncio.sleep(0.01)
            more.set()
            got = await asking
    assert got.events[-1] == "[DONE]"
    assert got.body.count(b"word") == 300


@pytest.mark.parametrize(
    ("path", "ask", "member"),
    [
        (CHAT, ASK, "max_tokens"),
        (CHAT, ASK | {"max_completion_tokens": 100_000}, "max_completion_tokens"),
        (RESPONSES, {"model": "m", "input": "hi"}, "max_output_tokens"),
    ],
)
async def test_a_reply_in_one_piece_is_told_its_bound(
    path: str, ask: dict[str, Any], member: str, store_url: str
) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(budget(100_000_000), shared("api", up.url)), store_url=store_url) as spillway:
            assert (await spillway.post(path, ask)).status == 200
    bound = up.requests[0].json[member]
    assert 256 <= bound <= (50_000 if "max_completion_tokens" in ask else 8192)
    assert not {"max_tokens", "max_completion_tokens", "max_output_tokens"} - {member} & up.requests[0].json.keys()


async def test_a_bound_that_the_caller_set_and_can_pay_stays_as_it_is(store_url: str) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(budget(), shared("api", up.url)), store_url=store_url) as spillway:
            await spillway.post(CHAT, ASK | {"max_tokens": 77})
    assert up.requests[0].json == ASK | {"max_tokens": 77, "model": "up"}


@pytest.mark.parametrize("enforce", [Enforce.SOFT, Enforce.SHADOW], ids=str)
async def test_only_hard_budgets_change_what_is_sent(enforce: Enforce, store_url: str) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(budget(enforce=enforce), shared("api", up.url)), store_url=store_url) as spillway:
            await spillway.post(CHAT, ASK)
            assert spent(spillway) == (11_000, 0)
    assert up.requests[0].json == ASK | {"model": "up"}


async def test_what_a_spent_budget_does_not_cover_still_serves(store_url: str) -> None:
    async with scripted([reply(CHAT_REPLY)]) as api, scripted([reply(CHAT_REPLY)]) as gpu:
        given = policy(budget(1), shared("api", api.url), dedicated("gpu", gpu.url))
        async with proxy(given, store_url=store_url) as spillway:
            got = await spillway.post(CHAT, ASK)
    assert (got.status, got.headers["x-spillway-target"]) == (200, "gpu")
    assert api.requests == []


async def test_a_refusal_for_want_of_money_is_not_worth_a_retry(store_url: str) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(budget(1), shared("api", up.url)), store_url=store_url) as spillway:
            got = await spillway.post(CHAT, ASK)
    assert (got.status, code(got)) == (429, "budget_exceeded")
    assert got.headers["x-should-retry"] == "false"
    assert got.headers["x-spillway-reason"] == "refused: budget:cap"
    assert up.requests == []


async def test_without_the_store_a_hard_budget_is_closed_and_may_be_tried_again() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(budget(), shared("api", up.url))) as spillway:
            got = await spillway.post(CHAT, ASK)
    assert (got.status, code(got)) == (429, "budget_unavailable")
    assert got.headers["x-should-retry"] == "true"


async def test_another_model_is_served_and_the_reason_given(store_url: str) -> None:
    one = budget(1, exhausted=Exhausted.DOWNGRADE, downgrade="small", models=frozenset({"m"}))
    async with scripted([reply(CHAT_REPLY)]) as api, scripted([reply(CHAT_REPLY)]) as mini:
        given = with_small(one, shared("api", api.url), small=shared("mini", mini.url))
        async with proxy(given, store_url=store_url) as spillway:
            got = await spillway.post(CHAT, ASK)
            assert spillway.counted("requests") == 1
            (name,) = spillway.spillway.ledger.totals()
    assert (got.status, got.headers["x-spillway-target"]) == (200, "mini")
    assert got.headers["x-spillway-reason"].startswith("downgraded: budget:cap")
    assert mini.requests[0].json["model"] == "tiny"
    assert api.requests == []
    assert "small" in name


async def test_a_failover_that_cannot_be_paid_for_is_not_tried(
    store_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is leased is enough by the estimate that was decided on, and not by the bound that has to be set aside."""
    dear = Price(input_nano_usd_per_mtok=1_400_000_000_000, output_nano_usd_per_mtok=2_800_000_000_000)
    async with scripted([RESET]) as gpu, scripted([reply(CHAT_REPLY)]) as api:
        given = policy(budget(5 * USD), dedicated("gpu", gpu.url), shared("api", api.url, price=dear))
        async with proxy(given, store_url=store_url) as spillway:
            got = await spillway.post(CHAT, ASK)
            assert spent(spillway) == (0, 0)
    assert '"plan":["gpu","api"]' in capfd.readouterr().out
    assert got.status == 502
    assert len(gpu.requests) == 1
    assert api.requests == []


async def test_a_failover_is_paid_like_a_first_attempt(store_url: str) -> None:
    async with scripted([RESET]) as one, scripted([reply(CHAT_REPLY)]) as two:
        given = policy(budget(), shared("one", one.url), shared("two", two.url))
        async with proxy(given, store_url=store_url) as spillway:
            got = await spillway.post(CHAT, ASK)
            assert spent(spillway) == (spillway.counted("nano_usd"), 0)
    assert (got.status, got.headers["x-spillway-target"]) == (200, "two")


async def test_who_leaves_gives_back_what_was_held_and_pays_what_was_used(store_url: str) -> None:
    script = [STREAM_HEAD, *[chunked(event) for event in chat_events("a", "b", "c")[:4]], HOLD]
    async with scripted(script) as up:
        async with proxy(policy(budget(), shared("api", up.url)), store_url=store_url) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
            await reader.readuntil(b'"c"')
            assert spent(spillway)[1] > 0
            writer.close()
            await asyncio.wait_for(up.closed_at.get(), PATIENCE_S)
            await idle(spillway)
            used, _ = spent(spillway)
            assert used == spillway.counted("nano_usd")
            assert used > 3 * 2000


async def test_an_upstream_that_refuses_costs_nothing(store_url: str) -> None:
    busy = reply({"error": {"message": "busy"}}, "503 Service Unavailable")
    async with scripted([busy]) as up:
        async with proxy(policy(budget(), shared("api", up.url)), store_url=store_url) as spillway:
            assert (await spillway.post(CHAT, ASK)).status == 503
            assert spent(spillway) == (0, 0)


async def test_a_request_larger_than_what_is_leased_is_served_once_it_was_asked_for(store_url: str) -> None:
    large = {**ASK, "messages": [{"role": "user", "content": "x" * 1_400_000}], "stream": True}
    async with scripted([chat_stream("a")]) as up:
        async with proxy(policy(budget(5 * USD), shared("api", up.url)), store_url=store_url) as spillway:
            async with asyncio.timeout(PATIENCE_S):
                while (got := await spillway.post(CHAT, large)).status != 200:
                    assert got.status == 429
                    await asyncio.sleep(0.05)
    assert got.events[-1] == "[DONE]"
