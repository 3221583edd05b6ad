"""What a dead process left, taken over: exact where it had ended, else estimated; told again without harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from proxy.meters.aggregates import tally
from proxy.meters.counters import Counters
from proxy.meters.escrow import Escrow
from proxy.meters.fields import SERIES
from proxy.meters.journal import Journal
from proxy.meters.journal_format import Open
from proxy.meters.ledger import Ledger
from proxy.meters.left_behind import recover
from proxy.meters.part import Moment
from proxy.meters.recovery import take_over, with_unfinished
from proxy.meters.store import Store
from proxy.meters.sync import Sync
from proxy.meters.term import NOTED_AHEAD
from proxy.policy.model import Budget, Cap, Per, Target
from proxy.routing.outcome import Usage
from proxy.routing.plan import Attempt, Cause
from proxy.routing.work import work_us
from tests.meters.examples import LLAMA, ROUTE, TOGETHER, USD, facts, outcome, series, vector

BUDGET = Budget(name="cap", caps=(Cap(USD, Per.TOTAL),))
ONCE = vector(requests=1, attempts=1, input_tokens=100, output_tokens=50, nano_usd=132_000, busy_ms=250)
UNFINISHED_NANO_USD = (40 + 9) * 880


def attempt(target: Target = TOGETHER, ordinal: int = 0) -> Attempt:
    return Attempt(target=target, replica=0, model="up", ordinal=ordinal, cause=Cause.PREFERRED, reason="test")


def unfinished(*values: int, progress: int = 0, name: str | None = None) -> Open:
    return Open(SERIES, name or series(), values, progress)


class Dead:
    """A process that counts one attempt, begins another, and is never heard of again."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal.open(folder, "dead", attempts=8, arena_bytes=1 << 16)
        self.ledger = Ledger(self.journal)
        self.escrow = Escrow(lambda alert: None, self.journal)
        self.escrow.adopt([BUDGET])

    def count(self) -> None:
        asked = facts()
        self.ledger.settle(asked, ROUTE, outcome(), self.ledger.begin(asked, ROUTE, attempt()))

    def begin(self) -> None:
        begun = self.ledger.begin(structs.replace(facts(), input_tokens=40), ROUTE, attempt())
        self.ledger.progress(begun, 9)

    async def lease(self, store: Store) -> None:
        """Is granted some of the budget, uses 300 of it and holds 200."""
        for now in (1.0, 2.0):
            moment = Moment("dead", now, 1)
            ask = self.escrow.ask(moment)
            heard, (reply,) = await store.exchange(moment, [("escrow", ask)])
            self.escrow.told(reply, heard, moment)
        (term,) = self.escrow.terms_of([BUDGET])
        assert term.set_aside(500, 2.0, begun=False)
        term.settle(300, 300)

    def die(self) -> None:
        self.journal.close()


def heir(store: Store, folder: Path) -> tuple[Sync, Escrow]:
    """A process that takes over all that is left in the folder."""
    counters, escrow = Counters("heir", Ledger()), Escrow(lambda alert: None)
    escrow.adopt([BUDGET])
    take_over(recover(folder), counters, escrow)
    return Sync(store, counters, [escrow]), escrow


async def settle(sync: Sync) -> None:
    for _ in range(3):
        await sync.sync()


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def counted(store: Store) -> dict[str, int]:
    totals = await store.read_totals()
    return tally(totals.counters.get(series(), ()))


@pytest.fixture
async def learnt(store_url: str, namespace: str) -> Any:
    """A store that is not new, so that it grants."""
    opened = Store(store_url, namespace, 30.0, learn_s=0.0)
    yield opened
    await opened.aclose()


async def test_what_had_ended_is_exact_and_what_had_not_is_estimated(learnt: Store, tmp_path: Path) -> None:
    dead = Dead(tmp_path)
    dead.count()
    dead.begin()
    dead.die()
    sync, _ = heir(learnt, tmp_path)
    await settle(sync)
    assert await counted(learnt) == {
        "requests": 2,
        "attempts": 2,
        "failures": 1,
        "input_tokens": 140,
        "output_tokens": 59,
        "estimated_tokens": 49,
        "estimated_attempts": 1,
        "nano_usd": 132_000 + UNFINISHED_NANO_USD,
        "estimated_nano_usd": UNFINISHED_NANO_USD,
        "busy_ms": 250,
    }


