"""The scripts, on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from proxy.meters.gauges import Gauges
from proxy.meters.gpu_hours import GpuClock
from proxy.meters.slot import Accepted, Behind, Folded, Push
from proxy.meters.store import Store, StoreError, StoreRefused, StoreUnavailable, StoreUrlInvalid
from tests.meters.examples import LLAMA, asked, pushed

LARGE = 2**53 + 1
"""The first integer that a double cannot hold."""


def push(slot: str = "one", at: int = 0, *, full: bool = False, **fields: int) -> Push:
    return Push(slot=slot, expected=at, sequence=at + 1, fields=fields, full=full)


async def test_an_empty_store_has_nothing(store: Store) -> None:
    totals = await store.read_totals()
    assert (totals.counters, totals.gpus, totals.processes) == ({}, {}, 0)


async def test_slots_add_up(store: Store) -> None:
    assert await pushed(store, push("one", a=1, b=2)) == Accepted()
    assert await pushed(store, push("two", a=10)) == Accepted()
    totals = await store.read_totals()
    assert (totals.counters, totals.processes) == ({"a": 11, "b": 2}, 2)


async def test_the_same_push_twice_counts_once(store: Store) -> None:
    once = push(a=5)
    assert await pushed(store, once) == Accepted()
    assert await pushed(store, once) == Behind()
    assert await pushed(store, push(full=True, a=5)) == Accepted()
    assert (await store.read_totals()).counters == {"a": 5}


async def test_a_counter_never_falls(store: Store) -> None:
    await pushed(store, push(a=100, b=9))
    await pushed(store, push(at=1, a=99, b=10))
    assert (await store.read_totals()).counters == {"a": 100, "b": 10}


async def test_integers_beyond_a_double_s_are_exact(store: Store) -> None:
    await pushed(store, push(a=LARGE - 1))
    await pushed(store, push(at=1, a=LARGE))
    await pushed(store, push("two", a=LARGE))
    assert (await store.read_totals()).counters == {"a": 2 * LARGE}
    assert await store.fold_dead(0.0) == 2
    assert (await store.read_totals()).counters == {"a": 2 * LARGE}


async def test_a_wiped_slot_asks_for_everything(store: Store, raw: Any, namespace: str) -> None:
    await pushed(store, push(a=1))
    await raw.delete(f"{{{namespace}}}:2:slot:one")
    assert await pushed(store, push(at=1, a=2)) == Behind()
    assert await pushed(store, push(at=1, full=True, a=2, b=1)) == Accepted()
    assert await pushed(store, push(at=2, a=3)) == Accepted()


async def test_a_silent_slot_is_folded_once_and_told_so(store: Store) -> None:
    await pushed(store, push(a=7))
    folded = await asyncio.gather(*(store.fold_dead(0.0) for _ in range(8)))
    assert sum(folded) == 1
    assert (await store.read_totals()).counters == {"a": 7}
    assert await pushed(store, push(at=1, a=9)) == Folded({"a": 7})
    assert await pushed(store, push(at=1, full=True, a=9)) == Folded({"a": 7})
    assert (await store.read_totals()).counters == {"a": 7}


async def test_a_slot_that_was_heard_from_is_left_alone(store: Store) -> None:
    await pushed(store, push(a=7))
    assert await store.fold_dead(3600.0) == 0
    assert (await store.read_totals()).processes == 1


async def test_totals_are_whole_while_slots_are_folded(store: Store) -> None:
    """No reader ever sees a slot both in its place and in the base, or in neither."""
    for number in range(40):
        await pushed(store, push(f"slot{number}", a=1))

    async def read() -> set[int]:
        return {(await store.read_totals()).counters["a"] for _ in range(20)}

    async def fold() -> set[int]:
        await store.fold_dead(0.0)
        return {40}

    assert set().union(*await asyncio.gather(read(), fold(), read())) == {40}


async def test_names_of_any_kind_pass_through(store: Store) -> None:
    name = 'requests|täg|"a\\b"|\n{}'
    await pushed(store, push(**{name: 3}))
    assert (await store.read_totals()).counters == {name: 3}


async def test_a_push_of_thousands_of_fields(store: Store) -> None:
    fields = {f"requests|tenant|model|target{number}": number + 1 for number in range(20_000)}
    assert await pushed(store, push(full=True, **fields)) == Accepted()
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
    await raw.set(f"{{{namespace}}}:2:slots", "of the wrong type")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await pushed(store, push(a=1))


async def test_all_keys_share_one_slot_of_a_cluster(store: Store, raw: Any, namespace: str) -> None:
    for part in (Gauges(lambda: {"llama/0": 1}, lambda _: None), GpuClock(lambda: [LLAMA], dict)):
        await asked(store, part)
    await pushed(store, push("one", a=1))
    await pushed(store, push("two", a=1))
    await store.fold_dead(0.0)
    await pushed(store, push("three", a=1))
    keys = [key async for key in raw.scan_iter(f"*{namespace}*")]
    names = {key.removeprefix(f"{{{namespace}}}:2:") for key in keys}
    assert names == {
        "base",
        "folded:one",
        "folded:two",
        "gauges",
        "gpu",
        "members",
        "meta",
        "slot:three",
        "slots",
    }
