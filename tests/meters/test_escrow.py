"""Budgets as one process holds them: over reloads and windows, and in the exchange with the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from proxy.meters.escrow import AHEAD_MS, KEPT_MS, MAX_TERMS, REFRESH_S, UNBOUNDED, UNSYNCED_PART, Alert, Escrow
from proxy.meters.part import Heard, Moment
from proxy.meters.store import Store
from proxy.policy.model import Budget, Cap, Enforce, Per

LIMIT = 1_000_000
NOON_MS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
MIDNIGHT_MS = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1000)


def budget(name: str = "cap", *per: Per, **given: Any) -> Budget:
    return Budget(**{"name": name, "caps": tuple(Cap(LIMIT, one) for one in per or (Per.DAY,)), **given})


CAP = budget()


class Played:
    """An escrow whose store grants what is wanted, at a time that the test tells."""

    def __init__(self, *budgets: Budget) -> None:
        self.alerts: list[Alert] = []
        self.escrow = Escrow(self.alerts.append)
        self.escrow.adopt(budgets)
        self.now = 0.0
        self.keys: tuple[str, ...] = ()
        self.entries: list[dict[str, Any]] = []

    def sync(
        self, store_ms: int = NOON_MS, *, learning: bool = False, crossed: Sequence[int] = (), last: bool = False
    ) -> None:
        self.now += 0.2
        moment = Moment("me", self.now, store_ms, last)
        ask = self.escrow.ask(moment)
        self.keys, self.entries = ask.keys[1:], orjson.loads(ask.argument)
        reply = [self._answer(entry, crossed) for entry in self.entries]
        self.escrow.told(reply, Heard(store_ms, 1, learning), moment)

    def _answer(self, entry: dict[str, Any], crossed: Sequence[int]) -> list[Any]:
        granted = int(entry["granted"]) + entry["want"]
        return [granted, int(entry["used"]), granted - int(entry["returned"]), 0, list(crossed), []]

    def hold(self, one: Budget, amount: int) -> bool:
        return all(term.set_aside(amount, self.now, begun=False) for term in self.escrow.terms_of([one]))


# policies and windows


def test_a_reload_keeps_what_is_held_and_takes_the_new_limit() -> None:
    played = Played(CAP)
    played.sync()
    assert played.hold(CAP, 100)
    (before,) = played.escrow.terms_of([CAP])
    raised = replace(CAP, caps=(Cap(2 * LIMIT, Per.DAY),), enforce=Enforce.SOFT, alerts=(90,))
    played.escrow.adopt([raised])
    (after,) = played.escrow.terms_of([raised])
    assert after is before
    assert (after.held, after.limit, after.hard, after.alerts) == (100, 2 * LIMIT, False, (90,))


def test_a_budget_that_leaves_the_policy_and_comes_back_has_what_it_had() -> None:
    """Begun anew in the same window, it could spend once more what it had spent before."""
    played = Played(CAP)
    played.sync()
    (before,) = played.escrow.terms_of([CAP])
    assert played.hold(CAP, 100)
    before.settle(100, 100)
    played.escrow.adopt([])
    for _ in range(3):
        played.sync()
    played.escrow.adopt([CAP])
    (after,) = played.escrow.terms_of([CAP])
    assert after is before
    assert after.used == 100


def test_a_budget_that_was_removed_is_told_of_until_all_is_settled() -> None:
    played = Played(CAP)
    played.sync()
    played.hold(CAP, 100)
    (term,) = played.escrow.terms_of([CAP])
    played.escrow.adopt([])
    assert played.escrow.terms_of([CAP]) == ()
    assert len(played.escrow) == 0
    term.settle(100, 70)
    played.sync()
    assert [entry["used"] for entry in played.entries] == ["70"]
    played.sync()
    played.sync()
    assert played.entries == []


def test_until_the_store_has_told_the_time_nothing_is_asked() -> None:
    played = Played(CAP)
    ask = played.escrow.ask(Moment("me", 0.0, None))
    assert orjson.loads(ask.argument) == []


def test_what_was_used_before_the_first_window_was_known_counts_in_it() -> None:
    soft = budget(enforce=Enforce.SOFT)
    played = Played(soft)
    (term,) = played.escrow.terms_of([soft])
    term.settle(0, 50)
    played.sync()
    assert played.escrow.terms_of([soft]) == (term,)
    assert played.entries[0]["used"] == "50"
    assert played.keys[0].startswith("budget:cap:day:")


def test_a_new_window_begins_unspent_and_the_last_one_is_settled_where_it_was_begun() -> None:
    played = Played(CAP)
    played.sync(MIDNIGHT_MS - 60_000)
    played.hold(CAP, 100)
    (before,) = played.escrow.terms_of([CAP])
    played.sync(MIDNIGHT_MS + 1)
    (after,) = played.escrow.terms_of([CAP])
    assert after is not before
    assert (after.used, after.held, after.start_ms) == (0, 0, MIDNIGHT_MS)
    before.settle(100, 80)
    played.sync(MIDNIGHT_MS + 500)
    told = dict(zip(played.keys, played.entries, strict=True))
    assert told[before.key]["used"] == "80"
    played.sync(MIDNIGHT_MS + 700)
    played.sync(MIDNIGHT_MS + 900)
    assert before.key not in played.keys


def test_money_for_the_next_window_is_there_when_it_begins() -> None:
    played = Played(CAP)
    played.sync(MIDNIGHT_MS - AHEAD_MS - 1000)
    assert len(played.keys) == 1
    played.sync(MIDNIGHT_MS - AHEAD_MS + 1)
    played.sync(MIDNIGHT_MS - 1)
    played.sync(MIDNIGHT_MS)
    (term,) = played.escrow.terms_of([CAP])
    assert term.start_ms == MIDNIGHT_MS
    assert term.free > 0


def test_each_window_turns_by_itself() -> None:
    both = budget("cap", Per.HOUR, Per.MONTH)
    played = Played(both)
    played.sync(NOON_MS)
    hour, month = played.escrow.terms_of([both])
    played.sync(NOON_MS + 3_600_000)
    later, same = played.escrow.terms_of([both])
    assert later is not hour
    assert same is month


def test_a_store_forgets_a_window_some_days_after_its_end() -> None:
    played = Played(CAP, budget("all", Per.TOTAL))
    played.sync()
    assert played.entries[0]["expire_ms"] == MIDNIGHT_MS + KEPT_MS
    assert "expire_ms" not in played.entries[1]


# what routing sees


def test_the_tightest_window_speaks_for_a_budget() -> None:
    both = Budget(name="cap", caps=(Cap(500, Per.HOUR), Cap(LIMIT, Per.DAY)), enforce=Enforce.SOFT)
    played = Played(both)
    played.sync()
    fund = played.escrow.at(played.now)["cap"]
    assert (fund.free_nano_usd, fund.limit_nano_usd, fund.per) == (500, 500, Per.HOUR)
    assert fund.resets_in_s == pytest.approx(3600.0, abs=0.01)
    assert played.escrow.free_nano_usd("cap") == 500
    assert played.escrow.free_nano_usd("unknown") == UNBOUNDED


def test_without_the_store_a_hard_budget_has_what_was_leased_and_a_soft_one_a_part_of_its_cap() -> None:
    hard, soft = budget("hard"), budget("soft", enforce=Enforce.SOFT)
    played = Played(hard, soft)
    played.sync()
    leased = played.escrow["hard"].free_nano_usd
    assert played.escrow["soft"].free_nano_usd == LIMIT
    played.escrow.unheard(Moment("me", played.now, NOON_MS))
    assert played.escrow["hard"].free_nano_usd == leased > 0
    assert not played.escrow["hard"].known
    assert played.escrow["soft"].free_nano_usd == LIMIT // UNSYNCED_PART
    assert played.escrow["soft"].known


def test_standings_tell_what_is_spent_and_which_alert_was_reached() -> None:
    played = Played(CAP)
    played.sync()
    assert played.hold(CAP, 100)
    (term,) = played.escrow.terms_of([CAP])
    term.settle(0, 600_000)
    (one,) = played.escrow.standings(played.now)
    assert (one.spent_nano_usd, one.alert_percent, one.known) == (600_000, 50, True)
    assert one.held_nano_usd >= 100
    assert one.limit_nano_usd == LIMIT == one.spent_nano_usd + one.held_nano_usd + one.free_nano_usd
    assert one.window_start_s == MIDNIGHT_MS // 1000 - 86_400


def test_an_alert_is_passed_on_with_what_was_spent() -> None:
    played = Played(CAP)
    played.sync(crossed=[50, 80])
    assert [(one.budget, one.per, one.percent, one.limit_nano_usd) for one in played.alerts] == [
        ("cap", "day", 50, LIMIT),
        ("cap", "day", 80, LIMIT),
    ]


# what is asked


def test_what_is_at_rest_is_told_only_now_and_then() -> None:
    played = Played(budget(enforce=Enforce.SOFT))
    played.sync()
    assert len(played.entries) == 1
    played.sync()
    assert played.entries == []
    played.now += REFRESH_S
    played.sync()
    assert len(played.entries) == 1


def test_thousands_of_budgets_are_told_in_turns() -> None:
    played = Played(*[budget(f"b{n}", enforce=Enforce.SOFT) for n in range(MAX_TERMS + 100)])
    played.sync()
    first = set(played.keys)
    played.sync()
    assert (len(first), len(played.keys)) == (MAX_TERMS, 100)
    assert not first & set(played.keys)


def test_who_leaves_gives_back_all_that_is_free() -> None:
    played = Played(CAP)
    played.sync()
    played.hold(CAP, 10)
    (term,) = played.escrow.terms_of([CAP])
    played.sync(last=True)
    assert term.returned == term.granted - 10
    assert played.entries[0]["returned"] == str(term.returned)


def test_a_store_that_learns_is_told_of_the_others() -> None:
    played = Played(CAP)
    played.sync()
    (term,) = played.escrow.terms_of([CAP])
    moment = Moment("me", 1.0, NOON_MS)
    term.settle(0, 1)
    played.escrow.ask(moment)
    reply = [[1000, 1, 1000, 0, [], ["base", "5", "other", "70"]]]
    played.escrow.told(reply, Heard(NOON_MS, 2, learning=True), moment)
    played.sync(learning=True)
    assert played.entries[0]["others"] == {"base": "5", "other": "70"}
    played.sync()
    assert "others" in played.entries[0]
    played.sync()
    assert all("others" not in entry for entry in played.entries)


def test_what_a_dead_process_held_counts_as_used() -> None:
    played, told = Played(), []
    played.escrow.adopt_left("dead", "budget:cap:day:0", (1000, 100, 300, 200), lambda: told.append(True))
    played.sync()
    (entry,) = played.entries
    assert (entry["slot"], entry["granted"], entry["used"], entry["returned"]) == ("dead", "1000", "500", "500")
    assert told == [True]
    played.sync()
    assert (played.entries, told) == ([], [True])


# with the store


@pytest.fixture
async def learnt(store_url: str, namespace: str) -> AsyncIterator[Store]:
    """A store that grants at once."""
    opened = Store(store_url, namespace, 30.0, learn_s=0.0)
    yield opened
    await opened.aclose()


class Process:
    """One proxy at a real store."""

    def __init__(self, slot: str, store: Store, *budgets: Budget) -> None:
        self.alerts: list[int] = []
        self.escrow = Escrow(lambda alert: self.alerts.append(alert.percent))
        self.escrow.adopt(budgets)
        self._slot, self._store = slot, store
        self.now, self._store_ms = 0.0, 1

    async def sync(self, times: int = 1, *, last: bool = False) -> None:
        for _ in range(times):
            self.now += 0.2
            moment = Moment(self._slot, self.now, self._store_ms, last)
            ask = self.escrow.ask(moment)
            heard, (reply,) = await self._store.exchange(moment, [("escrow", ask)])
            self._store_ms = heard.store_ms
            self.escrow.told(reply, heard, moment)


TOTAL = budget("cap", Per.TOTAL)


async def test_two_processes_are_never_granted_more_than_the_cap(learnt: Store) -> None:
    one, two = Process("one", learnt, TOTAL), Process("two", learnt, TOTAL)
    for _ in range(60):
        for process in (one, two):
            (term,) = process.escrow.terms_of([TOTAL])
            if term.set_aside(40_000, process.now, begun=False):
                term.settle(40_000, 40_000)
            await process.sync()
    used = sum(process.escrow.terms_of([TOTAL])[0].used for process in (one, two))
    assert used <= LIMIT
    assert used > LIMIT * 0.9


async def test_an_alert_is_told_once_among_all(learnt: Store) -> None:
    soft = replace(TOTAL, enforce=Enforce.SOFT)
    one, two = Process("one", learnt, soft), Process("two", learnt, soft)
    for process in (one, two):
        await process.sync(2)
        process.escrow.terms_of([soft])[0].settle(0, 450_000)
    for _ in range(3):
        await one.sync()
        await two.sync()
    assert sorted(one.alerts + two.alerts) == [50, 80]


async def test_what_a_leaving_process_gives_back_another_can_spend(learnt: Store) -> None:
    one, two = Process("one", learnt, TOTAL), Process("two", learnt, TOTAL)
    await one.sync(2)
    (term,) = one.escrow.terms_of([TOTAL])
    assert not term.set_aside(900_000, 0.0, begun=False)
    await one.sync()
    assert term.free >= 900_000
    await one.sync(last=True)
    (other,) = two.escrow.terms_of([TOTAL])
    other.lack(950_000)
    await two.sync(2)
    assert other.free >= 950_000
