"""The scripts, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from proxy.meters.gpu_hours import BRIDGE_S, Accrual, GpuTotals
from proxy.meters.slot import Accepted, Behind, Folded, Push
from proxy.meters.store import Store, StoreError, StoreRefused, StoreUnavailable, StoreUrlInvalid

LARGE = 2**53 + 1
"""The first integer that a double cannot hold."""


@pytest.fixture
async def raw(store_url: str) -> AsyncIterator[Any]:
    """The server, looked at from outside."""
    client = redis.asyncio.Redis.from_url(store_url, decode_responses=True)
    yield client
    await client.aclose()


def push(slot: str = "one", at: int = 0, *, full: bool = False, **fields: int) -> Push:
    return Push(slot=slot, expected=at, sequence=at + 1, fields=fields, full=full)


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
    exchanged = await store.exchange(push(slot, full=True), {}, accruals)
    return exchanged.gpus[accruals[0].target]


async def set_back(raw: Any, namespace: str, ms: int, target: str = "llama") -> None:
    """Let it be `ms` since the target last accrued."""
    assert await raw.hincrby(f"{{{namespace}}}:1:gpu", f"mark|{target}", -ms) > 0


async def test_an_empty_store_has_nothing(store: Store) -> None:
    totals = await store.read_totals()
    assert (totals.counters, totals.gpus, totals.processes) == ({}, {}, 0)


async def test_slots_add_up(store: Store) -> None:
    assert await store.push(push("one", a=1, b=2)) == Accepted()
    assert await store.push(push("two", a=10)) == Accepted()
    totals = await store.read_totals()
    assert (totals.counters, totals.processes) == ({"a": 11, "b": 2}, 2)


async def test_the_same_push_twice_counts_once(store: Store) -> None:
    once = push(a=5)
    assert await store.push(once) == Accepted()
    assert await store.push(once) == Behind()
    assert await store.push(push(full=True, a=5)) == Accepted()
    assert (await store.read_totals()).counters == {"a": 5}


async def test_a_counter_never_falls(store: Store) -> None:
    await store.push(push(a=100, b=9))
    await store.push(push(at=1, a=99, b=10))
    assert (await store.read_totals()).counters == {"a": 100, "b": 10}


async def test_integers_beyond_a_double_s_are_exact(store: Store) -> None:
    await store.push(push(a=LARGE - 1))
    await store.push(push(at=1, a=LARGE))
    await store.push(push("two", a=LARGE))
    assert (await store.read_totals()).counters == {"a": 2 * LARGE}
    assert await store.fold_dead(0.0) == 2
    assert (await store.read_totals()).counters == {"a": 2 * LARGE}


async def test_a_wiped_slot_asks_for_everything(store: Store, raw: Any, namespace: str) -> None:
    await store.push(push(a=1))
    await raw.delete(f"{{{namespace}}}:1:slot:one")
    assert await store.push(push(at=1, a=2)) == Behind()
    assert await store.push(push(at=1, full=True, a=2, b=1)) == Accepted()
    assert await store.push(push(at=2, a=3)) == Accepted()


async def test_a_silent_slot_is_folded_once_and_told_so(store: Store) -> None:
    await store.push(push(a=7))
    folded = await asyncio.gather(*(store.fold_dead(0.0) for _ in range(8)))
    assert sum(folded) == 1
    assert (await store.read_totals()).counters == {"a": 7}
    assert await store.push(push(at=1, a=9)) == Folded({"a": 7})
    assert await store.push(push(at=1, full=True, a=9)) == Folded({"a": 7})
    assert (await store.read_totals()).counters == {"a": 7}


async def test_a_slot_that_was_heard_from_is_left_alone(store: Store) -> None:
    await store.push(push(a=7))
    assert await store.fold_dead(3600.0) == 0
    assert (await store.read_totals()).processes == 1


async def test_totals_are_whole_while_slots_are_folded(store: Store) -> None:
    """No reader ever sees a slot both in its place and in the base, or in neither."""
    for number in range(40):
        await store.push(push(f"slot{number}", a=1))

    async def read() -> set[int]:
        return {(await store.read_totals()).counters["a"] for _ in range(20)}

    async def fold() -> set[int]:
        await store.fold_dead(0.0)
        return {40}

    assert set().union(*await asyncio.gather(read(), fold(), read())) == {40}


async def test_everybody_sees_the_sum_of_the_others_gauges(store: Store) -> None:
    await store.exchange(push("one"), {"llama/0": 3}, ())
    await store.exchange(push("two"), {"llama/0": 2, "llama/1": 1}, ())
    assert (await store.exchange(push("three"), {}, ())).gauges == {"llama/0": 5, "llama/1": 1}
    assert (await store.exchange(push("one", at=1), {"llama/0": 3}, ())).gauges == {"llama/0": 2, "llama/1": 1}


async def test_gauges_are_withdrawn_or_expire(store: Store, raw: Any, namespace: str) -> None:
    await store.exchange(push("one"), {"llama/0": 3}, ())
    await store.exchange(push("one", at=1), None, ())
    assert (await store.exchange(push("two"), {"llama/0": 1}, ())).gauges == {}
    seconds, _ = await raw.time()
    await raw.hset(f"{{{namespace}}}:1:gauges", "two", f'{seconds * 1000 - 1} {{"llama/0":1}}')
    assert (await store.exchange(push("three"), {}, ())).gauges == {}
    assert await raw.hkeys(f"{{{namespace}}}:1:gauges") == ["three"]


async def test_the_first_accrual_only_sets_the_mark(store: Store) -> None:
    assert await accrue(store, accrual()) == GpuTotals()


async def test_gpu_time_accrues_once_however_many_ask(store: Store, raw: Any, namespace: str) -> None:
    await accrue(store, accrual())
    key = f"{{{namespace}}}:1:gpu"
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
    await raw.delete(f"{{{namespace}}}:1:gpu")
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
    name = 'requests|täg|"a\\b"|\n{}'
    await store.push(push(**{name: 3}))
    assert (await store.read_totals()).counters == {name: 3}
    assert (await store.exchange(push("two"), {}, [accrual(target=name)])).gpus == {name: GpuTotals()}


async def test_a_push_of_thousands_of_fields(store: Store) -> None:
    fields = {f"requests|tenant|model|target{number}": number + 1 for number in range(20_000)}
    assert await store.push(push(full=True, **fields)) == Accepted()
    assert (await store.read_totals()).counters == fields


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://host:port-is-no-number/0"])
async def test_a_url_that_cannot_be_one(url: str) -> None:
    with pytest.raises(StoreUrlInvalid):
        await Store(url).read_totals()


async def test_errors_never_show_the_password(store_url: str) -> None:
    for url in ("redis://user:s3cret@127.0.0.1:1/0", f"{store_url}?password=s3cret", "redis://:s3cret@[bad"):
        try:
            opened = Store(url)
            await opened.read_totals()
        except StoreError as error:
            told: BaseException | None = error
            while told is not None:
                assert "s3cret" not in str(told)
                told = told.__cause__
        else:
            await opened.aclose()


async def test_nobody_there_is_unavailable() -> None:
    store = Store("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        await store.read_totals()
    await store.aclose()


async def test_an_error_of_the_server_is_a_refusal(store: Store, raw: Any, namespace: str) -> None:
    await raw.set(f"{{{namespace}}}:1:members", "of the wrong type")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await store.push(push(a=1))


async def test_all_keys_share_one_slot_of_a_cluster(store: Store, raw: Any, namespace: str) -> None:
    await store.exchange(push("one", a=1), {"llama/0": 1}, [accrual()])
    await store.push(push("two", a=1))
    await store.fold_dead(0.0)
    await store.push(push("three", a=1))
    keys = [key async for key in raw.scan_iter(f"*{namespace}*")]
    names = {key.removeprefix(f"{{{namespace}}}:1:") for key in keys}
    assert names == {"base", "folded:one", "folded:two", "gauges", "gpu", "members", "slot:three"}
