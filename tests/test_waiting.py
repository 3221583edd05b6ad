"""Waiting for room: who is next, what ends a wait, and what clients, logs and metrics see of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.caller import FixedHeaders, Listener
from proxy.policy.model import Match, Priority, Route, Rules, Tenant, Traffic
from proxy.routing.facts import Facts
from proxy.routing.idle import NOT_IDLE, SPARE
from proxy.routing.plan import Decision, Plan, Refusal
from proxy.upstream.base import RawHeaders
from proxy.waiting import Patience, Waited, WaitingRoom, lacks_room, patience_of

from tests.harness import Proxy, Reply, dedicated, proxy, request_bytes, shared, snapshot_of
from tests.scripted import CHAT_REPLY, Script, ScriptedUpstream, chat_stream, reply, scripted

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
PATIENT = Route(name="default", wait_s=30.0)
FULL = NOT_IDLE
ROOM = Plan(route="r", attempts=())
PATIENCE_S = 10.0


class Caller:
    """A client that only waits."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.started = self.left = False
        self.pings = 0

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None: ...

    def write(self, data: bytes) -> bool:
        return True

    def end(self, data: bytes = b"") -> None: ...

    def ping(self) -> None:
        self.pings += 1

    def refuse(self, refusal: Refusal) -> None: ...

    def leave(self) -> None:
        self.left = True
        if self.listener is not None:
            self.listener.on_client_left()


class Desk:
    """A room, with as much room to be had as the test says, and who was let in."""

    def __init__(self, most: int = 1000) -> None:
        self.room = WaitingRoom(asyncio.get_running_loop(), most)
        self.free = 0
        self.served: list[str] = []
        self.asked: list[str] = []
        self.tasks: dict[str, asyncio.Task[Waited]] = {}

    async def come(self, name: str, rank: int = 0, *, line: str = "r", until: float = 1e9, caller: Any = None) -> None:
        """Somebody comes, and is seen to."""

        def ask(now: float, idle_only: bool) -> tuple[Decision, None]:
            self.asked.append(name)
            if not self.free:
                return FULL, None
            self.free -= 1
            self.served.append(name)
            return ROOM, None

        patience = Patience((line, "m", None, None, False), (False, rank), until)
        waiting = self.room.wait(patience, caller or Caller(), ask, stream=True, refused=False)
        self.tasks[name] = asyncio.create_task(waiting)
        await asyncio.sleep(0)

    async def sweep(self, now: float = 0.0) -> None:
        """What the deadlines do, and what comes of it: one turn of the loop for each who may follow another."""
        self.room.check(now)
        for _ in range(2 * len(self.tasks) + 2):
            await asyncio.sleep(0)

    def ended(self) -> set[str]:
        return {name for name, task in self.tasks.items() if task.done()}


async def test_who_finds_room_does_not_wait() -> None:
    desk = Desk()
    desk.free = 1
    await desk.come("a")
    assert desk.tasks["a"].result() == (ROOM, None, 0.0)
    assert len(desk.room) == 0


async def test_the_higher_priority_goes_first_and_then_who_came_first() -> None:
    desk = Desk()
    for name, priority in (("n1", 1), ("l1", 0), ("h1", 2), ("n2", 1), ("h2", 2)):
        await desk.come(name, -priority)
    assert len(desk.room) == 5
    for _ in range(5):
        desk.free, _ = 1, desk.room.stir()
        await desk.sweep()
    assert desk.served == ["h1", "h2", "n1", "n2", "l1"]
    assert len(desk.room) == 0
    assert all(task.result().waited_s > 0 for task in desk.tasks.values())


async def test_one_sweep_lets_in_as_many_as_there_is_room_for() -> None:
    desk = Desk()
    for number in range(6):
        await desk.come(f"a{number}")
    desk.free = 4
    desk.room.stir()
    await desk.sweep()
    assert desk.served == ["a0", "a1", "a2", "a3"]


async def test_only_the_first_of_a_line_asks() -> None:
    desk = Desk()
    for number in range(50):
        await desk.come(f"a{number}")
    assert desk.asked == ["a0"]
    desk.room.stir()
    await desk.sweep()
    assert desk.asked == ["a0", "a0"]
    await desk.sweep()
    assert desk.asked == ["a0", "a0"]  # nothing has happened since
    await desk.sweep(now=0.3)
    assert desk.asked == ["a0", "a0", "a0"]  # but time has passed


