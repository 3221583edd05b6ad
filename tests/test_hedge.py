"""Hedging over the wire: a copy of what is slow to begin, of which the client sees one answer and the ledger both."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy.hedge import as_copy, copies
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.hedge import Hedge
from proxy.policy.model import Budget, Cap, Per, Route, Snapshot, Target, Timeouts
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Cause, Plan
from proxy.signals.hedging import LEAST_SAMPLES
from proxy.telemetry.records import Record

from tests.harness import Proxy, Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
    HOLD,
    RESET,
    STREAM_HEAD,
    Script,
    ScriptedUpstream,
    chat_events,
    chat_stream,
    chunked,
    reply,
    scripted,
)

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
HEDGED = Route(name="default", hedge=Hedge(budget_share=1.0))
PATIENCE_S = 10.0
LET_GO_S = 0.25
REJECTED = reply({"error": {"message": "no", "type": "x", "code": "x"}}, "400 Bad Request")
FAULT = reply({"error": {"message": "oops"}}, "500 Internal Server Error")


class Told:
    """What the relay records, beside who is told otherwise."""

    def __init__(self, spillway: Proxy) -> None:
        self._relay = spillway.spillway._relay
        self._others, self._relay._telemetry = self._relay._telemetry, self
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)
        self._others.record(record)

    async def last(self) -> list[tuple[str, Cause, Failure | None]]:
        """The attempts of the last request, once it is over."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.records:
                await asyncio.sleep(0)
        ended = self.records[-1].outcomes
        return [(one.attempt.target.name, one.attempt.cause, one.failure) for one in ended]


def policy(*targets: Target, route: Route = HEDGED) -> Snapshot:
    return snapshot_of(*targets, routes=(route,))


@contextlib.asynccontextmanager
async def hedging(
    gpu: Script, api: Script, **more: Any
) -> AsyncIterator[tuple[Proxy, ScriptedUpstream, ScriptedUpstream]]:
    """A proxy between a dedicated target and a shared one, on a route that hedges."""
    async with scripted(gpu) as own, scripted(api) as cloud:
        snapshot = policy(dedicated("gpu", own.url), shared("api", cloud.url), route=more.pop("route", HEDGED))
        async with proxy(snapshot, **more) as spillway:
            yield spillway, own, cloud


