"""What survives another policy, what goes with the one before, and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
from dataclasses import replace

import pytest
from proxy.meters.aggregates import tally
from proxy.policy.model import Route, Snapshot, Target
from proxy.policy.problem import Problem
from proxy.policy.watch import Unfit
from proxy.routing.decide import Router

from tests.harness import Proxy, dedicated, proxy, read_reply, request_bytes, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
    HOLD,
    LAST_CHUNK,
    STREAM_HEAD,
    chat_events,
    chunked,
    reply,
    scripted,
)
from tests.wire import wire

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = json.dumps({**ASK, "stream": True}).encode()
NOWHERE = "http://127.0.0.1:1/v1"
EVENTS = [chunked(event) for event in chat_events("a", "b")]


def policy(letter: str, *targets: Target, route: str = "default") -> Snapshot:
    """A policy whose digest is made of one letter."""
    return replace(snapshot_of(*targets, routes=(Route(name=route),)), digest=letter * 64)


async def metric(spillway: Proxy, line: str) -> float:
    exposition = (await spillway.get("/metrics", admin=True)).body.decode()
    (found,) = [row for row in exposition.splitlines() if row.startswith(f"spillway_{line} ")]
    return float(found.split()[-1])


async def test_the_next_request_is_served_by_the_new_policy_and_it_is_shown() -> None:
    async with scripted([reply(CHAT_REPLY)]) as one, scripted([reply(CHAT_REPLY)]) as two:
        async with proxy(policy("a", dedicated("gpu", one.url))) as spillway:
            first = await spillway.post(CHAT, ASK)
            spillway.spillway.adopt(Router(policy("b", dedicated("tpu", two.url), route="other")))
            second = await spillway.post(CHAT, ASK)
            assert await metric(spillway, "policy_generation") == 2
            assert await metric(spillway, 'policy_info{revision="bbbbbbbbbbbb"}') == 1
            assert await metric(spillway, 'upstream_state{replica="0",target="tpu"}') == 0
            ready = (await spillway.get("/readyz", admin=True)).json
            assert await metric(spillway, "policy_loaded_timestamp_seconds") == ready["policy"]["loaded_at"]
    shown = ("x-spillway-policy", "x-spillway-route", "x-spillway-target")
    assert [first.headers[name] for name in shown] == ["a" * 12, "default", "gpu"]
    assert [second.headers[name] for name in shown] == ["b" * 12, "other", "tpu"]
    assert (ready["policy"]["revision"], ready["policy"]["generation"]) == ("b" * 12, 2)


async def test_a_stream_ends_by_the_policy_that_it_began_by_and_its_connection_after_it() -> None:
    go = asyncio.Event()
    script = [STREAM_HEAD + b"".join(EVENTS[:2]), go, b"".join(EVENTS[2:]) + LAST_CHUNK, HOLD]
    async with scripted(script) as one, scripted([reply(CHAT_REPLY)]) as two:
        async with proxy(policy("a", dedicated("gpu", one.url))) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, STREAM))
            await asyncio.wait_for(one.arrived.get(), 5)
            spillway.spillway.adopt(Router(policy("b", dedicated("tpu", two.url))))
            assert (await spillway.post(CHAT, ASK)).headers["x-spillway-target"] == "tpu"
            assert one.closed_at.empty()
            go.set()
            got = await asyncio.wait_for(read_reply(reader), 5)
            await asyncio.wait_for(one.closed_at.get(), 5)
            writer.close()
    assert (got.headers["x-spillway-policy"], got.headers["x-spillway-target"]) == ("a" * 12, "gpu")
    assert got.events[-1] == "[DONE]"


async def test_what_was_observed_of_a_target_survives() -> None:
    go = asyncio.Event()
    async with scripted([go, reply(CHAT_REPLY)]) as up:
        async with proxy(policy("a", dedicated("gpu", up.url))) as spillway:
            first = asyncio.create_task(spillway.post(CHAT, ASK))
            await asyncio.wait_for(up.arrived.get(), 5)
            spillway.spillway.adopt(Router(policy("b", dedicated("gpu", up.url, max_in_flight=1))))
            assert await metric(spillway, 'inflight_requests{replica="0",target="gpu"}') == 1
            full = await spillway.post(CHAT, ASK)
            go.set()
            assert (await first).status == 200
            assert await metric(spillway, 'inflight_requests{replica="0",target="gpu"}') == 0
            assert (await spillway.post(CHAT, ASK)).status == 200
            totals = spillway.spillway.ledger.totals()
    assert full.json["error"]["code"] == "at_capacity"
    assert [tally(counts)["requests"] for counts in totals.values()] == [2]
    assert up.connections == 1


async def test_policies_that_were_replaced_are_let_go() -> None:
    """Idle connections of callers, the relay's ready-made headers and the readings all knew them once."""
    async with scripted([reply(CHAT_REPLY)]) as up:

        def router(letter: str) -> Router:
            return Router(replace(policy(letter, dedicated("gpu", up.url)), source=up.url))

        async with proxy(router("a").snapshot) as spillway, contextlib.AsyncExitStack() as connections:
            for number in range(12):
                spillway.spillway.adopt(router(f"{number:x}"))
                client = await connections.enter_async_context(wire(spillway.port))
                await client.send(request_bytes("POST", CHAT, json.dumps(ASK).encode()))
                assert (await client.reply()).status == 200
            spillway.spillway.adopt(router("f"))
            await spillway.get("/metrics", admin=True)
            assert len(spillway.spillway._relay.headers._known) <= 1
            kept = {one.digest[0] for one in gc.get_objects() if type(one) is Snapshot and one.source == up.url}
    assert kept <= {"a", "f"}  # the first is the server's own


async def test_a_refused_text_is_told_once_counted_and_forgotten_when_all_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems = tuple(Problem("policy.yaml", line, 1, "is wrong") for line in (3, 4))
    async with proxy(policy("a", dedicated("gpu", NOWHERE))) as spillway:
        with caplog.at_level(logging.INFO, "proxy.app"):
            spillway.spillway.refuse(Unfit(problems, "e" * 12))
            assert spillway.spillway.policy.error is not None
            assert await metric(spillway, "policy_reload_failures_total") == 1
            spillway.spillway.restore()
            assert spillway.spillway.policy.error is None
            spillway.spillway.adopt(Router(policy("b", dedicated("gpu", NOWHERE))))
    assert [record.message for record in caplog.records if record.name == "proxy.app"] == [
        "policy aaaaaaaaaaaa serves on, the new text has mistakes: policy.yaml:3:1: is wrong (and 1 more)",
        "policy aaaaaaaaaaaa serves on, and is on the disk again",
        "policy bbbbbbbbbbbb serves, generation 2, after aaaaaaaaaaaa",
    ]