async def test_lines_do_not_stand_in_each_others_way() -> None:
    desk = Desk()
    await desk.come("a", line="r")
    await desk.come("b", line="s")
    await desk.come("c", line="s")
    assert desk.asked == ["a", "b"]
    desk.room.stir()
    await desk.sweep()
    assert desk.asked == ["a", "b", "a", "b"]


async def test_nobody_overtakes_but_by_a_higher_priority() -> None:
    desk = Desk()
    await desk.come("a", -1)
    desk.free = 1
    await desk.come("b", -1)
    await desk.come("low", 0)
    assert desk.served == []
    await desk.come("high", -2)
    assert desk.served == ["high"]


async def test_a_wait_ends_in_time_with_what_the_router_says_then() -> None:
    desk = Desk()
    await desk.come("late", until=5.0)
    await desk.come("later", until=6.0)
    await desk.sweep(now=4.9)
    assert desk.ended() == set()
    await desk.sweep(now=5.0)
    assert desk.ended() == {"late"}
    assert desk.tasks["late"].result().decision is FULL
    desk.free = 1
    await desk.sweep(now=6.0)
    assert desk.served == ["later"]


async def test_of_too_many_the_last_is_crowded_out() -> None:
    desk = Desk(most=3)
    for name, priority in (("n1", 1), ("l1", 0), ("l2", 0)):
        await desk.come(name, -priority)
    await desk.come("l3", 0)
    assert desk.ended() == {"l3"}
    await desk.come("h", -2)
    await desk.sweep()
    assert desk.ended() == {"l3", "l2"}
    assert desk.tasks["l2"].result().decision is FULL
    assert len(desk.room) == 3


async def test_who_is_called_and_crowded_out_at_once_does_not_wait_for_ever() -> None:
    desk = Desk(most=1)
    await desk.come("a", 0)
    desk.room.stir()
    desk.room.check(0.0)  # `a` is next, and has not heard it yet
    await desk.come("b", -1)
    await desk.sweep()
    assert desk.ended() == {"a"}


async def test_who_leaves_frees_its_place() -> None:
    desk, caller = Desk(), Caller()
    await desk.come("a", caller=caller)
    await desk.come("b")
    caller.leave()
    await desk.sweep()
    told = desk.tasks["a"].result().decision
    assert isinstance(told, Refusal)
    assert (told.status, told.rule, told.route) == (499, "client_left", "r")
    assert caller.listener is None
    desk.free = 1
    desk.room.stir()
    await desk.sweep()
    assert desk.served == ["b"]


