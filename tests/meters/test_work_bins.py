"""The work that is asked for, in bins, summed over all proxies in a real store, and read back whole."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.meters.demand_rows import AppHour, DemandHour, rows_of
from proxy.meters.part import Ask, Moment
from proxy.meters.store import Store
from proxy.meters.work_bins import ASSUMED_OUTPUT_TOKENS, MOST_HOURS, WorkBins
from proxy.meters.work_buckets import bucket_of
from proxy.meters.work_pools import Pools
from proxy.policy.model import Candidate, Endpoint, Key, Route, Snapshot, Tenant
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Exclusion, Plan, Refusal
from proxy.routing.work import work_us
from tests.meters import examples
from tests.meters.examples import ROUTE, facts, outcome

LLAMA = replace(examples.LLAMA, native=frozenset({Endpoint.CHAT}))
TOGETHER = replace(examples.TOGETHER, native=frozenset({Endpoint.CHAT}))
SNAPSHOT = Snapshot(
    digest="0" * 64,
    source="test",
    targets={"llama-eu": LLAMA, "together": TOGETHER},
    models={
        "llama-70b": (Candidate(target=LLAMA, model="llama"), Candidate(target=TOGETHER, model="llama")),
        "support": (Candidate(target=LLAMA, model="support-lora"),),
        "elsewhere": (Candidate(target=TOGETHER, model="llama"),),
    },
    routes=(Route(name=ROUTE),),
)
ROUTER = Router(SNAPSHOT)
BIN_S = 3.0
USAGE = Usage(input_tokens=1000, output_tokens=100)
ONE_US = work_us(USAGE)
BY_ANYBODY = facts()
FULL = Refusal(
    status=503, code="at_capacity", message="full", rule="capacity", route=ROUTE,
    excluded=(Exclusion("llama-eu", "ttft", "predicted 3 s", "1.8 s", False),),
)  # fmt: skip
UNAUTHORIZED = Refusal(status=401, code="invalid_api_key", message="no", rule="auth")


def plan_of(done: Outcome) -> Plan:
    return Plan(route=ROUTE, attempts=(done.attempt,))


class Proxy:
    """One process: it syncs at times of the store's clock that the test chooses, `began_s` being zero on its own."""

    def __init__(self, name: str, store: Store, began_s: float, *, close_s: float = 900.0) -> None:
        self.name, self.began_s = name, began_s
        self._store = store
        pools = Pools(SNAPSHOT, ROUTER.lawful_set)
        self.part = WorkBins(lambda: pools, began_s * 1000.0, close_s=close_s)

    def asks(self, at_s: float, usage: Usage = USAGE, by: Facts = BY_ANYBODY) -> None:
        done = outcome(LLAMA, usage)
        self.part.note(by, plan_of(done), [done], at_s - self.began_s)

    def moment(self, at_s: float, *, last: bool = False) -> Moment:
        return Moment(self.name, at_s - self.began_s, int(at_s * 1000), last)

    async def push(self, at_s: float, *, heard: bool = True, last: bool = False) -> Ask | None:
        moment = self.moment(at_s, last=last)
        ask = self.part.ask(moment)
        head, replies = await self._store.exchange(moment, [] if ask is None else [(self.part.name, ask)])
        for reply in replies:
            if heard:
                self.part.told(reply, head, moment)
            else:
                self.part.unheard(moment)
        return ask


