"""One window of one cap: what may be set aside, what is asked for and given back, and when windows turn."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.term import IDLE_S, Term, window
from proxy.policy.model import Enforce, Per

LIMIT = 100_000
NO_ALERTS: tuple[int, ...] = ()


def term(enforce: Enforce = Enforce.HARD, limit: int = LIMIT, granted: int = 0) -> Term:
    made = Term("cap", Per.TOTAL, limit, enforce=enforce, alerts=NO_ALERTS, start_ms=0, end_ms=None)
    tell(made, granted)
    return made


def tell(one: Term, granted: int, *, spent: int = 0, starving: bool = False, now: float = 0.0) -> None:
    one.told(granted, spent, granted, starving, one.used, now)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_a_hard_cap_sets_aside_what_was_granted_and_nothing_beyond() -> None:
    one = term(granted=1000)
    assert one.set_aside(600, 0.0, begun=False)
    assert not one.set_aside(401, 0.0, begun=False)
    assert one.refused
    assert one.set_aside(400, 0.0, begun=True)
    assert (one.free, one.held) == (0, 1000)


def test_what_was_held_beyond_its_use_is_free_again() -> None:
    one = term(granted=1000)
    one.set_aside(600, 0.0, begun=False)
    one.settle(600, 250)
    assert (one.free, one.used, one.held, one.spent) == (750, 250, 0, 250)
    one.set_aside(100, 0.0, begun=False)
    one.release(100)
    assert one.free == 750


def test_a_use_beyond_its_hold_is_a_debt_that_the_next_grant_pays() -> None:
    one = term(granted=1000)
    one.set_aside(1000, 0.0, begun=False)
    one.settle(1000, 1300)
    assert one.free == -300
    need, _ = one.wanted(1.0)
    assert need == 300
    tell(one, 1500)
    assert one.free == 200


def test_what_was_refused_is_asked_for_once() -> None:
    one = term(granted=100)
    assert not one.set_aside(700, 0.0, begun=False)
    assert one.wanted(0.0)[0] == 600
    assert one.wanted(0.2)[0] == 0


@pytest.mark.parametrize(
    ("enforce", "begins", "goes_on"), [(Enforce.SOFT, False, True), (Enforce.SHADOW, True, True)], ids=str
)
def test_a_cap_that_is_not_hard_stops_what_begins_or_nothing(enforce: Enforce, begins: bool, goes_on: bool) -> None:
    one = term(enforce)
    assert one.set_aside(LIMIT, 0.0, begun=False)
    assert one.set_aside(1, 0.0, begun=False) is begins
    assert one.set_aside(1, 0.0, begun=True) is goes_on


def test_a_soft_cap_leaves_what_nobody_has_spent() -> None:
    one = term(Enforce.SOFT)
    one.set_aside(5000, 0.0, begun=False)
    one.settle(5000, 4000)
    one.told(0, 30_000, 0, False, 4000, 1.0)
    assert (one.spent, one.free) == (30_000, LIMIT - 30_000)
    assert not one.moves


def test_an_answer_whose_grant_was_lost_is_made_good_and_an_old_one_takes_nothing_back() -> None:
    one = term(granted=1000)
    tell(one, 3000)
    tell(one, 2000)
    assert one.granted == 3000


def test_more_is_asked_for_the_faster_it_is_used_up() -> None:
    def welcome(each: int) -> int:
        one = term(granted=50_000, limit=10_000_000_000)
        one.wanted(0.0)
        for beat in range(1, 11):
            one.set_aside(each, beat * 0.2, begun=False)
            one.settle(each, each)
            found = one.wanted(beat * 0.2)[1]
        return found

    assert welcome(4000) > welcome(400) >= 0


def test_what_is_idle_goes_back_once_somebody_starves() -> None:
    one = term(granted=1000)
    one.set_aside(100, 0.0, begun=False)
    tell(one, 1000, starving=True)
    one.wanted(IDLE_S + 1.0)
    assert (one.returned, one.free, one.held) == (900, 0, 100)


def test_nothing_goes_back_that_is_held_or_owed() -> None:
    one = term(granted=1000)
    one.set_aside(1000, 0.0, begun=False)
    one.settle(1000, 1100)
    tell(one, 1000, starving=True)
    one.wanted(100.0)
    one.leave()
    assert one.returned == 0


def test_who_leaves_gives_back_what_is_free() -> None:
    one = term(granted=1000)
    one.set_aside(300, 0.0, begun=False)
    one.leave()
    assert (one.returned, one.free) == (700, 0)


def test_what_the_store_has_closed_can_be_spent_no_more() -> None:
    one = term(granted=1000)
    one.settle(0, 200)
    one.retire()
    assert one.free == -200
    assert not one.set_aside(1, 0.0, begun=False)


def test_it_is_done_with_when_all_is_settled_and_told() -> None:
    one = term(granted=1000)
    assert one.idle
    one.set_aside(10, 0.0, begun=False)
    assert not one.idle
    one.settle(10, 10)
    assert not one.idle
    tell(one, 1000)
    assert one.idle


@given(st.lists(st.tuples(st.sampled_from(["hold", "settle", "tell"]), st.integers(1, 300))))
def test_a_note_never_says_less_than_what_is_held_and_used(steps: list[tuple[str, int]]) -> None:
    """There is some room in it, for a few requests of the largest kind, so that most need no note of their own."""
    one, holds, noted = term(granted=LIMIT), [], [(0, 0, 0, 0)]
    one.note = noted.append
    for at, (step, amount) in enumerate(steps):
        if step == "hold" and one.set_aside(amount, at, begun=False):
            holds.append(amount)
        elif step == "settle" and holds:
            held = holds.pop()
            one.settle(held, held // 2)
        elif step == "tell":
            tell(one, LIMIT)
        assert noted[-1][2] + noted[-1][3] >= one.used + one.held
        assert noted[-1][2] + noted[-1][3] <= LIMIT + LIMIT // 1000


@given(st.lists(st.tuples(st.sampled_from(["grant", "hold", "settle", "ask", "starve"]), st.integers(1, 5000))))
def test_what_is_granted_is_returned_or_used_or_held_or_free(steps: list[tuple[str, int]]) -> None:
    one, holds = term(), []
    for at, (step, amount) in enumerate(steps):
        if step == "grant":
            tell(one, one.granted + amount)
        elif step == "hold" and one.set_aside(amount, at, begun=False):
            holds.append(amount)
        elif step == "settle" and holds:
            held = holds.pop()
            one.settle(held, min(held, amount))
        elif step in {"ask", "starve"}:
            tell(one, one.granted, starving=step == "starve")
            one.wanted(float(at))
        assert one.granted == one.returned + one.used + one.held + one.free
        assert one.held == sum(holds)
        assert one.free >= 0


WINDOWS = [
    (Per.HOUR, "2026-03-29T01:30", "2026-03-29T01:00", "2026-03-29T02:00"),
    (Per.DAY, "2026-03-29T12:00", "2026-03-29", "2026-03-30"),
    (Per.DAY, "2026-12-31T23:59:59.999", "2026-12-31", "2027-01-01"),
    (Per.DAY, "2027-01-01", "2027-01-01", "2027-01-02"),
    (Per.WEEK, "2026-11-22T23:59", "2026-11-16", "2026-11-23"),
    (Per.WEEK, "2026-11-23", "2026-11-23", "2026-11-30"),
    (Per.WEEK, "2027-01-01T08:00", "2026-12-28", "2027-01-04"),
    (Per.MONTH, "2028-02-29T23:00", "2028-02-01", "2028-03-01"),
    (Per.MONTH, "2026-12-15", "2026-12-01", "2027-01-01"),
    (Per.MONTH, "2026-01-31T23:59:59", "2026-01-01", "2026-02-01"),
]


@pytest.mark.parametrize(("per", "at", "start", "end"), WINDOWS, ids=str)
def test_windows_begin_and_end_in_utc_whatever_clocks_are_put_forward(per: Per, at: str, start: str, end: str) -> None:
    assert window(per, ms(at)) == (ms(start), ms(end))


def test_a_total_never_ends() -> None:
    assert window(Per.TOTAL, ms("2026-11-22")) == (0, None)


@given(st.sampled_from([Per.HOUR, Per.DAY, Per.WEEK, Per.MONTH]), st.integers(ms("2020-01-01"), ms("2060-01-01")))
def test_every_moment_is_in_one_window_and_the_next_begins_where_it_ends(per: Per, at_ms: int) -> None:
    start_ms, end_ms = window(per, at_ms)
    assert end_ms is not None
    assert start_ms <= at_ms < end_ms
    assert window(per, start_ms) == window(per, end_ms - 1) == (start_ms, end_ms)
    assert window(per, end_ms)[0] == end_ms