def said(got: Reply) -> str:
    chunks = [json.loads(event) for event in got.events if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


async def metrics(spillway: Proxy) -> str:
    return (await spillway.get("/metrics", admin=True)).body.decode()


async def test_a_copy_answers_for_a_slow_engine_and_the_engine_is_let_go() -> None:
    async with hedging([HOLD], [chat_stream("from ", "api")]) as (spillway, own, cloud):
        told = Told(spillway)
        got = await spillway.post(CHAT, STREAM)
        ended_at = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            let_go_at = await own.closed_at.get()
        assert said(got) == "from api"
        assert got.events[-1] == "[DONE]"
        assert got.headers["x-spillway-target"] == "api"
        assert got.headers["x-spillway-attempts"] == "2"
        assert got.headers["x-spillway-reason"].startswith("hedged: no token from gpu in ")
        assert let_go_at < ended_at + LET_GO_S
        assert await told.last() == [("gpu", Cause.PREFERRED, Failure.OUTRUN), ("api", Cause.HEDGE, None)]
        assert json.loads(own.requests[0].body)["messages"] == json.loads(cloud.requests[0].body)["messages"]
        counted = {name: spillway.counted(name) for name in ("requests", "attempts", "failures", "fallbacks")}
        assert counted == {"requests": 1, "attempts": 2, "failures": 0, "fallbacks": 0}
        text = await metrics(spillway)
    assert 'spillway_hedges_total{from="gpu",result="won",to="api"} 1.0' in text
    assert 'outcome="ok",reason="hedge"' in text
    assert "spillway_retries_total{" not in text
    assert 'spillway_upstream_cancel_seconds_count{lane="dedicated"} 1.0' in text


async def test_the_loser_has_used_its_prompt_and_is_charged_for_it() -> None:
    async with hedging([HOLD], [chat_stream("a")]) as (spillway, _, _):
        told = Told(spillway)
        await spillway.post(CHAT, STREAM)
        await told.last()
        gpu, api = told.records[0].outcomes
    assert (gpu.usage.estimated, api.usage.estimated) == (True, False)
    assert gpu.usage.input_tokens == told.records[0].facts.input_tokens > 0
    assert gpu.usage.output_tokens == 0


async def test_the_first_attempt_may_still_win() -> None:
    answer = asyncio.Event()
    async with hedging([answer, chat_stream("own")], [HOLD]) as (spillway, _, cloud):
        told = Told(spillway)
        asked = asyncio.create_task(spillway.post(CHAT, STREAM))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            answer.set()
            got = await asked
            answered_at = time.monotonic()
            let_go_at = await cloud.closed_at.get()
        assert said(got) == "own"
        assert got.headers["x-spillway-target"] == "gpu"
        assert got.headers["x-spillway-attempts"] == "2"
        assert let_go_at < answered_at + LET_GO_S
        assert await told.last() == [("api", Cause.HEDGE, Failure.OUTRUN), ("gpu", Cause.PREFERRED, None)]
        # The provider has read the prompt, and bills it.
        copy = told.records[0].charges[0]
        assert copy.nano_usd > 0
        assert copy.usage.estimated
        assert 'spillway_hedges_total{from="gpu",result="lost",to="api"} 1.0' in await metrics(spillway)


async def test_not_a_byte_of_the_loser_reaches_the_client() -> None:
    """The slow one has sent its opening event, which is no content, when the copy answers; later it goes on."""
    opening, *rest = chat_events("own", "own")
    go_on = asyncio.Event()
    slow: Script = [STREAM_HEAD + chunked(opening), go_on, *(chunked(event) for event in rest), HOLD]
    async with hedging(slow, [chat_stream("api", "api")]) as (spillway, _, cloud):
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            head = await reader.readuntil(b"\r\n\r\n")
            go_on.set()
            body = await reader.readuntil(b"[DONE]")
        writer.close()
    assert head.count(b"HTTP/1.1 200") == 1
    assert b"x-spillway-target: api" in head
    assert b"own" not in body
    assert body.count(b'"api"') == 2


async def test_a_fast_engine_is_not_copied() -> None:
    async with hedging([chat_stream("own")], [HOLD]) as (spillway, _, cloud):
        for _ in range(5):
            got = await spillway.post(CHAT, STREAM)
            assert (said(got), got.headers["x-spillway-attempts"]) == ("own", "1")
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("route", "ask"),
    [(Route(name="default"), STREAM), (HEDGED, ASK)],
    ids=["a route that does not", "a document, whose first token nobody sees"],
)
async def test_nothing_else_is_copied(route: Route, ask: dict[str, Any]) -> None:
    answer = asyncio.Event()
    wire = chat_stream("own") if "stream" in ask else reply(CHAT_REPLY)
    async with hedging([answer, wire], [HOLD], route=route) as (spillway, own, cloud):
        asked = asyncio.create_task(spillway.post(CHAT, ask))
        await own.arrived.get()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cloud.arrived.get(), 0.2)
        answer.set()
        assert (await asked).headers["x-spillway-attempts"] == "1"
    assert cloud.requests == []


async def test_a_first_attempt_that_fails_leaves_the_race_to_its_copy() -> None:
    fail, answer = asyncio.Event(), asyncio.Event()
    async with hedging([fail, FAULT], [answer, chat_stream("api")]) as (spillway, _, cloud):
        told = Told(spillway)
        asked = asyncio.create_task(spillway.post(CHAT, STREAM))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            fail.set()
            while spillway.counted("attempts") == 0:
                await asyncio.sleep(0)
            answer.set()
            got = await asked
        assert said(got) == "api"
        assert await told.last() == [("gpu", Cause.PREFERRED, Failure.FAULTED), ("api", Cause.HEDGE, None)]


@pytest.mark.parametrize(
    ("script", "failure"), [([RESET], Failure.BROKEN), ([REJECTED], Failure.REJECTED)], ids=["reset", "rejected"]
)
async def test_a_copy_that_fails_leaves_the_race_to_the_first(script: Script, failure: Failure) -> None:
    answer = asyncio.Event()
    async with hedging([answer, chat_stream("own")], script) as (spillway, _, _):
        told = Told(spillway)
        asked = asyncio.create_task(spillway.post(CHAT, STREAM))
        async with asyncio.timeout(PATIENCE_S):
            while spillway.counted("attempts") == 0:
                await asyncio.sleep(0)
            answer.set()
            got = await asked
        assert said(got) == "own"
        assert await told.last() == [("api", Cause.HEDGE, failure), ("gpu", Cause.PREFERRED, None)]
        assert 'spillway_hedges_total{from="gpu",result="failed",to="api"} 1.0' in await metrics(spillway)


async def test_when_both_fail_the_plan_goes_on_where_neither_was() -> None:
    fail = asyncio.Event()
    async with (
        scripted([fail, FAULT]) as own,
        scripted([fail, FAULT]) as cloud,
        scripted([chat_stream("third")]) as last,
    ):
        route = replace(HEDGED, max_failovers=2)
        snapshot = policy(dedicated("gpu", own.url), shared("api", cloud.url), shared("last", last.url), route=route)
        async with proxy(snapshot) as spillway:
            told = Told(spillway)
            asked = asyncio.create_task(spillway.post(CHAT, STREAM))
            async with asyncio.timeout(PATIENCE_S):
                await cloud.arrived.get()
                fail.set()
                got = await asked
            attempts = await told.last()
    assert said(got) == "third"
    assert got.headers["x-spillway-attempts"] == "3"
    assert [(name, cause) for name, cause, _ in attempts][-1] == ("last", Cause.FALLBACK)
    assert {name for name, _, _ in attempts[:2]} == {"gpu", "api"}


