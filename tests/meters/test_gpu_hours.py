"""This process's half of the accrual."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from proxy.meters.gpu_hours import BRIDGE_S, Accrual, GpuClock, GpuTotals, answer, question
from proxy.meters.part import Moment
from proxy.meters.store import Store
from tests.meters.examples import LLAMA, TOGETHER


def clock() -> GpuClock:
    return GpuClock(list, dict)


def test_only_dedicated_targets_accrue_with_everything_that_is_provisioned() -> None:
    (accrual,) = clock().accruals([LLAMA, TOGETHER], {}, now=100.0)
    assert (accrual.target, accrual.replicas, accrual.gpus) == ("llama-eu", 2, 8)
    assert accrual.nano_usd_per_hour == 8 * 2_990_000_000
    assert (accrual.vouched_ms, accrual.seen) == (0, GpuTotals())


def test_a_replica_is_busy_with_one_request_or_many() -> None:
    busy = [
        clock().accruals([LLAMA], in_flight, now=0.0)[0].busy_replicas
        for in_flight in ({}, {"llama-eu/1": 1}, {"llama-eu/0": 9, "llama-eu/1": 0}, {"llama-eu/0": 1, "llama-eu/1": 5})
    ]
    assert busy == [0, 1, 1, 2]


def test_without_a_gpu_price_replicas_still_accrue() -> None:
    (accrual,) = clock().accruals([replace(LLAMA, gpus=None)], {}, now=0.0)
    assert (accrual.replicas, accrual.gpus, accrual.nano_usd_per_hour) == (2, 0, 0)


def test_it_vouches_for_the_time_since_the_last_answer_it_had() -> None:
    gpus = clock()
    gpus.accruals([LLAMA], {}, now=10.0)
    first = gpus.accruals([LLAMA], {}, now=12.5)
    assert first[0].vouched_ms == 2500
    gpus.accrued(first, {"llama-eu": GpuTotals(replica_ms=5000)}, asked_at=12.5)
    (second,) = gpus.accruals([LLAMA], {}, now=13.0)
    assert (second.vouched_ms, second.seen.replica_ms) == (500, 5000)


def test_it_does_not_vouch_for_the_time_a_target_was_out_of_the_policy() -> None:
    gpus = clock()
    gpus.accruals([LLAMA], {}, now=0.0)
    gpus.accruals([], {}, now=100.0)
    assert gpus.accruals([LLAMA], {}, now=200.0)[0].vouched_ms == 0


def test_totals_subtract() -> None:
    assert GpuTotals(5, 4, 3, 2) - GpuTotals(1, 1, 1, 1) == GpuTotals(4, 3, 2, 1)


def accrual(seen: GpuTotals = GpuTotals(), **changes: Any) -> Accrual:  # noqa: B008
    given = {
        "target": "llama",
        "replicas": 2,
        "busy_replicas": 1,
        "gpus": 8,
        "nano_usd_per_hour": 8 * 2_990_000_000,
        "vouched_ms": 0,
        "seen": seen,
    }
    return Accrual(**{**given, **changes})


async def accrue(store: Store, *accruals: Accrual, slot: str = "one") -> GpuTotals:
    _, (reply,) = await store.exchange(Moment(slot, 0.0, None), [("gpu", question(accruals))])
    return answer(reply)[accruals[0].target]


async def set_back(raw: Any, namespace: str, ms: int, target: str = "llama") -> None:
    """Let it be `ms` since the target last accrued."""
    assert await raw.hincrby(f"{{{namespace}}}:2:gpu", f"mark|{target}", -ms) > 0


async def test_the_first_accrual_only_sets_the_mark(store: Store) -> None:
    assert await accrue(store, accrual()) == GpuTotals()


async def test_gpu_time_accrues_once_however_many_ask(store: Store, raw: Any, namespace: str) -> None:
    await accrue(store, accrual())
    key = f"{{{namespace}}}:2:gpu"
    await set_back(raw, namespace, 30_000)
    began = int(await raw.hget(key, "mark|llama"))
    totals = await asyncio.gather(*(accrue(store, accrual(), slot=f"slot{n}") for n in range(8)))
    elapsed = int(await raw.hget(key, "mark|llama")) - began
    assert 30_000 <= elapsed < 40_000
    final = max(totals, key=lambda one: one.replica_ms)
    assert final == (await store.read_totals()).gpus["llama"]
    assert (final.replica_ms, final.busy_replica_ms, final.gpu_ms) == (2 * elapsed, elapsed, 8 * elapsed)


async def test_accrued_money_is_exact_over_any_number_of_intervals(store: Store, raw: Any, namespace: str) -> None:
    await accrue(store, accrual())
    for ms in (101, 1_000, 33_333, 59_999, 777):
        await set_back(raw, namespace, ms)
        totals = await accrue(store, accrual())
    assert totals.nano_usd == totals.gpu_ms * 2_990_000_000 // 3_600_000


async def test_a_short_gap_is_bridged_and_of_a_long_one_only_what_is_vouched_for(
    store: Store, raw: Any, namespace: str
) -> None:
    bridged = int(BRIDGE_S * 1000) - 5_000
    for name in ("short", "night", "outage"):
        await accrue(store, accrual(target=name))
    await set_back(raw, namespace, bridged, "short")
    await set_back(raw, namespace, 8 * 3_600_000, "night")
    await set_back(raw, namespace, 600_000, "outage")
    short = await accrue(store, accrual(target="short"))
    night = await accrue(store, accrual(target="night"))
    outage = await accrue(store, accrual(target="outage", vouched_ms=600_000))
    assert 2 * bridged <= short.replica_ms < 2 * bridged + 10_000
    assert night == GpuTotals()
    assert outage.replica_ms == 2 * 600_000


async def test_accrued_sums_survive_a_wipe_through_whoever_saw_them(store: Store, raw: Any, namespace: str) -> None:
    await accrue(store, accrual())
    await set_back(raw, namespace, 10_000)
    seen = await accrue(store, accrual())
    await raw.delete(f"{{{namespace}}}:2:gpu")
    restored = await accrue(store, accrual(seen, vouched_ms=200))
    assert restored.replica_ms == seen.replica_ms + 400
    stale = await accrue(store, accrual(GpuTotals(replica_ms=1)))
    assert stale.replica_ms >= restored.replica_ms


async def test_a_clock_set_back_charges_nothing_and_goes_on(store: Store, raw: Any, namespace: str) -> None:
    await accrue(store, accrual())
    await set_back(raw, namespace, -3_600_000)
    assert await accrue(store, accrual()) == GpuTotals()
    await set_back(raw, namespace, 1_000)
    assert 2_000 <= (await accrue(store, accrual())).replica_ms < 12_000


async def test_names_of_any_kind_pass_through(store: Store) -> None:
    assert await accrue(store, accrual(target='täg|"a\\b"|\n{}')) == GpuTotals()
