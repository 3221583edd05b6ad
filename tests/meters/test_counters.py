"""Slots on the wire, this process's own and those of the dead."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.meters.aggregates import Grain
from proxy.meters.counters import Counters
from proxy.meters.fields import SERIES
from proxy.meters.ledger import Ledger
from proxy.meters.part import Moment
from proxy.meters.store import Store
from proxy.meters.summary import summarise
from proxy.meters.vectors import Vector
from tests.meters.examples import NOON, ROUTE, asked, facts, outcome, series, vector

NOON_MS = NOON.start_s * 1000


@dataclass
class Found:
    """What a dead process left."""

    slot: str
    cells: dict[tuple[str, str], Vector]
    acknowledged: dict[tuple[str, str], Vector] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)


async def test_what_was_settled_is_stored_once(store: Store) -> None:
    ledger = Ledger()
    counters = Counters("one", ledger)
    ledger.settle(facts(), ROUTE, outcome())
    await asked(store, counters)
    assert not counters.settled
    counters.ask(Moment("one", 0.0, NOON_MS))
    counters.unheard(Moment("one", 0.0, NOON_MS))
    await asked(store, counters, store_ms=NOON_MS + 59_999)
    assert counters.settled
    assert summarise(await store.read_totals()).all()["requests"] == 1
    (row,) = await store.rows(NOON.start_s, NOON.start_s + 60, Grain.MINUTE)
    assert row.counts["requests"] == 1


async def test_what_the_dead_had_counted_is_adopted_once_and_told_when_it_is_in(store: Store) -> None:
    """Part of it had reached the store, and some of that was folded since."""
    ledger, name = Ledger(), series()
    dead = Counters("dead", ledger)
    ledger.settle(facts(), ROUTE, outcome())
    await asked(store, dead, store_ms=NOON_MS)
    await store.fold_dead(0.0)
    left = Found("dead", {(SERIES, name): vector(requests=3), ("term", "t"): (5,)})
    for _ in range(2):
        heir = Counters("heir", Ledger())
        heir.adopt(left, lambda: left.done.append("told"))
        assert not heir.settled
        turns = 0
        while not heir.settled:
            await asked(store, heir, store_ms=NOON_MS + 120_000)
            turns += 1
        assert turns <= 8
    assert left.done == ["told", "told"]
    assert summarise(await store.read_totals()).all()["requests"] == 3
    rows = await store.rows(NOON.start_s, NOON.start_s + 180, Grain.MINUTE)
    assert [(row.start_s - NOON.start_s, row.counts["requests"]) for row in rows] == [(0, 1), (120, 2)]


async def test_one_s_own_counts_take_turns_with_those_of_the_dead(store: Store) -> None:
    ledger = Ledger()
    counters = Counters("one", ledger)
    for number in range(3):
        left = Found(f"dead{number}", {(SERIES, series()): vector(requests=10)})
        counters.adopt(left, lambda: None)
    for _ in range(20):
        ledger.settle(facts(), ROUTE, outcome())
        await asked(store, counters, store_ms=NOON_MS)
    while not counters.settled:
        await asked(store, counters, store_ms=NOON_MS)
    assert summarise(await store.read_totals()).all()["requests"] == 50


def test_where_nothing_was_counted_nothing_is_adopted() -> None:
    counters, left = Counters("one", Ledger()), Found("dead", {("term", "t"): (5,)})
    counters.adopt(left, lambda: left.done.append("told"))
    assert left.done == ["told"]


async def test_a_wiped_store_learns_from_a_journal_what_it_had(store: Store) -> None:
    had = {(SERIES, series()): vector(requests=40), (SERIES, series(target="other")): vector(requests=7)}
    counters = Counters("one", Ledger())
    left = Found("dead", {(SERIES, series()): vector(requests=42)}, had)
    counters.adopt(left, lambda: left.done.append("told"))
    while not counters.settled:
        await asked(store, counters, store_ms=NOON_MS)
    assert summarise(await store.read_totals()).all()["requests"] == 49
    assert [row.counts for row in await store.rows(NOON.start_s, NOON.start_s + 60, Grain.MINUTE)] == [{"requests": 2}]