async def test_who_waits_is_told_now_and_then_that_it_still_does(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, caller = Desk(), Caller()
    came_at = time.monotonic()
    await desk.come("a", caller=caller)
    for after_s, pings in ((9.9, 0), (10.1, 1), (15.0, 1), (20.2, 2)):
        await desk.sweep(now=came_at + after_s)
        assert caller.pings == pings


async def test_a_proxy_that_shuts_down_sends_everybody_away() -> None:
    desk = Desk()
    await desk.come("a")
    await desk.come("b")
    desk.room.close()
    await desk.sweep()
    await desk.come("c")
    for name in ("a", "b"):
        told = desk.tasks[name].result().decision
        assert isinstance(told, Refusal)
        assert (told.status, told.code, told.retryable) == (503, "shutting_down", True)
    assert desk.tasks["c"].result().decision is FULL


async def test_who_waits_no_longer_than_a_proxy_that_shuts_down_may_wait_on() -> None:
    desk, now = Desk(), time.monotonic()
    await desk.come("long", until=now + 60.0)
    await desk.come("short", until=now + 5.0)
    desk.room.close(now + 10.0)
    await desk.sweep()
    await desk.come("late and long", until=now + 60.0)
    await desk.come("late and short", until=now + 5.0)
    told = desk.tasks["long"].result().decision
    assert isinstance(told, Refusal)
    assert told.code == "shutting_down"
    assert desk.tasks["late and long"].result().decision is FULL
    assert len(desk.room) == 2
    desk.room.close(now)
    await desk.sweep()
    assert len(desk.room) == 0


async def test_a_wait_that_is_cancelled_ends_as_one_that_was_sent_away() -> None:
    desk = Desk()
    await desk.come("a")
    desk.tasks["a"].cancel()
    told = (await desk.tasks["a"]).decision
    assert isinstance(told, Refusal)
    assert told.code == "shutting_down"
    assert len(desk.room) == 0


async def test_idle_gpus_are_waited_for_until_the_deadline_is_near() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    asked: list[bool] = []

    def ask(now: float, idle_only: bool) -> tuple[Decision, None]:
        asked.append(idle_only)
        return (FULL, None) if len(asked) < 4 else (ROOM, None)

    patience = Patience(("r", "m", None, None, True), (True, -1), until=9.0, idle_until=6.0)
    waiting = asyncio.create_task(room.wait(patience, Caller(), ask, stream=False, refused=False))
    for now in (0.0, 1.0, 6.0, 7.0):
        await asyncio.sleep(0)
        room.check(now)
    assert (await waiting).decision is ROOM
    assert asked == [True, True, False, False]


EVENTS = st.one_of(
    st.tuples(st.just("come"), st.integers(0, 2), st.sampled_from("rs")),
    st.tuples(st.just("free"), st.integers(1, 3), st.just("")),
    st.tuples(st.just("leave"), st.integers(0, 9), st.just("")),
    st.tuples(st.just("pass"), st.integers(0, 4), st.just("")),
)


@settings(deadline=None, max_examples=150)
@given(events=st.lists(EVENTS, max_size=30))
def test_whatever_happens_room_finds_who_is_next_and_nobody_is_forgotten(events: list[tuple[str, int, str]]) -> None:
    asyncio.run(_played(events))


async def _played(events: list[tuple[str, int, str]]) -> None:
    """Priorities, lines, leavers and time in any order; after each sweep nobody waits while there is room."""
    desk, callers, now, freed = Desk(most=6), [Caller() for _ in events], 0.0, 0
    for number, (event, size, line) in enumerate(events):
        if event == "come":
            await desk.come(f"{number}", -size, line=line, until=now + 5.0, caller=callers[number])
        elif event == "free":
            desk.free += size
            freed += size
            desk.room.stir()
        elif event == "leave":
            callers[size % len(callers)].leave()
        else:
            now += size
        await desk.sweep(now)
        assert len(desk.room) == len(desk.tasks) - len(desk.ended()) <= 6
        assert not (desk.free and len(desk.room))
        assert desk.free + len(desk.served) == freed
    await desk.sweep(now + 5.0)
    assert desk.ended() == set(desk.tasks)
    assert len(desk.served) == len(set(desk.served))


def facts(**given: Any) -> Facts:
    return Facts(request_id="1", tenant=Tenant(name="t"), model="m", endpoint=None, **given)  # type: ignore[arg-type]


def test_a_route_says_how_long_and_who_goes_first() -> None:
    assert patience_of(Route(name="r"), facts(), 5.0) is None
    online = patience_of(PATIENT, facts(), 5.0)
    low = patience_of(PATIENT, facts(priority=Priority.LOW), 5.0)
    offline = patience_of(PATIENT, facts(traffic=Traffic.OFFLINE, priority=Priority.HIGH), 5.0)
    assert online is not None
    assert low is not None
    assert offline is not None
    assert (online.until, online.idle_until) == (35.0, None)
    assert online.rank < low.rank < offline.rank
    assert online.line == low.line == offline.line


def test_a_deadline_is_for_offline_traffic_that_has_gpus_to_wait_for() -> None:
    nightly = Route(name="r", deadline_s=600.0)
    offline = facts(traffic=Traffic.OFFLINE)
    assert patience_of(nightly, facts(), 0.0, 20.0) is None
    assert patience_of(nightly, offline, 0.0) is None
    found = patience_of(nightly, offline, 0.0, 20.0)
    assert found is not None
    assert (found.until, found.idle_until) == (600.0, 600.0 - SPARE * 20.0)


@pytest.mark.parametrize(
    ("rule", "retryable", "lacks"),
    [("capacity", True, True), ("tenant.rpm", True, False), ("model", False, False), ("capacity", False, False)],
)
def test_only_room_is_waited_for(rule: str, retryable: bool, lacks: bool) -> None:
    refusal = Refusal(status=503, code="c", message="m", rule=rule, retryable=retryable)
    assert lacks_room(refusal) is lacks
    assert not lacks_room(ROOM)


# over the wire


@contextlib.asynccontextmanager
async def one_slot(
    script: Script, route: Route = PATIENT, **tenants: Tenant
) -> AsyncIterator[tuple[Proxy, ScriptedUpstream]]:
    """An engine that takes one request at a time, and nothing else to go to."""
    async with scripted(script) as up:
        snapshot = snapshot_of(dedicated("gpu", up.url, max_in_flight=1), routes=(route,), **tenants)
        async with proxy(snapshot) as spillway:
            yield spillway, up


async def waiting(spillway: Proxy, count: int) -> None:
    """Until so many wait."""
    async with asyncio.timeout(PATIENCE_S):
        while len(spillway.spillway._relay.waiting) != count:
            await asyncio.sleep(0)


async def in_the_slot(spillway: Proxy, up: ScriptedUpstream, ask: dict[str, Any] = ASK) -> asyncio.Task[Reply]:
    """A request that has the engine to itself."""
    asked = asyncio.create_task(spillway.post(CHAT, ask))
    async with asyncio.timeout(PATIENCE_S):
        await up.arrived.get()
    return asked


@pytest.mark.parametrize("direct", [True, False])
async def test_a_request_waits_for_the_one_before_it(direct: bool, capfd: pytest.CaptureFixture[str]) -> None:
    go_on = asyncio.Event()
    async with scripted([go_on, reply(CHAT_REPLY)]) as up:
        snapshot = snapshot_of(dedicated("gpu", up.url, max_in_flight=1), routes=(PATIENT,))
        async with proxy(snapshot, direct=direct) as spillway:
            first = await in_the_slot(spillway, up)
            second = asyncio.create_task(spillway.post(CHAT, ASK))
            await waiting(spillway, 1)
            assert "spillway_waiting_requests 1.0" in (await spillway.get("/metrics", admin=True)).body.decode()
            go_on.set()
            assert [(await one).status for one in (first, second)] == [200, 200]
            metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert 'spillway_wait_seconds_count{route="default"} 1.0' in metrics
    assert "spillway_waiting_requests 0.0" in metrics
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert ["waited_ms" in line for line in lines] == [False, True]
    assert lines[1]["overhead_ms"] < lines[1]["waited_ms"] <= lines[1]["duration_ms"]


async def test_without_a_word_of_the_route_nothing_waits() -> None:
    go_on = asyncio.Event()
    async with one_slot([go_on, reply(CHAT_REPLY)], Route(name="default")) as (spillway, up):
        first = await in_the_slot(spillway, up)
        assert (await spillway.post(CHAT, ASK)).status == 503
        go_on.set()
        await first


async def test_priorities_go_first_over_the_wire() -> None:
    go_on = asyncio.Event()
    high, low = Tenant(name="high", priority=Priority.HIGH), Tenant(name="low")
    async with one_slot([go_on, reply(CHAT_REPLY)], high=high, low=low) as (spillway, up):
        first = asyncio.create_task(spillway.post(CHAT, ASK, {"authorization": "Bearer sk-low"}))
        async with asyncio.timeout(PATIENCE_S):
            await up.arrived.get()
        asked = []
        for number, tenant in enumerate(["low", "low", "high"], start=1):
            headers = {"authorization": f"Bearer sk-{tenant}", "x-request-id": f"{tenant}-{number}"}
            asked.append(asyncio.create_task(spillway.post(CHAT, ASK, headers)))
            await waiting(spillway, number)
        go_on.set()
        await asyncio.gather(first, *asked)
    assert [one.headers["x-request-id"] for one in up.requests[1:]] == ["high-3", "low-1", "low-2"]


async def test_a_wait_in_vain_ends_in_the_routers_refusal() -> None:
    go_on = asyncio.Event()
    async with one_slot([go_on, reply(CHAT_REPLY)], replace(PATIENT, wait_s=0.1)) as (spillway, up):
        first = await in_the_slot(spillway, up)
        got = await spillway.post(CHAT, ASK)
        go_on.set()
        await first
    assert (got.status, got.json["error"]["code"]) == (503, "at_capacity")
    assert "retry-after" in got.headers


async def test_a_stream_that_waits_is_kept_alive_and_told_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.waiting.KEEP_ALIVE_S", 0.05)
    go_on = asyncio.Event()
    async with one_slot([go_on, chat_stream("a")], replace(PATIENT, wait_s=0.3)) as (spillway, up):
        first = await in_the_slot(spillway, up, STREAM)
        got = await spillway.post(CHAT, STREAM)
        go_on.set()
        await first
    assert got.status == 200
    assert got.body.count(b": keep-alive") >= 2
    assert json.loads(got.events[-1])["error"]["code"] == "at_capacity"


async def test_a_client_that_leaves_while_it_waits_is_on_record(capfd: pytest.CaptureFixture[str]) -> None:
    go_on = asyncio.Event()
    async with one_slot([go_on, reply(CHAT_REPLY)]) as (spillway, up):
        first = await in_the_slot(spillway, up)
        _, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(ASK).encode()))
        await waiting(spillway, 1)
        writer.close()
        await waiting(spillway, 0)
        go_on.set()
        await first
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert len(up.requests) == 1
    assert 'spillway_client_disconnects_total{phase="waiting"} 1.0' in metrics
    assert 'outcome="client_left",reason="client_left",route="default",target="none"} 1.0' in metrics
    assert "spillway_refusals_total{" not in metrics
    (line,) = [one for one in map(json.loads, capfd.readouterr().out.splitlines()) if one.get("refusal")]
    assert line["refusal"] == {"status": 499, "code": "client_closed_request", "rule": "client_left"}