async def read(store: Store, from_s: float, to_s: float) -> tuple[list[DemandHour], list[AppHour]]:
    _, hours = await store.demand(int(from_s // 3600) * 3600, int(to_s))
    rows = [row for hour in hours for row in rows_of(hour)]
    return [row for row in rows if isinstance(row, DemandHour)], [row for row in rows if isinstance(row, AppHour)]


def noon_today() -> float:
    """The beginning of an hour, the latest that is long past."""
    return (time.time() // 3600 - 3) * 3600.0


def counted(row: DemandHour) -> dict[int, int]:
    return {bucket: count for bucket, count in enumerate(row.bins) if count}


async def test_the_bins_of_two_proxies_are_summed_before_they_are_counted(store: Store) -> None:
    noon = noon_today()
    one, two = Proxy("one", store, noon - 1000.0), Proxy("two", store, noon - 77.7)
    for at_s in (noon + 0.5, noon + 2.9, noon + 3.1):
        one.asks(at_s)
    two.asks(noon + 1.0)
    two.asks(noon + 9.0)
    await one.push(noon + 10.0)
    await two.push(noon + 10.1)
    (bins,), (app,) = await read(store, noon, noon + 1)
    assert (bins.target, bins.model, bins.bin_ms) == ("llama-eu", "", 3000)
    assert counted(bins) == {bucket_of(3 * ONE_US, 3000): 1, bucket_of(ONE_US, 3000): 2}
    assert app.sums["requests"] == 5
    assert app.sums["work_us"] == 5 * ONE_US
    assert app.sums["shared_nano_usd"] == 5 * 1100 * 880


async def test_an_hour_is_closed_into_the_same_histogram_that_was_read_of_it_while_it_was_open(
    store: Store, raw: Any, namespace: str
) -> None:
    noon, now = noon_today(), time.time()
    one = Proxy("one", store, now - 9000.0, close_s=3600.0)
    draw = random.Random(7)
    for _ in range(3000):
        usage = Usage(input_tokens=draw.randrange(1, 8000), output_tokens=draw.randrange(1, 900))
        one.asks(noon + draw.random() ** 3 * 3600.0, usage)
    await one.push(now)
    before, apps = await read(store, noon, noon + 1)
    closing = Proxy("two", store, now - 9000.0, close_s=0.0)
    await raw.zadd(
        f"{{{namespace}}}:2:workbins", dict.fromkeys(await raw.zrange(f"{{{namespace}}}:2:workbins", 0, -1), 1)
    )
    await closing.push(now)
    assert await raw.zcard(f"{{{namespace}}}:2:workbins") == 0
    assert [key for key in await raw.keys(f"{{{namespace}}}*") if "workbins" in key] == []
    assert await read(store, noon, noon + 1) == (before, apps)
    (key,) = await raw.keys(f"{{{namespace}}}:2:demand:*")
    size = sum(len(name) + len(value) for name, value in (await raw.hgetall(key)).items())
    assert size < 1024
    assert 399 * 86_400 < await raw.ttl(key) <= 400 * 86_400


async def test_what_was_not_answered_is_sent_again_and_counted_once(store: Store) -> None:
    noon = noon_today()
    one = Proxy("one", store, noon)
    one.asks(noon + 1.0)
    first = await one.push(noon + 2.0, heard=False)
    one.asks(noon + 2.0)
    again = await one.push(noon + 2.2, heard=False)
    assert first is not None and again is not None
    assert first.argument == again.argument
    await one.push(noon + 2.4)
    await one.push(noon + 2.6)
    (bins,), (app,) = await read(store, noon, noon + 1)
    assert app.sums["requests"] == 2
    assert counted(bins) == {bucket_of(2 * ONE_US, 3000): 1}


async def test_what_came_late_from_several_is_added_up_before_it_is_closed(store: Store) -> None:
    noon, now = noon_today(), time.time()
    one, two = Proxy("one", store, now - 9e3), Proxy("two", store, now - 9e3)
    one.asks(noon + 1.0)
    await one.push(now)
    two.asks(noon + 2.0)
    await two.push(now)
    (bins,), _ = await read(store, noon, noon + 1)
    assert counted(bins) == {bucket_of(2 * ONE_US, 3000): 1}


async def test_after_a_wipe_it_goes_on_from_there(store: Store, raw: Any, namespace: str) -> None:
    noon = noon_today()
    one = Proxy("one", store, noon)
    for second in (1.0, 2.0):
        one.asks(noon + second)
        await one.push(noon + second + 0.1)
    await raw.delete(*await raw.keys(f"{{{namespace}}}*"))
    one.asks(noon + 3.5)
    await one.push(noon + 4.0)
    _, (app,) = await read(store, noon, noon + 1)
    assert app.sums["requests"] == 1


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.floats(0.0, 7300.0),
            st.integers(0, 20_000),
            st.integers(0, 4_000),
            st.integers(0, 9_000),
            st.sampled_from(["llama-70b", "support", "elsewhere"]),
        ),
        max_size=20,
    ),
    answered=st.lists(st.booleans(), max_size=40),
)
async def test_no_work_is_lost_or_made(
    asked: list[Any], answered: list[bool], store: Store, raw: Any, namespace: str
) -> None:
    await raw.delete(f"{{{namespace}}}:2:members", *await raw.keys(f"{{{namespace}}}*"))
    noon = noon_today()
    proxies = [Proxy(name, store, noon - 5.0) for name in ("one", "two", "three")]
    answers = iter(answered)
    total = 0
    for who, at_s, into, out, hit, model in asked:
        usage = Usage(input_tokens=into, output_tokens=out, cached_input_tokens=hit)
        proxies[who].asks(noon + at_s, usage, facts(model))
        total += work_us(usage)
        await proxies[who].push(noon + 7300.0, heard=next(answers, True))
    for proxy in proxies * 2:
        await proxy.push(noon + 7400.0, last=True)
    _, apps = await read(store, noon, noon + 10_800.0)
    assert sum(app.sums.get("work_us", 0) for app in apps) == total
    assert sum(app.sums["requests"] for app in apps) == sum(1 for _, _, into, out, *_ in asked if into or out)
    _, hours = await store.demand(int(noon), int(noon) + 10_800)
    opened = [bins for hour in hours for bins in hour.open_bins.values()]
    works = sum(work for bins in opened for (work,) in struct.iter_unpack(">q", bins))
    assert works == total


