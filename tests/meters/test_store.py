"""The scripts, on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from proxy.meters.aggregates import HOURS_KEPT_S, MINUTES_KEPT_S, Grain, Period
from proxy.meters.counters import question
from proxy.meters.fields import LAYOUT, Series
from proxy.meters.gauges import Gauges
from proxy.meters.part import Moment
from proxy.meters.slot import Accepted, Behind, Folded, Push, Raise
from proxy.meters.store import Store, StoreError, StoreRefused, StoreUnavailable, StoreUrlInvalid
from tests.meters.conftest import PATIENCE_S
from tests.meters.examples import KEPT_S, NOON, ROUTE, asked, push, pushed, series, vector

LARGE = 2**53 + 1
"""The first integer that a double cannot hold."""
SHOWS_NOTHING = """
local server = redis
local redis = {call = function(name, ...) return name == 'INFO' and '' or server.call(name, ...) end}
"""


async def counted(store: Store) -> dict[str, tuple[int, ...]]:
    return dict((await store.read_totals()).counters)


async def test_an_empty_store_has_nothing(store: Store) -> None:
    totals = await store.read_totals()
    assert (totals.counters, totals.gpus, totals.processes) == ({}, {}, 0)


async def test_slots_add_up(store: Store) -> None:
    assert await pushed(store, push("one", a=1, b=2)) == Accepted()
    assert await pushed(store, push("two", a=10)) == Accepted()
    totals = await store.read_totals()
    assert (totals.counters, totals.processes) == ({"a": (11,), "b": (2,)}, 2)


async def test_the_same_push_twice_counts_once(store: Store) -> None:
    once = push(a=5)
    assert await pushed(store, once) == Accepted()
    assert await pushed(store, once) == Behind(1)
    assert await pushed(store, push(force=True, a=5)) == Accepted()
    assert await counted(store) == {"a": (5,)}


async def test_a_counter_never_falls(store: Store) -> None:
    await pushed(store, push(a=100, b=9))
    await pushed(store, push(at=1, a=99, b=10))
    assert await counted(store) == {"a": (100,), "b": (10,)}


async def test_integers_beyond_a_double_s_are_exact(store: Store) -> None:
    await pushed(store, push(a=LARGE - 1))
    await pushed(store, push(at=1, a=LARGE))
    await pushed(store, push("two", a=LARGE))
    assert await counted(store) == {"a": (2 * LARGE,)}
    assert await store.fold_dead(0.0) == 2
    assert await counted(store) == {"a": (2 * LARGE,)}


async def test_a_wiped_slot_asks_for_everything(store: Store, raw: Any, namespace: str) -> None:
    await pushed(store, push(a=1))
    await raw.delete(f"{{{namespace}}}:2:slot:one")
    assert await pushed(store, push(at=1, a=2)) == Behind(None)
    assert await pushed(store, push(at=1, force=True, a=2, b=1)) == Accepted()
    assert await pushed(store, push(at=2, a=3)) == Accepted()


async def test_a_silent_slot_is_folded_once_and_told_so(store: Store) -> None:
    await pushed(store, push(a=7))
    folded = await asyncio.gather(*(store.fold_dead(0.0) for _ in range(8)))
    assert sum(folded) == 1
    assert await counted(store) == {"a": (7,)}
    assert await pushed(store, push(at=1, a=9)) == Folded({"a": (7,)})
    assert await pushed(store, push(at=1, force=True, a=9)) == Folded({"a": (7,)})
    assert await counted(store) == {"a": (7,)}


async def test_a_slot_that_was_heard_from_is_left_alone(store: Store) -> None:
    await pushed(store, push(a=7))
    assert await store.fold_dead(3600.0) == 0
    assert (await store.read_totals()).processes == 1


async def test_totals_are_whole_while_slots_are_folded(store: Store) -> None:
    """No reader ever sees a slot both in its place and in the base, or in neither."""
    for number in range(40):
        await pushed(store, push(f"slot{number}", a=1))

    async def read() -> set[int]:
        return {(await counted(store))["a"][0] for _ in range(20)}

    async def fold() -> set[int]:
        await store.fold_dead(0.0)
        return {40}

    assert set().union(*await asyncio.gather(read(), fold(), read())) == {40}


async def test_names_of_any_kind_pass_through(store: Store) -> None:
    name = 'requests|täg|"a\\b"|\n{}'
    await pushed(store, push(**{name: 3}))
    assert await counted(store) == {name: (3,)}


async def test_a_push_of_thousands_of_series(store: Store) -> None:
    cells = {f"tenant|key|model|route|target{number}|shared": number + 1 for number in range(5_000)}
    assert await pushed(store, push(force=True, **cells)) == Accepted()
    assert await counted(store) == {name: (count,) for name, count in cells.items()}


async def test_what_raises_a_slot_is_filed_under_its_minute_and_hour_once(store: Store) -> None:
    name, later = series(), Period(Grain.MINUTE, NOON.start_s + 60)
    raises = (Raise(None, {name: vector(requests=10)}), Raise(NOON, {name: vector(requests=12, nano_usd=LARGE)}))
    for _ in range(2):
        await pushed(store, Push(slot="one", expected=0, raises=raises, force=True))
    await pushed(store, Push(slot="two", expected=0, raises=(Raise(later, {name: vector(requests=1)}),)))
    await pushed(store, Push(slot="one", expected=1, raises=(Raise(NOON.hour, {name: vector(requests=15)}),)))
    minutes = await store.rows(NOON.start_s, NOON.start_s + 3600, Grain.MINUTE)
    assert [(row.start_s - NOON.start_s, row.counts) for row in minutes] == [
        (0, {"requests": 2, "nano_usd": LARGE}),
        (60, {"requests": 1}),
    ]
    (hour,) = await store.rows(NOON.start_s + 60, NOON.start_s + 61, Grain.HOUR)
    assert (hour.start_s, hour.grain, hour.counts) == (
        NOON.start_s, Grain.HOUR, {"requests": 6, "nano_usd": LARGE},
    )  # fmt: skip
    assert hour.series == Series("anonymous", "", "llama-70b", ROUTE, "together", "shared")


async def test_folding_files_nothing(store: Store) -> None:
    await pushed(store, push(a=7, period=None))
    await pushed(store, push(at=1, **{series(): 9}))
    await store.fold_dead(0.0)
    assert [row.counts for row in await store.rows(NOON.start_s, NOON.start_s + 60, Grain.MINUTE)] == [{"requests": 9}]


async def test_aggregates_are_kept_for_a_set_time(store: Store, raw: Any, namespace: str) -> None:
    for _ in range(2):
        await pushed(store, push(force=True, a=7))
    kept_s = [await raw.ttl(f"{{{namespace}}}:2:{period.key}") for period in (NOON, NOON.hour)]
    assert MINUTES_KEPT_S - 60 < kept_s[0] <= MINUTES_KEPT_S
    assert HOURS_KEPT_S - 60 < kept_s[1] <= HOURS_KEPT_S


async def test_an_exchange_tells_the_time_and_who_lives(store: Store, raw: Any) -> None:
    before, _ = await raw.time()
    for process in ("one", "two", "one"):
        heard, answers = await store.exchange(Moment(process, 0.0, None), [])
    assert (heard.members, answers) == (2, [])
    assert before * 1000 <= heard.store_ms <= (before + 60) * 1000
    assert heard.learning
    heard, _ = await store.exchange(Moment("two", 0.0, None, last=True), [])
    assert heard.members == 1
    assert (await store.read_totals()).processes == 1


async def test_after_a_while_a_store_has_learnt(store_url: str, namespace: str) -> None:
    store = Store(store_url, namespace, PATIENCE_S, learn_s=0.0)
    heard, _ = await store.exchange(Moment("one", 0.0, None), [])
    assert not heard.learning
    await store.aclose()


async def test_a_wipe_is_found_on_a_server_that_shows_no_run_id(store: Store, raw: Any, namespace: str) -> None:
    """Some that are sold as a service keep it to themselves."""
    shown, key = store._exchange, f"{{{namespace}}}:2:meta"
    store._exchange = lambda names: SHOWS_NOTHING + shown(names)  # type: ignore[assignment]
    moment = Moment("one", 0.0, None)
    await store.exchange(moment, [])
    await raw.hset(key, "learning_until", 0)
    assert not (await store.exchange(moment, []))[0].learning
    await raw.delete(key)
    assert (await store.exchange(moment, []))[0].learning


async def test_parts_are_answered_each_with_its_own_keys_and_in_their_order(store: Store) -> None:
    moment = Moment("one", 0.0, None)
    gauges, counters = Gauges(lambda: {"llama/0": 1}, lambda _: None).ask(moment), question(push(a=1), KEPT_S)
    _, answers = await store.exchange(moment, [("gauges", gauges), ("counters", counters)])
    assert answers == [[], [b"accepted"]]
    _, answers = await store.exchange(moment._replace(slot="two"), [("counters", counters), ("gauges", gauges)])
    assert answers == [[b"behind", b"1"], [b'{"llama/0":1}']]


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
    await asked(store, Gauges(lambda: {"llama/0": 1}, lambda _: None))
    await pushed(store, push("one", a=1))
    await pushed(store, push("two", a=1))
    await store.fold_dead(0.0)
    await pushed(store, push("three", a=1))
    keys = [key async for key in raw.scan_iter(f"*{namespace}*")]
    names = {key.removeprefix(f"{{{namespace}}}:2:") for key in keys}
    assert names == {
        "base", "folded:one", "folded:two", "gauges", "members", "meta", "slot:three", "slots",
        NOON.key, NOON.hour.key,
    }  # fmt: skip


async def test_what_the_dead_had_counted_is_put_back_after_a_wipe(store: Store, raw: Any, namespace: str) -> None:
    """By the first of the living that has read it; and once."""
    counted = {"a|b": (1, 2), "c|d": (3, 4)}
    await pushed(store, Push(slot="dead", expected=0, raises=(Raise(None, counted),)))
    await raw.hset(f"{{{namespace}}}:{LAYOUT}:meta", "learning_until", 0)
    before = await store.read_totals()
    await raw.delete(*await raw.keys(f"{{{namespace}}}:*"))
    assert (await store.read_totals()).counters == {}
    await store.exchange(Moment("living", 0.0, None), [])
    assert [await store.restore(), await store.restore()] == [1, 0]
    assert (await store.read_totals()).counters == before.counters


async def test_what_is_there_after_a_wipe_is_not_overwritten(store: Store, raw: Any, namespace: str) -> None:
    await pushed(store, Push(slot="one", expected=0, raises=(Raise(None, {"a|b": (1,)}),)))
    await raw.hset(f"{{{namespace}}}:{LAYOUT}:meta", "learning_until", 0)
    await store.read_totals()
    await raw.delete(*await raw.keys(f"{{{namespace}}}:*"))
    await pushed(store, Push(slot="one", expected=0, raises=(Raise(None, {"a|b": (5,)}),)))
    assert await store.restore() == 0
    assert (await store.read_totals()).counters["a|b"][0] == 5


async def test_what_is_to_be_done_once_is_claimed_by_one_until_it_is_released(
    store: Store, raw: Any, namespace: str
) -> None:
    assert [await store.claim("wake:gpu", 60.0) for _ in range(3)] == [True, False, False]
    assert await store.claim("wake:other", 60.0)
    assert 59_000 < await raw.pttl(f"{{{namespace}}}:2:claim:wake:gpu") <= 60_000
    await store.release("wake:gpu")
    assert await store.claim("wake:gpu", 60.0)