async def test_while_a_proxy_drains_nobody_waits() -> None:
    go_on = asyncio.Event()
    async with one_slot([go_on, reply(CHAT_REPLY)]) as (spillway, up):
        first = await in_the_slot(spillway, up)
        second = asyncio.create_task(spillway.post(CHAT, ASK))
        await waiting(spillway, 1)
        spillway.spillway.health.draining = True
        got = await second
        go_on.set()
        await first
    assert (got.status, got.json["error"]["code"]) == (503, "shutting_down")


async def test_waits_leave_nothing_for_the_garbage_collector() -> None:
    go_on = asyncio.Event()
    async with one_slot([go_on, reply(CHAT_REPLY)]) as (spillway, up):
        first = await in_the_slot(spillway, up)
        gc.collect()
        gc.disable()
        try:
            asked = [asyncio.create_task(spillway.post(CHAT, ASK)) for _ in range(5)]
            await waiting(spillway, 5)
            go_on.set()
            await asyncio.gather(first, *asked)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("proxy.")}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == set()


OFFLINE = {"x-spillway-traffic": "offline"}
NIGHTLY = Route(name="default", deadline_s=600.0)


async def test_offline_traffic_waits_for_the_engine_though_a_provider_has_room() -> None:
    go_on = asyncio.Event()
    async with scripted([go_on, chat_stream("own")]) as own, scripted([reply(CHAT_REPLY)]) as cloud:
        snapshot = snapshot_of(dedicated("gpu", own.url), shared("api", cloud.url), routes=(NIGHTLY,))
        async with proxy(snapshot) as spillway:
            first = await in_the_slot(spillway, own, STREAM)
            second = asyncio.create_task(spillway.post(CHAT, ASK | {"stream": True}, OFFLINE))
            await waiting(spillway, 1)
            go_on.set()
            await first
            got = await second
    assert got.headers["x-spillway-target"] == "gpu"
    assert cloud.requests == []