async def test_what_was_refused_for_lack_of_room_is_wanted_too(store: Store) -> None:
    noon = noon_today()
    one = Proxy("one", store, noon)
    asking = msgspec.structs.replace(facts(), input_tokens=1000)
    one.part.note(asking, FULL, [], 1.0)
    await one.push(noon + 1.0)
    one.asks(noon + 2.0)
    await one.push(noon + 2.0)
    one.part.note(asking, FULL, [], 3.0)
    one.part.note(asking, UNAUTHORIZED, [], 3.0)
    full = outcome(LLAMA, Usage(), failure=Failure.FULL)
    one.part.note(asking, plan_of(full), [full], 3.0)
    broken = outcome(LLAMA, Usage(), failure=Failure.CONNECT)
    one.part.note(asking, plan_of(broken), [broken], 3.0)
    await one.push(noon + 4.0)
    _, (app,) = await read(store, noon, noon + 1)
    assert app.sums["refused_requests"] == 3
    assert app.sums["output_tokens"] == ASSUMED_OUTPUT_TOKENS + 100 + 100 + 100
    assert app.sums["refused_work_us"] == app.sums["work_us"] - ONE_US


async def test_work_without_a_shared_price_is_told_apart(store: Store) -> None:
    noon = noon_today()
    one = Proxy("one", store, noon)
    tenant = Tenant(name="bank|1")
    one.asks(noon, by=facts("support", tenant, Key(tenant=tenant, name="bank|1/app")))
    await one.push(noon + 1.0)
    (bins,), (app,) = await read(store, noon, noon + 1)
    assert (app.tenant, app.key, app.asked, app.target) == ("bank|1", "bank|1/app", "support", "llama-eu")
    assert app.sums["captive_work_us"] == app.sums["work_us"] == ONE_US
    assert "shared_nano_usd" not in app.sums
    assert sum(bins.bins) == 1


def test_while_the_store_is_away_what_is_kept_is_bounded(store: Store) -> None:
    one = Proxy("one", store, 0.0)
    for hour in range(MOST_HOURS + 5):
        one.asks(hour * 3600.0)
    assert one.part.dropped_hours == 5
    ask = one.part.ask(one.moment(3600.0 * MOST_HOURS, last=True))
    assert ask is not None
    assert ask.argument.count(b'"hour"') == MOST_HOURS


async def test_from_when_on_it_was_watched(store: Store) -> None:
    empty, _ = await store.demand(0, 3600)
    assert empty.from_s == empty.to_s
    now = time.time()
    await Proxy("one", store, now).push(now)
    watched, hours = await store.demand(int(now // 3600) * 3600, int(now) + 3600)
    assert hours == []
    assert now - 60.0 < watched.from_s <= watched.to_s < now + 60.0


def test_of_several_attempts_the_one_that_answered_is_the_work() -> None:
    pools = Pools(SNAPSHOT, ROUTER.lawful_set)
    part = WorkBins(lambda: pools, 0.0)
    answered = outcome(LLAMA, USAGE)
    outrun = outcome(TOGETHER, Usage(input_tokens=1000, output_tokens=3), failure=Failure.CLIENT_LEFT)
    part.note(BY_ANYBODY, plan_of(answered), [msgspec.structs.replace(outrun, committed=False)], 0.0)
    part.note(BY_ANYBODY, plan_of(answered), [answered, msgspec.structs.replace(outrun, committed=False)], 0.0)
    ask = part.ask(Moment("one", 0.0, None, last=True))
    assert ask is not None
    assert b'"llama-70b":"2,2000,0,103,' in ask.argument.replace(b"anonymous||", b"")