async def test_a_copy_is_the_failover_that_a_route_allows() -> None:
    fail = asyncio.Event()
    async with (
        scripted([fail, FAULT]) as own,
        scripted([fail, FAULT]) as cloud,
        scripted([chat_stream("third")]) as last,
    ):
        snapshot = policy(dedicated("gpu", own.url), shared("api", cloud.url), shared("last", last.url))
        async with proxy(snapshot) as spillway:
            asked = asyncio.create_task(spillway.post(CHAT, STREAM))
            async with asyncio.timeout(PATIENCE_S):
                await cloud.arrived.get()
                fail.set()
                got = await asked
    assert got.status == 502
    assert last.requests == []


async def test_what_no_target_could_mend_ends_the_race() -> None:
    answer = asyncio.Event()
    async with hedging([answer, REJECTED], [HOLD]) as (spillway, _, cloud):
        told = Told(spillway)
        asked = asyncio.create_task(spillway.post(CHAT, STREAM))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            answer.set()
            got = await asked
            await cloud.closed_at.get()
        assert got.status == 400
        assert await told.last() == [("api", Cause.HEDGE, Failure.OUTRUN), ("gpu", Cause.PREFERRED, Failure.REJECTED)]


@pytest.mark.parametrize("direct", [True, False])
async def test_a_client_that_leaves_ends_both(direct: bool) -> None:
    async with hedging([HOLD], [HOLD], direct=direct) as (spillway, own, cloud):
        told = Told(spillway)
        _, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            writer.close()
            left_at = time.monotonic()
            closed_at = [await own.closed_at.get(), await cloud.closed_at.get()]
        assert max(closed_at) < left_at + LET_GO_S
        attempts = await told.last()
        assert {(name, failure) for name, _, failure in attempts} == {
            ("gpu", Failure.CLIENT_LEFT),
            ("api", Failure.CLIENT_LEFT),
        }


async def test_deadlines_hold_for_each_of_the_two() -> None:
    soon = Timeouts(first_token_s=0.2)
    async with scripted([HOLD]) as own, scripted([HOLD]) as cloud:
        snapshot = policy(dedicated("gpu", own.url, timeouts=soon), shared("api", cloud.url, timeouts=soon))
        async with proxy(snapshot) as spillway:
            told = Told(spillway)
            async with asyncio.timeout(PATIENCE_S):
                got = await spillway.post(CHAT, STREAM)
            attempts = await told.last()
    assert got.status == 504
    assert attempts == [
        ("gpu", Cause.PREFERRED, Failure.FIRST_TOKEN_TIMEOUT),
        ("api", Cause.HEDGE, Failure.FIRST_TOKEN_TIMEOUT),
    ]


async def test_one_of_two_that_wait_keeps_the_client_comforted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.forward.KEEP_ALIVE_S", 0.1)
    async with hedging([HOLD], [HOLD]) as (spillway, _, cloud):
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            begun_at = time.monotonic()
            for _ in range(4):
                await reader.readuntil(b": keep-alive")
            took_s = time.monotonic() - begun_at
        writer.close()
    # A tenth of a second apart: two who spoke would be through in half the time.
    assert took_s > 0.25


async def test_of_a_stream_that_was_pinged_the_winner_still_has_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.forward.KEEP_ALIVE_S", 0.05)
    answer = asyncio.Event()
    async with hedging([HOLD], [answer, chat_stream("api")]) as (spillway, own, cloud):
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        async with asyncio.timeout(PATIENCE_S):
            await cloud.arrived.get()
            head = await reader.readuntil(b": keep-alive")
            answer.set()
            rest = await reader.readuntil(b"[DONE]")
            await own.closed_at.get()
        writer.close()
    assert (head + rest).count(b"HTTP/1.1") == 1
    assert b'"api"' in rest


async def test_no_more_are_copied_than_the_routes_share_of_them() -> None:
    route = Route(name="default", hedge=Hedge(budget_share=0.1))
    answer = asyncio.Event()
    async with hedging([answer, chat_stream("own")], [HOLD], route=route) as (spillway, own, cloud):
        asked = [asyncio.create_task(spillway.post(CHAT, STREAM)) for _ in range(15)]
        async with asyncio.timeout(PATIENCE_S):
            for _ in asked:
                await own.arrived.get()
            # Of fifteen a tenth and one: after twice the time that makes one late.
            for _ in range(2):
                await cloud.arrived.get()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(cloud.arrived.get(), 0.2)
            answer.set()
            replies = await asyncio.gather(*asked)
    assert {said(one) for one in replies} == {"own"}
    assert len(cloud.requests) == 2