async def test_offline_traffic_whose_deadline_is_near_goes_where_there_is_room() -> None:
    """Nothing is predicted to take less than no time: a deadline of a tenth of a second is near at once."""
    go_on = asyncio.Event()
    async with scripted([go_on, chat_stream("own")]) as own, scripted([chat_stream("api")]) as cloud:
        gpu = dedicated("gpu", own.url, max_in_flight=1)
        route = replace(NIGHTLY, deadline_s=0.1)
        async with proxy(snapshot_of(gpu, shared("api", cloud.url), routes=(route,))) as spillway:
            first = await in_the_slot(spillway, own, STREAM)
            got = await spillway.post(CHAT, STREAM, OFFLINE)
            go_on.set()
            await first
    assert got.headers["x-spillway-target"] == "api"


async def test_online_traffic_on_such_a_route_does_not_wait() -> None:
    go_on = asyncio.Event()
    async with scripted([go_on, chat_stream("own")]) as own, scripted([chat_stream("api")]) as cloud:
        gpu = dedicated("gpu", own.url, max_in_flight=1)
        async with proxy(snapshot_of(gpu, shared("api", cloud.url), routes=(NIGHTLY,))) as spillway:
            first = await in_the_slot(spillway, own, STREAM)
            got = await spillway.post(CHAT, STREAM)
            go_on.set()
            await first
    assert got.headers["x-spillway-target"] == "api"


async def test_gates_hold_for_those_who_waited() -> None:
    go_on = asyncio.Event()
    route = Route(name="default", match=Match(), require=Rules(regions=("eu-*",)), wait_s=0.2)
    async with scripted([go_on, chat_stream("own")]) as own, scripted([chat_stream("api")]) as cloud:
        gpu = dedicated("gpu", own.url, max_in_flight=1)
        async with proxy(snapshot_of(gpu, shared("api", cloud.url), routes=(route,))) as spillway:
            first = await in_the_slot(spillway, own, STREAM)
            assert (await spillway.post(CHAT, ASK)).status == 503
            go_on.set()
            await first
    assert cloud.requests == []
