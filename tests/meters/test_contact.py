"""Silence is told apart: too short to matter, long enough to leak, long enough to be on one's own."""

from __future__ import annotations

import pytest
from proxy.meters.contact import ALONE_AFTER_S, LEAK_AFTER_S, WHOLE, Contact

T0 = 50.0


def test_before_the_first_answer_it_is_one_among_those_expected() -> None:
    contact = Contact(4, T0)
    assert (contact.share, contact.members, contact.echo) == (WHOLE // 4, 0, 0)
    assert contact.alone_s(T0 + ALONE_AFTER_S) == 0.0
    assert contact.alone_s(T0 + ALONE_AFTER_S + 2.0) == pytest.approx(2.0)


def test_it_is_alone_from_a_second_and_a_half_after_an_answer_came() -> None:
    contact = Contact(1, T0)
    contact.answered(7, WHOLE // 2, 2, away=False, sent_at=T0 + 1.0, now=T0 + 1.4)
    assert (contact.share, contact.members, contact.echo, contact.outage) == (WHOLE // 2, 2, 7, 1)
    assert contact.alone_s(T0 + 1.4 + ALONE_AFTER_S) == 0.0
    assert contact.alone_s(T0 + 1.4 + ALONE_AFTER_S + 1.0) == pytest.approx(1.0)


def test_it_leaks_from_when_the_question_was_sent_that_was_answered_last() -> None:
    contact = Contact(2, T0)
    contact.answered(1, WHOLE // 2, 2, away=False, sent_at=T0, now=T0 + 0.1)
    assert contact.leaked_s(T0 + LEAK_AFTER_S) == pytest.approx(0.1)
    before = contact.leaked_s(T0 + 1.0)
    assert before == pytest.approx(0.1 + 1.0 - LEAK_AFTER_S)
    contact.answered(2, WHOLE // 2, 2, away=False, sent_at=T0 + 0.9, now=T0 + 1.0)
    assert contact.leaked_s(T0 + 1.3) == pytest.approx(before)


def test_it_leaks_at_once_while_somebody_is_away() -> None:
    contact = Contact(2, T0)
    contact.answered(1, WHOLE // 2, 2, away=True, sent_at=T0, now=T0)
    contact.answered(2, WHOLE // 2, 2, away=True, sent_at=T0 + 0.2, now=T0 + 0.2)
    contact.answered(3, WHOLE // 2, 2, away=False, sent_at=T0 + 0.4, now=T0 + 0.4)
    assert contact.leaked_s(T0 + 0.5) == pytest.approx(0.4)


def test_a_store_that_has_forgotten_says_what_the_share_is_and_no_more() -> None:
    contact = Contact(1, T0)
    contact.learned(0)
    assert (contact.share, contact.members, contact.echo) == (0, 0, 0)
