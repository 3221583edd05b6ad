"""One process's lease by itself: what it takes, asks for, gives back and refills, without a store."""

from __future__ import annotations

import pytest
from proxy.meters.contact import ALONE_AFTER_S, LEAK_AFTER_S, WHOLE, Contact
from proxy.meters.lease import Kind, Lease

T0 = 10.0


def lease(kind: Kind, limit: int, held: int, *, share: int = WHOLE, level: int = 0) -> tuple[Lease, Contact]:
    contact = Contact(1, T0)
    one = Lease("x", kind, limit, contact, enforced=True, now=T0)
    one.ask(T0, spare=False)
    contact.answered(1, share, WHOLE // share, away=False, sent_at=T0, now=T0)
    one.told(held, level, 0)
    return one, contact


def test_requests_take_what_is_held_and_no_more() -> None:
    one, _ = lease(Kind.REQUESTS, 60, 2)
    assert [one.takes(1, T0), one.free(T0), one.used(T0)] == [True, 2, 58]
    one.take(1)
    one.take(1)
    assert [one.takes(1, T0), one.free(T0), one.used(T0)] == [False, 0, 60]


def test_a_request_larger_than_the_bucket_takes_all_of_it_and_leaves_a_debt() -> None:
    one, _ = lease(Kind.TOKENS, 1000, 999)
    assert not one.takes(5000, T0)
    full, _ = lease(Kind.TOKENS, 1000, 1000)
    assert full.takes(5000, T0)
    assert full.used(T0) == 0
    full.take(5000)
    assert full.free(T0) == -4000
    assert full.ask(T0, spare=False)[3:5] == (0, -4000)


def test_a_debt_is_told_until_it_has_been_heard() -> None:
    one, _ = lease(Kind.TOKENS, 1000, 500)
    one.take(100)
    one.settle(100, 900)
    for _ in range(2):
        assert one.ask(T0, spare=False)[3:5] == (0, -400)
    one.take(50)
    one.told(0, -400, 0)
    assert one.free(T0) == -50


def test_what_was_not_used_goes_back_to_the_store_once() -> None:
    one, _ = lease(Kind.TOKENS, 1000, 500)
    one.take(300)
    one.settle(300, 120)
    assert one.free(T0) == 200
    assert one.ask(T0, spare=False)[3:5] == (200, 180)
    assert one.ask(T0, spare=False)[3:5] == (200, 0)


def test_it_asks_for_what_it_needs_and_for_less_as_time_goes_by() -> None:
    one, _ = lease(Kind.REQUESTS, 6000, 100)
    for _ in range(20):
        one.take(1)
    assert one.active
    assert one.ask(T0 + 0.2, spare=False)[5] in (60, 61)
    assert one.ask(T0 + 1.2, spare=False)[5] in (30, 31)
    assert one.ask(T0 + 30.0, spare=False)[5] == 0
    assert not one.active


def test_it_asks_for_the_largest_request_that_was_refused() -> None:
    one, _ = lease(Kind.TOKENS, 6000, 10)
    one.miss(4000, T0)
    assert one.ask(T0 + 0.2, spare=False)[5] == 6000
    one.miss(50, T0 + 1.5)
    assert one.ask(T0 + 2.1, spare=False)[5] < 6000


def test_what_is_spare_is_given_back_and_gone_whatever_becomes_of_the_question() -> None:
    one, _ = lease(Kind.REQUESTS, 600, 100)
    assert one.ask(T0 + 0.2, spare=True)[3:6] == (0, 100, 0)
    assert one.free(T0 + 0.2) == 0
    busy, _ = lease(Kind.REQUESTS, 600, 100)
    busy.take(1)
    assert busy.ask(T0 + 0.2, spare=True)[3:6] == (12, 87, 4)


def test_alone_it_refills_at_its_share_and_up_to_its_share() -> None:
    one, contact = lease(Kind.REQUESTS, 600, 0, share=WHOLE // 4)
    assert one.free(T0 + ALONE_AFTER_S) == 0
    assert one.free(T0 + ALONE_AFTER_S + 2.0) == 5
    assert one.free(T0 + 500.0) == 150
    contact.answered(2, WHOLE // 4, 4, away=False, sent_at=T0 + 500.0, now=T0 + 500.0)
    assert one.free(T0 + 500.0) == 0  # nobody was told of it


def test_what_was_refilled_alone_is_kept_if_the_store_was_told_of_it() -> None:
    one, contact = lease(Kind.REQUESTS, 600, 0, share=WHOLE // 4)
    assert one.ask(T0 + 500.0, spare=False)[3] == 150
    contact.answered(2, WHOLE // 4, 4, away=False, sent_at=T0 + 500.0, now=T0 + 500.1)
    one.told(0, 0, 0)
    assert one.free(T0 + 500.1) == 150


def test_what_is_held_beyond_the_share_leaks_as_fast_as_the_others_may_refill() -> None:
    one, _ = lease(Kind.REQUESTS, 600, 600, share=WHOLE // 4)
    assert one.free(T0 + LEAK_AFTER_S) == 600
    assert one.free(T0 + LEAK_AFTER_S + 4.0) == pytest.approx(570, abs=1)
    assert one.free(T0 + 1000.0) == 150


def test_alone_a_large_request_needs_no_more_than_the_share_of_the_tokens() -> None:
    one, _ = lease(Kind.TOKENS, 6000, 0, share=WHOLE // 4)
    assert not one.takes(2000, T0 + 10.0)
    assert one.takes(2000, T0 + 100.0)
    assert one.used(T0 + 100.0) == 0
    one.take(2000)
    assert one.free(T0 + 100.0) == -500


def test_a_place_is_kept_until_its_request_has_ended() -> None:
    one, _ = lease(Kind.PLACES, 8, 3)
    for _ in range(3):
        assert one.takes(1, T0)
        one.take(1)
    assert not one.takes(1, T0)
    assert one.ask(T0 + 0.2, spare=True)[3] == 3
    one.settle(1, 500)
    assert one.takes(1, T0)
    assert one.ask(T0 + 100.0, spare=True)[3:5] == (2, 0)
    assert not one.takes(1, T0 + 100.0)


def test_a_part_of_an_idle_bucket_is_asked_for_now_and_then() -> None:
    one, _ = lease(Kind.REQUESTS, 600, 149, share=WHOLE // 4)
    assert not one.lacks(T0 + 0.9, 1.0)
    assert one.lacks(T0 + 1.0, 1.0)
    enough, _ = lease(Kind.REQUESTS, 600, 150, share=WHOLE // 4)
    assert not enough.lacks(T0 + 100.0, 1.0)
    few, _ = lease(Kind.REQUESTS, 3, 0, share=WHOLE // 4)
    assert few.lacks(T0 + 1.0, 1.0)


def test_what_is_left_is_what_all_have_together() -> None:
    one, _ = lease(Kind.REQUESTS, 600, 100, level=50)
    assert one.left(T0) == 150
    assert one.left(T0 + 1.0) == 160
    assert one.left(T0 + 600.0) == 600