async def test_the_file_goes_when_the_store_has_counts_and_leases(learnt: Store, tmp_path: Path) -> None:
    dead = Dead(tmp_path)
    dead.count()
    await dead.lease(learnt)
    dead.die()
    counters, escrow = Counters("heir", Ledger()), Escrow(lambda alert: None)
    take_over(recover(tmp_path), counters, escrow)
    await settle(Sync(learnt, counters))
    assert left_in(tmp_path) != []
    await settle(Sync(learnt, Counters("heir", Ledger()), [escrow]))
    assert left_in(tmp_path) == []


MOST = 500 + NOTED_AHEAD * 500
"""A note leaves some room, so that not every request has to be noted."""


async def test_what_was_leased_and_not_used_can_be_spent_by_others(learnt: Store, tmp_path: Path) -> None:
    """What it held for requests in flight counts as used: nobody can tell any more."""
    dead = Dead(tmp_path)
    await dead.lease(learnt)
    dead.die()
    sync, escrow = heir(learnt, tmp_path)
    await settle(sync)
    (standing,) = escrow.standings(1.0)
    assert 500 <= standing.spent_nano_usd <= MOST
    (term,) = escrow.terms_of([BUDGET])
    assert term.outstanding == standing.spent_nano_usd + term.granted - term.returned


async def test_it_does_no_harm_to_be_taken_over_twice(learnt: Store, tmp_path: Path) -> None:
    """Who took it over may die between telling the store and removing the file."""
    dead = Dead(tmp_path)
    dead.count()
    dead.begin()
    await dead.lease(learnt)
    dead.die()
    (path,) = left_in(tmp_path)
    copy = path.read_bytes()
    await settle(heir(learnt, tmp_path)[0])
    once = await counted(learnt)
    assert left_in(tmp_path) == []
    path.write_bytes(copy)
    sync, escrow = heir(learnt, tmp_path)
    await settle(sync)
    assert await counted(learnt) == once
    assert 500 <= escrow.standings(1.0)[0].spent_nano_usd <= MOST


async def test_a_journal_without_anything_is_forgotten_at_once(tmp_path: Path) -> None:
    dead = Dead(tmp_path)
    dead.journal.begin(dead.journal.cell("other", "x", 1))
    dead.die()
    assert left_in(tmp_path) != []
    take_over(recover(tmp_path), Counters("heir", Ledger()), Escrow(lambda alert: None))
    assert left_in(tmp_path) == []


def test_an_unfinished_attempt_adds_to_what_the_store_had_of_its_series() -> None:
    key = (SERIES, series())
    found = with_unfinished({}, {key: ONCE}, [unfinished(40, 0, 0, 1_000_000, 2_000_000, progress=9)])
    assert tally(found[key])["attempts"] == 2
    assert tally(found[key])["requests"] == 1
    assert tally(found[key])["nano_usd"] == 132_000 + 40 + 18


def test_several_of_one_series_all_count() -> None:
    found = with_unfinished({}, {}, [unfinished(10, 1, 0, 0, 0), unfinished(20, 1, 0, 0, 0)])
    assert tally(found[SERIES, series()])["input_tokens"] == 30
    assert tally(found[SERIES, series()])["requests"] == 2


def test_an_unfinished_dedicated_attempt_is_charged_its_work() -> None:
    name = series(target=LLAMA.name, lane="dedicated")
    found = with_unfinished({}, {}, [unfinished(1000, 1, 1, 0, 0, progress=50, name=name)])
    counts = tally(found[SERIES, name])
    assert counts["work_us"] == work_us(Usage(input_tokens=1000, output_tokens=50))
    assert "nano_usd" not in counts


def test_part_of_a_nano_dollar_is_charged_whole() -> None:
    found = with_unfinished({}, {}, [unfinished(1, 1, 0, 1, 0)])
    assert tally(found[SERIES, series()])["nano_usd"] == 1


def test_an_attempt_of_another_kind_is_left_alone() -> None:
    assert with_unfinished({}, {}, [Open("other", "x", (1, 1, 0, 0, 0), 0)]) == {}