async def test_a_copy_takes_of_the_retry_budget() -> None:
    async with hedging([HOLD], [chat_stream("api")]) as (spillway, _, _):
        budget = spillway.spillway._relay._budget
        while budget.withdraw(time.monotonic()):
            pass
        asked = asyncio.create_task(spillway.post(CHAT, STREAM))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asked), 0.2)
        asked.cancel()


async def test_a_provider_that_is_slower_than_it_was_is_copied_to_the_engine() -> None:
    route = replace(HEDGED, max_failovers=0)
    async with scripted([HOLD]) as cloud, scripted([chat_stream("own")]) as own:
        snapshot = policy(shared("api", cloud.url), dedicated("gpu", own.url), route=route)
        async with proxy(snapshot) as spillway:
            hedges = spillway.spillway._relay._hedging
            first = Attempt(
                target=snapshot.targets["api"], replica=0, model="up", ordinal=0, cause=Cause.PREFERRED, reason=""
            )
            for _ in range(LEAST_SAMPLES):
                hedges.observe(first, 0.06)
            got = await spillway.post(CHAT, {**STREAM}, {"x-spillway-lane": "auto"})
    assert got.headers["x-spillway-target"] == "gpu"


async def test_races_leave_nothing_for_the_garbage_collector() -> None:
    """Copied and not, won and lost: what is in a cycle is freed only by a full collection, which stops every stream."""
    async with hedging([HOLD], [chat_stream("api")], max_in_flight=64) as (spillway, own, _):
        await spillway.post(CHAT, STREAM)
        await own.closed_at.get()
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await spillway.post(CHAT, STREAM)
                await own.closed_at.get()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("proxy.")}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    # A connection and its parser know each other, as after every attempt that is ended early.
    assert left <= {"Connection"}


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedStore(tmp_path) as store:
        yield store.url


async def test_a_copy_is_held_against_hard_budgets_and_its_hold_let_go(store_url: str) -> None:
    answer = asyncio.Event()
    cap = Budget(name="cap", caps=(Cap(10**9, Per.TOTAL),))
    async with scripted([answer, chat_stream("own")]) as own, scripted([HOLD]) as cloud:
        snapshot = replace(policy(dedicated("gpu", own.url), shared("api", cloud.url)), budgets=(cap,))
        async with proxy(snapshot, store_url=store_url) as spillway:
            told = Told(spillway)
            (term,) = spillway.spillway._metering.purse.funds(0.0).terms_named("cap")
            asked = asyncio.create_task(spillway.post(CHAT, STREAM))
            async with asyncio.timeout(PATIENCE_S):
                await cloud.arrived.get()
                assert term.held > 0
                answer.set()
                await asked
                await told.last()
            assert term.held == 0
            assert term.used == told.records[0].charges[0].nano_usd > 0


async def test_where_a_hard_budget_has_no_money_there_is_no_copy(store_url: str) -> None:
    answer = asyncio.Event()
    cap = Budget(name="cap", caps=(Cap(1, Per.TOTAL),))
    async with scripted([answer, chat_stream("own")]) as own, scripted([HOLD]) as cloud:
        snapshot = replace(policy(dedicated("gpu", own.url), shared("api", cloud.url)), budgets=(cap,))
        async with proxy(snapshot, store_url=store_url) as spillway:
            asked = asyncio.create_task(spillway.post(CHAT, STREAM))
            await own.arrived.get()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(cloud.arrived.get(), 0.2)
            answer.set()
            got = await asked
    assert said(got) == "own"
    assert cloud.requests == []


def test_a_copy_goes_to_the_other_lane_first_and_never_to_the_same_target() -> None:
    own, twin, api = dedicated("own", "http://a/v1", "http://b/v1"), dedicated("twin", "http://c/v1"), shared("api")
    places = [(own, 0), (twin, 0), (api, 0), (own, 1)]
    attempts = tuple(
        Attempt(target=target, replica=replica, model="m", ordinal=index, cause=Cause.FALLBACK, reason="")
        for index, (target, replica) in enumerate(places)
    )
    plan = Plan(route="r", attempts=attempts)
    assert [one.target.name for one in copies(plan)] == ["api", "twin"]
    copy = as_copy(attempts[2], attempts[0], 0.412)
    assert (copy.cause, copy.ordinal, copy.reason) == (Cause.HEDGE, 1, "hedged: no token from own in 412 ms")
