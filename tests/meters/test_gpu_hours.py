"""GPU time accrues by the store's clock, once however many ask, at the price of the moment, through every mishap."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.meters.gpu_hours import BRIDGE_S, REMEMBERED_HOURS, GpuClock, GpuTotals, replicas_by_policy
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.policy.discovery import replica_key
from proxy.policy.gpus import DnsReplicas, Gpus, TimedPrice, Tranche
from proxy.policy.schedule import Schedule
from redis import Redis
from tests.meters.examples import LLAMA, TOGETHER, asked
from tests.meters.gpu_cluster import H100, START_MS, GpuStore, Proxy, Scene, ticks
from tests.thorough import THOROUGH, examples

HOUR_MS = 3_600_000
NAME = LLAMA.name
FIRST, SECOND = (replica_key(NAME, url) for url in LLAMA.urls[:2])
OLD = START_MS - HOUR_MS
SYNC_MS = 200 if THOROUGH else 400
CALM_MS = 1000 if THOROUGH else 5000
"""How often all sync while nothing happens, and it matters little."""


@pytest.fixture(scope="module")
def client(store_url: str) -> Iterator[Redis]:
    opened = Redis.from_url(store_url)
    yield opened
    opened.close()


@pytest.fixture
def gpu_store(client: Redis) -> GpuStore:
    return GpuStore(client, secrets.token_hex(4))


def run(proxies: list[Proxy], begin_ms: int, end_ms: int, step_ms: int = SYNC_MS) -> None:
    for at_ms in ticks(begin_ms, end_ms, step_ms):
        for proxy in proxies:
            proxy.sync(at_ms)


def moment(now: float, store_ms: int | None = START_MS) -> Moment:
    return Moment("one", now, store_ms)


def question(clock: GpuClock, at: Moment) -> dict[str, Any]:
    ask = clock.ask(at)
    assert ask is not None
    (entry,) = json.loads(ask.argument)["accruals"]
    return entry


# What one process asks


def test_only_dedicated_targets_accrue_with_everything_that_is_provisioned() -> None:
    clock = GpuClock(lambda: [LLAMA, TOGETHER], dict)
    entry = question(clock, moment(100.0))
    assert entry["target"] == "llama-eu"
    assert [piece[1:] for piece in entry["pieces"]] == [[2, 0, 8, 8 * 2_990_000_000, 0]]


@pytest.mark.parametrize(
    ("in_flight", "busy"),
    [
        ({}, 0),
        ({SECOND: 1}, 1),
        ({FIRST: 9, SECOND: 0}, 1),
        ({FIRST: 1, SECOND: 5}, 2),
    ],
)
def test_a_replica_is_busy_with_one_request_or_many(in_flight: dict[str, int], busy: int) -> None:
    entry = question(GpuClock(lambda: [LLAMA], lambda: in_flight), moment(100.0))
    assert entry["pieces"][0][2] == busy


def test_several_replicas_behind_one_url_are_busy_with_a_request_each() -> None:
    three = replace(LLAMA, urls=("http://service:8000/v1",), gpus=replace(H100, replicas=3))
    busy = []
    for requests in range(5):
        clock = GpuClock(lambda: [three], lambda requests=requests: {replica_key(NAME, three.urls[0]): requests})
        busy.append(question(clock, moment(100.0))["pieces"][0][2])
    assert busy == [0, 1, 2, 3, 3]


def test_without_a_gpu_price_replicas_still_accrue() -> None:
    entry = question(GpuClock(lambda: [replace(LLAMA, gpus=None)], dict), moment(100.0))
    assert entry["pieces"][0][1:] == [2, 0, 0, 0, 0]


def test_the_count_is_the_policys_or_somebody_elses() -> None:
    assert replicas_by_policy(LLAMA) == 2
    assert replicas_by_policy(replace(LLAMA, gpus=None)) == 2
    assert replicas_by_policy(replace(LLAMA, gpus=replace(H100, replicas=5))) == 5
    assert replicas_by_policy(replace(LLAMA, gpus=replace(H100, replicas=DnsReplicas(host="vllm")))) is None


def test_nothing_is_asked_before_the_time_and_the_count_are_known() -> None:
    scene = Scene()
    scene.count = None
    clock = GpuClock(scene.fleet, scene.in_flight, scene.replicas)
    assert clock.ask(moment(1.0, None)) is None
    assert clock.ask(moment(2.0)) is None
    scene.count = 3
    assert clock.ask(moment(3.0, None)) is None
    assert question(clock, moment(4.0))["vouched_ms"] == 1000


def test_it_does_not_vouch_for_the_time_a_target_was_out_of_the_policy() -> None:
    fleet = [LLAMA]
    clock = GpuClock(lambda: fleet, dict)
    clock.ask(moment(0.0))
    fleet.clear()
    assert clock.ask(moment(100.0)) is None
    fleet.append(LLAMA)
    assert question(clock, moment(200.0))["vouched_ms"] == 0


def test_totals_subtract() -> None:
    assert GpuTotals(5, 4, 3, 2, 1) - GpuTotals(1, 1, 1, 1, 1) == GpuTotals(4, 3, 2, 1, 0)


# What accrues


def test_gpu_time_accrues_once_however_many_ask(gpu_store: GpuStore) -> None:
    scene = Scene()
    scene.requests = {FIRST: 1}
    proxies = [Proxy(gpu_store, scene) for _ in range(8)]
    run(proxies, START_MS, START_MS + 60_000)
    assert gpu_store.totals()[NAME] == GpuTotals(
        replica_ms=3 * 60_000,
        busy_replica_ms=60_000,
        gpu_ms=12 * 60_000,
        nano_usd=12 * 60_000 * 2_990_000_000 // HOUR_MS,
        busy_nano_usd=4 * 60_000 * 2_990_000_000 // HOUR_MS,
    )
    assert all(proxy.clock.totals[NAME] == gpu_store.totals()[NAME] for proxy in proxies)


def test_an_hour_gets_what_accrues_in_it_and_is_kept_for_its_time(gpu_store: GpuStore) -> None:
    proxy = Proxy(gpu_store, Scene())
    run([proxy], START_MS - 90_000, START_MS + 30_000, 7000)
    before, after = gpu_store.hours()
    assert (before, after) == ("20260930T23", "20261001T00")
    assert gpu_store.hours()[before][NAME].replica_ms == 3 * 90_000
    assert gpu_store.hours()[after][NAME].replica_ms == 3 * 30_000
    assert 399 * 86400 < gpu_store.time_to_live_s(after) <= 400 * 86400


@pytest.mark.parametrize("day", ["1970-01-01", "2024-02-29", "2026-12-31", "2027-03-01", "2100-03-01"])
def test_the_store_names_hours_as_the_calendar_does(gpu_store: GpuStore, day: str) -> None:
    begin = datetime.fromisoformat(f"{day}T22:59:00").replace(tzinfo=UTC)
    begin_ms = int(begin.timestamp() * 1000)
    run([Proxy(gpu_store, Scene())], begin_ms, begin_ms + 59 * 60_000, 60_000)
    assert list(gpu_store.hours()) == [f"{begin:%Y%m%dT22}", f"{begin:%Y%m%dT23}"]


def test_a_change_of_scale_counts_from_the_sync_that_saw_it(gpu_store: GpuStore) -> None:
    scene = Scene(replicas=3)
    proxy = Proxy(gpu_store, scene)
    run([proxy], START_MS, START_MS + 10_000)
    scene.count = 5
    run([proxy], START_MS + 10_200, START_MS + 20_000)
    scene.count = 0
    run([proxy], START_MS + 20_200, START_MS + 30_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * 10_000 + 5 * 10_000


def test_reserved_replicas_are_paid_while_none_runs(gpu_store: GpuStore) -> None:
    reserved = Tranche(replicas=2, nano_usd_per_hour=1_800_000_000)
    proxy = Proxy(gpu_store, Scene(replace(H100, reserved=reserved), replicas=0))
    run([proxy], START_MS, START_MS + HOUR_MS, 60_000)
    assert gpu_store.totals()[NAME] == GpuTotals(nano_usd=8 * 1_800_000_000)


def test_busy_replicas_are_of_those_that_run(gpu_store: GpuStore) -> None:
    """Of three reserved replicas two run, at one price, and one of them is busy."""
    scene = Scene(replace(H100, reserved=Tranche(replicas=3, nano_usd_per_hour=1_800_000_000)), replicas=2)
    scene.requests = {FIRST: 5}
    run([Proxy(gpu_store, scene)], START_MS, START_MS + HOUR_MS, 60_000)
    assert gpu_store.totals()[NAME] == GpuTotals(
        replica_ms=2 * HOUR_MS,
        busy_replica_ms=HOUR_MS,
        gpu_ms=8 * HOUR_MS,
        nano_usd=12 * 1_800_000_000,
        busy_nano_usd=4 * 1_800_000_000,
    )


def test_a_new_price_counts_from_when_the_policy_has_it(gpu_store: GpuStore) -> None:
    scene = Scene()
    proxy = Proxy(gpu_store, scene)
    run([proxy], START_MS, START_MS + HOUR_MS, 60_000)
    proxy.cut_off = True  # and learned of while the store is away
    run([proxy], START_MS + HOUR_MS + 60_000, START_MS + 2 * HOUR_MS, 60_000)
    scene.target = replace(scene.target, gpus=replace(H100, nano_usd_per_hour=1_000_000_000))
    run([proxy], START_MS + 2 * HOUR_MS + 60_000, START_MS + 3 * HOUR_MS, 60_000)
    proxy.cut_off = False
    proxy.sync(START_MS + 3 * HOUR_MS)
    assert gpu_store.totals()[NAME].nano_usd == 12 * (2 * 2_990_000_000 + 1_000_000_000)


# What goes wrong


def test_a_restart_is_bridged_and_a_night_without_a_proxy_is_not_charged(gpu_store: GpuStore) -> None:
    run([Proxy(gpu_store, Scene())], START_MS, START_MS + 60_000)
    bridged_ms = int(BRIDGE_S * 1000) - 1000
    run([Proxy(gpu_store, Scene())], START_MS + 60_000 + bridged_ms, START_MS + 120_000 + bridged_ms)
    assert gpu_store.totals()[NAME].replica_ms == 3 * (120_000 + bridged_ms)
    run([Proxy(gpu_store, Scene())], START_MS + 8 * HOUR_MS, START_MS + 8 * HOUR_MS + 60_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * (180_000 + bridged_ms)


def test_an_outage_is_charged_as_it_was_by_those_who_lived_through_it(gpu_store: GpuStore) -> None:
    scene = Scene(replicas=3)
    proxies = [Proxy(gpu_store, scene) for _ in range(3)]
    run(proxies, START_MS, START_MS + 60_000)
    for proxy in proxies:
        proxy.cut_off = True
    run(proxies, START_MS + 61_000, START_MS + HOUR_MS, CALM_MS)
    scene.count = 1
    run(proxies, START_MS + HOUR_MS + 1000, START_MS + 2 * HOUR_MS, CALM_MS)
    for proxy in proxies:
        proxy.cut_off = False
    run(proxies, START_MS + 2 * HOUR_MS + 200, START_MS + 2 * HOUR_MS + 1000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * HOUR_MS + HOUR_MS + 1000


@pytest.mark.parametrize("first", [0, 1, 2])
def test_an_outage_is_charged_also_when_a_fresh_process_is_the_first_to_return(gpu_store: GpuStore, first: int) -> None:
    scene = Scene(replicas=3)
    proxies = [Proxy(gpu_store, scene) for _ in range(2)]
    run(proxies, START_MS, START_MS + 60_000)
    for proxy in proxies:
        proxy.cut_off = True
    run(proxies, START_MS + 61_000, START_MS + HOUR_MS, CALM_MS)
    scene.count = 2
    run(proxies, START_MS + HOUR_MS + 1000, START_MS + 2 * HOUR_MS, CALM_MS)
    proxies.append(Proxy(gpu_store, scene))
    for proxy in proxies:
        proxy.cut_off = False
    proxies = proxies[first:] + proxies[:first]
    for back, at_ms in zip(proxies, (0, 30_000, 60_000), strict=True):
        run([back], START_MS + 2 * HOUR_MS + at_ms + 200, START_MS + 2 * HOUR_MS + at_ms + 30_000)
    run(proxies, START_MS + 2 * HOUR_MS + 90_200, START_MS + 2 * HOUR_MS + 120_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * HOUR_MS + 2 * (HOUR_MS + 120_000)
    assert sum(of[NAME].replica_ms for of in gpu_store.hours().values()) == gpu_store.totals()[NAME].replica_ms


def test_those_who_were_cut_off_do_not_count_again_what_the_others_did(gpu_store: GpuStore) -> None:
    here, there = ([Proxy(gpu_store, Scene()) for _ in range(2)] for _ in range(2))
    run(here + there, START_MS, START_MS + 60_000)
    for proxy in there:
        proxy.cut_off = True
    run(here + there, START_MS + 60_200, START_MS + HOUR_MS, 5 * CALM_MS)
    for proxy in there:
        proxy.cut_off = False
    run(there + here, START_MS + HOUR_MS + 200, START_MS + HOUR_MS + 60_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * (HOUR_MS + 60_000)


def test_a_wiped_store_is_told_the_sums_and_the_hours_again(gpu_store: GpuStore) -> None:
    stale, fresh = Proxy(gpu_store, Scene()), Proxy(gpu_store, Scene())
    run([stale, fresh], START_MS, START_MS + HOUR_MS, 10_000)
    stale.cut_off = True
    run([stale, fresh], START_MS + HOUR_MS + 10_000, START_MS + 2 * HOUR_MS, 10_000)
    stale.cut_off = False
    gpu_store.become({}, START_MS + 2 * HOUR_MS)
    run([stale, fresh], START_MS + 2 * HOUR_MS + 200, START_MS + 2 * HOUR_MS + 10_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * (2 * HOUR_MS + 10_000)
    by_hour = {hour: of[NAME].replica_ms for hour, of in gpu_store.hours().items()}
    assert by_hour == {"20261001T00": 3 * HOUR_MS, "20261001T01": 3 * HOUR_MS, "20261001T02": 30_000}


def test_what_a_lagging_copy_had_missed_is_neither_lost_nor_counted_twice(gpu_store: GpuStore) -> None:
    proxies = [Proxy(gpu_store, Scene()) for _ in range(2)]
    run(proxies, START_MS, START_MS + 60_000)
    copied = gpu_store.copy()
    run(proxies, START_MS + 60_200, START_MS + 90_000)
    gpu_store.become(copied, START_MS + 90_000)
    run(proxies, START_MS + 90_200, START_MS + 120_000)
    assert gpu_store.totals()[NAME].replica_ms == 3 * 120_000
    assert sum(of[NAME].replica_ms for of in gpu_store.hours().values()) == 3 * 120_000


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, BRIDGE_S * 1000 + 5000, -BRIDGE_S * 1000 - 5000])
@pytest.mark.parametrize("failover", ["none", "whole", "wiped"])
@pytest.mark.parametrize("stale_first", [True, False])
def test_a_step_of_the_stores_clock_is_not_time(
    gpu_store: GpuStore, step_ms: float, failover: str, stale_first: bool
) -> None:
    """Also where one of the proxies had been cut off for two hours, and comes back with the step."""
    stale, fresh = Proxy(gpu_store, Scene()), Proxy(gpu_store, Scene())
    both = [stale, fresh] if stale_first else [fresh, stale]
    run(both, START_MS, START_MS + 60_000)
    stale.cut_off = True
    run(both, START_MS + 61_000, START_MS + 2 * HOUR_MS, 9 * CALM_MS)
    stale.cut_off = False
    gpu_store.skew_ms = int(step_ms)
    if failover != "none":
        gpu_store.become(gpu_store.copy() if failover == "whole" else {}, START_MS + 2 * HOUR_MS)
    run(both, START_MS + 2 * HOUR_MS + 200, START_MS + 2 * HOUR_MS + 60_000)
    truth = 3 * (2 * HOUR_MS + 60_000)
    assert truth - 3 * 400 <= gpu_store.totals()[NAME].replica_ms <= truth


def test_a_step_that_nobody_lived_through_loses_the_time_around_it(gpu_store: GpuStore) -> None:
    run([Proxy(gpu_store, Scene())], START_MS, START_MS + 60_000)
    gpu_store.skew_ms = -HOUR_MS
    run([Proxy(gpu_store, Scene())], START_MS + 90_000, START_MS + 150_000)
    assert gpu_store.totals()[NAME].replica_ms == pytest.approx(3 * 120_000, abs=3 * 400)


def test_a_process_remembers_a_bounded_number_of_hours(gpu_store: GpuStore) -> None:
    proxy = Proxy(gpu_store, Scene())
    run([proxy], START_MS, START_MS + 60 * HOUR_MS, 5 * 60_000)
    gpu_store.become({}, START_MS + 60 * HOUR_MS)
    run([proxy], START_MS + 60 * HOUR_MS + 200, START_MS + 60 * HOUR_MS + 10_000)
    assert len(gpu_store.hours()) == REMEMBERED_HOURS + 1  # and the new one
    assert gpu_store.totals()[NAME].replica_ms == 3 * (60 * HOUR_MS + 10_000)


OPS = (
    st.tuples(st.just("run"), st.sampled_from([1, 10, 300, 1201, 4000])),
    st.tuples(st.just("scale"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["cut", "heal"]), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.integers(1, 2)),
    st.tuples(st.sampled_from(["wipe", "copy", "fail over"]), st.just(0)),
)
STEPS = st.tuples(st.just("step"), st.sampled_from([HOUR_MS, -HOUR_MS, 330_000, -330_000]))
Ops = list[tuple[str, int]]
HEALED: Ops = [("heal", 0), ("heal", 1), ("heal", 2), ("run", 10)]


class Play:
    """Three proxies, of which the first is never restarted, and is there when the store forgets."""

    def __init__(self, client: Redis, draw: random.Random) -> None:
        self.store, self._scene, self._draw = GpuStore(client, secrets.token_hex(4)), Scene(), draw
        self._proxies = [Proxy(self.store, self._scene) for _ in range(3)]
        self._at_ms, self.truth_ms = START_MS, 0
        self._copied: dict[bytes, dict[bytes, bytes]] = {}
        run(self._proxies, START_MS, START_MS)

    def go_on(self, length_s: int) -> None:
        for _ in range(4):
            assert self._scene.count is not None
            self._at_ms += length_s * 250
            self.truth_ms += self._scene.count * length_s * 250
            run(self._draw.sample(self._proxies, 3), self._at_ms, self._at_ms)
            assert self.accrued_ms <= self.truth_ms

    @property
    def accrued_ms(self) -> int:
        return self.store.totals().get(NAME, GpuTotals()).replica_ms

    def happens(self, op: str, value: int) -> None:
        if op == "run":
            self.go_on(value)
        elif op == "scale":
            self._scene.count = value
        elif op in ("cut", "heal"):
            self._proxies[value].cut_off = op == "cut"
        elif op == "restart":
            self._proxies[value] = Proxy(self.store, self._scene)
        elif op == "copy":
            self._copied = self.store.copy()
        elif op == "step":
            self.store.skew_ms += value
        else:
            self._proxies[0].cut_off = False
            self.go_on(1)
            self.store.become({} if op == "wipe" else self._copied, self._at_ms)
            self.go_on(4)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(*OPS), max_size=30), st.randoms(use_true_random=False))
def test_whatever_happens_nothing_is_counted_twice_and_nothing_that_one_lived_through_is_lost(
    client: Redis, ops: Ops, draw: random.Random
) -> None:
    play = Play(client, draw)
    for op, value in ops + HEALED:
        play.happens(op, value)
    assert play.accrued_ms == play.truth_ms


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(*OPS, STEPS, STEPS), max_size=30), st.randoms(use_true_random=False))
def test_nothing_is_counted_twice_when_the_stores_clock_is_set(client: Redis, ops: Ops, draw: random.Random) -> None:
    """Once, forwards or backwards, whatever else happens."""
    play = Play(client, draw)
    steps = [at for at, (op, _) in enumerate(ops) if op == "step"]
    for at, (op, value) in enumerate(ops + HEALED):
        if at not in steps[1:]:
            play.happens(op, value)


async def test_names_of_any_kind_pass_through_the_whole_exchange(store: Store) -> None:
    odd = replace(LLAMA, name='täg|"a\\b"|\n{}')
    clock = GpuClock(lambda: [odd], dict)
    heard = await asked(store, clock)
    await asked(store, clock, store_ms=heard.store_ms)
    assert clock._known[odd.name].seen == GpuTotals()


# Against an oracle

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER_ENDS_MS = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp() * 1000)
NIGHTS = TimedPrice(
    schedule=Schedule(zone=BERLIN, from_minute=1 * 60 + 30, to_minute=2 * 60 + 45), nano_usd_per_hour=1_111_111_111
)
EVENINGS = TimedPrice(
    schedule=Schedule(zone=ZoneInfo("Asia/Kathmandu"), from_minute=22 * 60, to_minute=6 * 60 + 7),
    nano_usd_per_hour=777_777_777,
)
TERMS = Gpus(
    type="H100",
    count=3,
    nano_usd_per_hour=2_999_999_999,
    reserved=Tranche(replicas=1, nano_usd_per_hour=1_234_567_891),
    spot=Tranche(replicas=1, nano_usd_per_hour=987_654_321),
    schedule=(NIGHTS, EVENINGS),
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(120, 5_000_000), st.integers(0, 5), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_money_is_the_exact_integral_whatever_the_intervals(
    client: Redis, syncs: list[tuple[int, int, bool, int]]
) -> None:
    """Each sync comes so many ms later, sees so many replicas, and reaches the store or not; any is first."""
    gpu_store, scene = GpuStore(client, secrets.token_hex(4)), Scene(TERMS)
    proxies = [Proxy(gpu_store, scene) for _ in range(3)]
    at_ms = SUMMER_ENDS_MS - 2 * HOUR_MS
    for proxy in proxies:
        proxy.sync(at_ms)
        proxy.sync(at_ms)
    numerator, replica_ms = 0, 0
    for length_ms, replicas, reaches, who in [*syncs, (1000, 1, True, 0)]:
        scene.count = replicas
        numerator += minute_by_minute(TERMS, replicas, at_ms, at_ms + length_ms)
        replica_ms += replicas * length_ms
        at_ms += length_ms
        for proxy in proxies[who:] + proxies[:who]:
            proxy.cut_off = not reaches
            proxy.sync(at_ms)
    totals = gpu_store.totals()[NAME]
    assert (totals.replica_ms, totals.gpu_ms) == (replica_ms, 3 * replica_ms)
    assert totals.nano_usd == numerator // HOUR_MS
    hours = [of[NAME] for of in gpu_store.hours().values()]
    assert sum(hour.nano_usd for hour in hours) == totals.nano_usd
    assert sum(hour.replica_ms for hour in hours) == totals.replica_ms


def minute_by_minute(gpus: Gpus, replicas: int, begin_ms: int, end_ms: int) -> int:
    whole, at_ms = 0, begin_ms
    while at_ms < end_ms:
        until = min(end_ms, at_ms - at_ms % 60_000 + 60_000)
        whole += (until - at_ms) * gpus.rate(replicas, at_ms / 1000.0)
        at_ms = until
    return whole
