"""GPU time is divided by work: exactly, whatever the order, and what was idle is nobody's."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.aggregates import Grain, Row
from proxy.meters.attribution import Attribution, Claimant, Portion, attribute, attribute_hours, divide
from proxy.meters.fields import Series
from proxy.meters.gpu_hours import GpuClock, GpuRow, GpuTotals
from proxy.meters.store import Store
from tests.meters.conftest import PATIENCE_S
from tests.meters.examples import LLAMA, asked

BANK = Claimant("bank", "", "llama-70b", "default")
GROWTH = Claimant("growth", "growth/ci", "llama-70b", "default")
HOUR_S = 1_795_348_800
ONE_HOUR = GpuTotals(
    replica_ms=7_200_000,
    busy_replica_ms=1_800_000,
    gpu_ms=28_800_000,
    nano_usd=23_920_000_000,
    busy_nano_usd=5_980_000_000,
)

CLAIMANTS = st.builds(Claimant, *[st.sampled_from("abc")] * 4)
CLAIMS = st.dictionaries(CLAIMANTS, st.integers(0, 10**12), max_size=12)


def test_the_busy_time_goes_to_those_whose_work_it_was_and_the_rest_to_nobody() -> None:
    found = attribute(ONE_HOUR, {BANK: 3_000_000, GROWTH: 1_000_000})
    assert found == Attribution(
        {BANK: Portion(5_400_000, 4_485_000_000), GROWTH: Portion(1_800_000, 1_495_000_000)},
        unclaimed=Portion(0, 0),
        idle=Portion(21_600_000, 17_940_000_000),
    )
    assert found.idle.gpu_s == 21_600.0


def test_busy_time_without_work_that_ended_is_unclaimed() -> None:
    found = attribute(ONE_HOUR, {BANK: 0})
    assert (found.portions, found.unclaimed) == ({}, Portion(7_200_000, 5_980_000_000))


def test_reserved_replicas_that_do_not_run_are_idle_money() -> None:
    assert attribute(GpuTotals(nano_usd=5), {BANK: 1}) == Attribution(
        {BANK: Portion(0, 0)}, unclaimed=Portion(0, 0), idle=Portion(0, 5)
    )


@given(CLAIMS, st.integers(0, 10**13), st.integers(0, 10**16), st.integers(1, 8), st.floats(0.0, 1.0), st.randoms())
def test_parts_sum_to_the_whole_whatever_the_order(
    claims: dict[Claimant, int], replica_ms: int, nano_usd: int, gpus: int, busy: float, draw: random.Random
) -> None:
    totals = GpuTotals(replica_ms, int(replica_ms * busy), replica_ms * gpus, nano_usd, int(nano_usd * busy))
    found = attribute(totals, claims)
    everything = [*found.portions.values(), found.unclaimed, found.idle]
    assert sum(one.gpu_ms for one in everything) == totals.gpu_ms
    assert sum(one.nano_usd for one in everything) == totals.nano_usd
    assert all(one.gpu_ms >= 0 and one.nano_usd >= 0 for one in everything)
    shuffled = list(claims.items())
    draw.shuffle(shuffled)
    assert attribute(totals, dict(shuffled)) == found


@given(st.integers(0, 10**16), CLAIMS.map(lambda claims: {one: work + 1 for one, work in claims.items()}))
def test_no_part_is_off_by_one_unit_from_its_share(whole: int, claims: dict[Claimant, int]) -> None:
    total = sum(claims.values())
    for claimant, part in divide(whole, claims).items() if claims else ():
        assert abs(part * total - whole * claims[claimant]) < total


def row(
    start_s: int, tenant: str, target: str, work_us: int, grain: Grain = Grain.HOUR, lane: str = "dedicated"
) -> Row:
    series = Series(tenant, "", "llama-70b", "default", target, lane)
    return Row(start_s, grain, series, {"work_us": work_us} if work_us else {"requests": 1})


def test_an_hour_has_the_work_of_its_own_target_and_its_own_hour() -> None:
    gpus = [GpuRow(HOUR_S, "one", ONE_HOUR), GpuRow(HOUR_S, "two", ONE_HOUR), GpuRow(HOUR_S + 3600, "one", ONE_HOUR)]
    counted = [
        row(HOUR_S, "bank", "one", 2),
        row(HOUR_S, "growth", "one", 2),
        row(HOUR_S, "bank", "two", 7),
        row(HOUR_S, "late", "two", 0),
        row(HOUR_S, "bank", "one", 9, Grain.MINUTE),
    ]
    hours = list(attribute_hours(gpus, counted))
    assert [(one.start_s, one.target, len(one.attribution.portions)) for one in hours] == [
        (HOUR_S, "one", 2),
        (HOUR_S, "two", 1),
        (HOUR_S + 3600, "one", 0),
    ]
    assert {portion.gpu_ms for portion in hours[0].attribution.portions.values()} == {3_600_000}


async def test_the_stores_hours_are_read_as_rows(store_url: str, namespace: str) -> None:
    store = Store(store_url, namespace, PATIENCE_S, learn_s=0.0)
    clock = GpuClock(lambda: [LLAMA], dict)
    heard = await asked(store, clock)
    while not clock.totals or clock.totals["llama-eu"] == GpuTotals():
        heard = await asked(store, clock, store_ms=heard.store_ms)
    now_s = heard.store_ms / 1000.0
    rows = await store.gpu_rows(now_s - 3600.0, now_s + 1.0)
    assert sum(one.totals.replica_ms for one in rows) == clock.totals["llama-eu"].replica_ms
    assert {one.target for one in rows} == {"llama-eu"}
    assert rows[-1].start_s == pytest.approx(time.time(), abs=3700.0)
    assert await store.gpu_rows(now_s - 9 * 3600.0, now_s - 5 * 3600.0) == []
    await store.aclose()
