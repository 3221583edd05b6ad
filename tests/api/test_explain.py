"""`POST /admin/explain` on a running proxy: its policy, its readings, and questions that cannot be answered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from typing import Any

import msgspec
import pytest
from proxy.api.explain import MAX_BODY_BYTES, Explainer, moved
from proxy.policy.model import (
    Budget,
    Candidate,
    Cap,
    Exhausted,
    Limits,
    Match,
    Objective,
    Per,
    Route,
    Rules,
    Schedule,
    Snapshot,
    Tenant,
)
from proxy.routing.decide import Router
from proxy.routing.explain.explained import Explanation
from proxy.routing.facts import Facts
from proxy.routing.readings import NO_OUTLOOK, Fund, Load, Outlook, Rate, Reading, Readings
from starlette.requests import Request
from tests.harness import Proxy, Reply, dedicated, proxy, shared, snapshot_of
from tests.scripted import HOLD, scripted

GPU = dedicated("gpu", "http://127.0.0.1:1/v1", max_in_flight=1)
API = shared("api", "http://127.0.0.1:1/v1")


async def post(spillway: Proxy, body: Any) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await spillway.send("POST", "/admin/explain", raw, port=spillway.admin_port)


async def asked(policy: Snapshot, body: Any) -> Reply:
    async with proxy(policy) as spillway:
        return await post(spillway, body)


def read(reply: Reply) -> Explanation:
    assert reply.status == 200, reply.body
    return msgspec.json.decode(reply.body, type=Explanation)


async def test_it_tells_where_a_request_would_go() -> None:
    found = read(await asked(snapshot_of(GPU, API), {"request": {"model": "m"}}))
    assert [(one.target, one.planned) for one in found.targets] == [("gpu", True), ("api", True)]
    assert found.policy == "d" * 12
    assert found.summary.startswith("Goes to `gpu` (dedicated): ")


async def test_it_uses_what_the_proxy_sees_at_the_moment() -> None:
    async with scripted([HOLD]) as up:
        policy = snapshot_of(dedicated("gpu", up.url, max_in_flight=1), API)
        async with proxy(policy) as spillway:
            waiting = asyncio.create_task(spillway.post("/v1/chat/completions", {"model": "m"}))
            await up.arrived.get()
            found = read(await post(spillway, {"request": {"model": "m"}}))
            waiting.cancel()
    assert found.targets[0].target == "api"
    assert found.targets[1].observed[0].in_flight == 1
    assert "it is full, with 1 of 1 in flight" in found.summary


async def test_readings_may_be_made_up_and_the_others_stay() -> None:
    body = {"request": {"model": "m"}, "readings": {"gpu": {"full": "5s", "in_flight": 0}}}
    found = read(await asked(snapshot_of(GPU, API), body))
    gpu = found.targets[1]
    assert gpu.target == "gpu"
    assert gpu.out is not None
    assert gpu.out.rule == "engine_full"
    assert gpu.observed[0].full_for_s == pytest.approx(5.0)
    assert found.targets[0].observed[0].seen


async def test_rates_may_be_made_up() -> None:
    route = Route(name="default", require=Rules(limits=Limits(rpm=5)))
    body = {"request": {"model": "m"}, "rates": {"route:default": {"requests": 5, "frees_in": "2s"}}}
    found = read(await asked(snapshot_of(GPU, routes=(route,)), body))
    assert found.refusal is not None
    assert (found.refusal.status, found.refusal.retry_after_s) == (429, 2.0)


async def test_rates_are_those_of_the_moment_where_none_are_made_up() -> None:
    route = Route(name="default", require=Rules(limits=Limits(rpm=5)), want=Rules(limits=Limits(rpm=3)))
    router = Router(snapshot_of(GPU, routes=(route,)))
    live = {"route:default": Rate(requests=4), "want.route:default": Rate(requests=1)}
    explainer = Explainer(lambda: router, Unobserved(), rates=lambda now: live)

    async def used(**more: Any) -> list[tuple[str, int]]:
        body = json.dumps({"request": {"model": "m"}, **more}).encode()

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        answer = await explainer.answer(Request({"type": "http", "method": "POST", "headers": []}, receive))
        return [(one.rule, one.used) for one in msgspec.json.decode(bytes(answer.body), type=Explanation).rates]

    assert await used() == [("require.rpm", 4), ("want.rpm", 1)]
    assert await used(rates={"route:default": {"requests": 2}}) == [("require.rpm", 2), ("want.rpm", 2)]


async def test_budgets_may_be_made_up_and_the_others_are_those_of_the_moment() -> None:
    def current() -> Router:
        return router

    caps = (Cap(5 * 10**9, Per.DAY),)
    budgets = (Budget(name="a", caps=caps), Budget(name="b", caps=caps, exhausted=Exhausted.REJECT))
    router = Router(replace(snapshot_of(GPU, API), budgets=budgets))
    live = {"a": Fund(free_nano_usd=1, limit_nano_usd=5 * 10**9, per=Per.DAY)}
    explainer = Explainer(current, Unobserved(), lambda now: live)

    async def purses(body: Any) -> list[tuple[str, int | None, bool]]:
        sent = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

        async def receive() -> Any:
            return next(sent)

        answer = await explainer.answer(Request({"type": "http", "method": "POST", "headers": []}, receive))
        found = msgspec.json.decode(bytes(answer.body), type=Explanation)
        return [(one.budget, one.free_nano_usd, one.over) for one in found.budgets]

    request = {"model": "m"}
    assert await purses({"request": request}) == [("a", 1, True), ("b", None, False)]
    spent = {"request": request, "budgets": {"b": "exhausted"}}
    assert await purses(spent) == [("a", 1, True), ("b", 0, True)]
    richer = {"request": request, "budgets": {"a": {"spent": 0}}}
    assert await purses(richer) == [("a", 5 * 10**9, False), ("b", None, False)]


class Unobserved:
    def read(self, candidates: tuple[Candidate, ...], now: float) -> Readings:
        return {}

    def outlook(self, facts: Facts, candidates: tuple[Candidate, ...], readings: Readings, now: float) -> Outlook:
        return NO_OUTLOOK


async def test_a_request_that_names_no_time_comes_now() -> None:
    never = Route(name="never", match=Match(schedule=Schedule(zone=UTC, days=frozenset())))
    always = Route(name="always", match=Match(schedule=Schedule(zone=UTC)))
    policy = snapshot_of(GPU, routes=(never, always))
    now = read(await asked(policy, {"request": {"model": "m"}}))
    then = read(await asked(policy, {"request": {"model": "m", "at": "2026-01-05T12:00Z"}}))
    assert now.request.at_s > then.request.at_s == 1_767_614_400
    assert [one.route for one in now.passed_over] == ["never"]


async def test_tenants_keys_and_their_tags() -> None:
    policy = snapshot_of(GPU, bank=Tenant(name="bank", tags=frozenset({"gdpr"})))
    found = read(await asked(policy, {"request": {"model": "m", "tenant": "bank"}}))
    assert (found.request.tenant, found.request.tags) == ("bank", ("gdpr",))


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, "invalid_json", "not a valid JSON object"),
        (b"[]", 400, "invalid_json", "not a valid JSON object"),
        (b'{"request": {}, "request": {}}', 400, "duplicate_member", "`request` is repeated"),
        ({}, 400, "invalid_request", "`model` is missing (hint: write the name that apps ask for"),
        ({"request": []}, 400, "invalid_request", "`request` must be an object"),
        ({"reqest": {}}, 400, "invalid_request", "unknown member `reqest` (hint: did you mean `request`?)"),
        ({"request": {"model": "mm"}}, 400, "invalid_request", "unknown model `mm`"),
        ({"request": {"model": "m", "tennant": "x"}}, 400, "invalid_request", "did you mean `tenant`?"),
        ({"request": {"model": "m"}, "readings": {"gpuu": {}}}, 400, "invalid_request", "did you mean `gpu`?"),
        ({"request": {"model": "m"}, "budgets": {"cap": "exhausted"}}, 400, "invalid_request", "unknown budget `cap`"),
        (
            {"request": {"model": "m"}, "readings": {"gpu": {"in_flight": -1}}},
            400,
            "invalid_request",
            "readings.gpu.in_flight",
        ),
        ({"request": {"model": "m", "tags": ["x" * MAX_BODY_BYTES]}}, 413, "request_too_large", str(MAX_BODY_BYTES)),
    ],
)
async def test_what_cannot_be_answered_says_why(body: Any, status: int, code: str, words: str) -> None:
    got = await asked(snapshot_of(GPU, API), body)
    assert (got.status, got.json["error"]["code"]) == (status, code)
    assert words in got.json["error"]["message"]
    assert got.headers["x-request-id"]


async def test_asking_the_wrong_way_or_on_the_data_port() -> None:
    async with proxy(snapshot_of(GPU)) as spillway:
        wrong = await spillway.get("/admin/explain", admin=True)
        elsewhere = await spillway.post("/admin/explain", {"request": {"model": "m"}})
    assert (wrong.status, wrong.json["error"]["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "POST")
    assert (elsewhere.status, elsewhere.json["error"]["code"]) == (404, "unknown_url")


async def test_asking_leaves_nothing_behind() -> None:
    async with proxy(snapshot_of(GPU, API)) as spillway:
        before = await spillway.get("/metrics", admin=True)
        for _ in range(3):
            await post(spillway, {"request": {"model": "m"}})
        after = await spillway.get("/metrics", admin=True)
    assert counted(before) == counted(after)


def counted(reply: Reply) -> list[bytes]:
    return [line for line in reply.body.splitlines() if line.startswith((b"spillway_requests", b"spillway_inflight"))]


def test_readings_are_moved_to_another_clock() -> None:
    reading = Reading(target="gpu", replica=0, as_of=10.0, full_until=12.0)
    (got,) = moved({"gpu": (reading,)}, 100.0)["gpu"]
    assert (got.as_of, got.full_until, got.open_until, got.paced_until) == (110.0, 112.0, 0.0, 0.0)


def test_what_a_replica_was_last_sent_moves_along() -> None:
    reading = Reading(target="gpu", replica=0, as_of=10.0, load=Load(queued_tokens=5, begun_at=10.0))
    (got,) = moved({"gpu": (reading,)}, 100.0)["gpu"]
    assert got.load == Load(queued_tokens=5, begun_at=110.0)


async def test_work_may_be_made_up_and_what_is_predicted_of_it_is_told() -> None:
    route = Route(name="default", want=Rules(objectives=(Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=2.0),)))
    asked_for = {"request": {"model": "m"}, "readings": {"gpu": {"queued_tokens": "40k", "decoding": 38}}}
    found = read(await asked(snapshot_of(GPU, API, routes=(route,)), asked_for))
    assert found.first is not None
    assert found.first.target == "api"
    (gpu,) = [one for one in found.targets if one.target == "gpu"]
    work = gpu.observed[0].work
    assert work is not None
    assert (work.waiting, work.queued_tokens, work.decoding) == (1, 40_000, 38)
    assert gpu.out is not None
    assert found.first.places[0].reason == (
        f"spilled: predicted ttft {work.ttft_s:.2f} s > 1.8 s (queue 40k tokens, 38 streams) on gpu"
    )
