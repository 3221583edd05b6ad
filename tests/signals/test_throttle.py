"""Refusals without a word about quotas teach a rate, and a quiet time lets it be forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from proxy.signals.throttle import DECREASE, FIRST_WAIT_S, MIN_PER_S, RECOVERY_S, Throttle
from tests.signals.providers import T0, Bucket, Windows, play


def busy(per_s: int = 10, lasting_s: int = 60) -> Throttle:
    """One that has sent evenly until `T0`."""
    one = Throttle()
    for index in range(per_s * lasting_s):
        one.sent(index, T0 - lasting_s + index / per_s)
    return one


@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize("proxies", [1, 2, 5])
@pytest.mark.parametrize("make", [Windows, Bucket])
def test_the_limit_is_found_and_nearly_all_of_it_used(make: Any, proxies: int, retry_after: bool) -> None:
    provider = make(1000)
    result = play(provider, proxies=proxies, headers=False, retry_after=retry_after, lasting_s=900.0)
    assert result.refused_share <= 0.02
    assert result.sent - result.refused >= 0.9 * 1000 * 15


def test_the_rate_falls_below_what_was_sent_and_grows_evenly() -> None:
    one = busy()
    assert not one.active
    one.turned_away(600, 600, T0)
    assert one.active
    assert one.rate(T0) == pytest.approx(10 * DECREASE)
    assert one.rate(T0 + RECOVERY_S / 2) == pytest.approx(10 * DECREASE * 1.5)


def test_a_minutes_quota_sent_at_once_teaches_the_rate_of_a_minute() -> None:
    one = busy(per_s=120, lasting_s=5)
    one.turned_away(600, 600, T0)
    assert one.rate(T0) == pytest.approx(10 * DECREASE)


def test_refusals_of_what_was_sent_before_are_one_refusal() -> None:
    one = busy()
    for order in range(590, 601):
        one.turned_away(order, 600, T0)
    assert one.rate(T0) == pytest.approx(10 * DECREASE)


def test_refusals_in_a_row_only_wait_longer() -> None:
    one, sent, waits = busy(), 600, []
    for _ in range(4):
        one.turned_away(sent, sent, T0)
        waits.append(one.until(T0, sent) - T0)
        sent += 1
    assert waits == pytest.approx([FIRST_WAIT_S * 2**n for n in range(4)])
    assert one.rate(T0) == pytest.approx(10 * DECREASE)
    one.accepted(600)
    one.turned_away(sent, sent, T0)
    assert one.rate(T0) == pytest.approx(10 * DECREASE)


def test_a_refusal_after_an_acceptance_lowers_the_rate_again() -> None:
    one = busy()
    one.turned_away(600, 600, T0)
    one.accepted(601)
    one.turned_away(602, 602, T0)
    assert one.rate(T0) == pytest.approx(10 * DECREASE**2)


def test_one_that_sends_little_is_not_held_to_nothing() -> None:
    one = Throttle()
    one.sent(0, T0)
    one.turned_away(1, 1, T0)
    assert one.rate(T0) == MIN_PER_S


def test_it_is_forgotten_after_a_while() -> None:
    one = busy()
    one.turned_away(600, 600, T0)
    assert one.until(T0 + RECOVERY_S, 600) == 0.0
    assert not one.active
