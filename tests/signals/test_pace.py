"""What holds a target: its policy, its provider's word, or its provider's refusals, whichever is latest."""

from __future__ import annotations

import pytest
from proxy.policy.model import Limits
from proxy.routing.readings import Quota, Rate
from proxy.signals.ceiling import Use
from proxy.signals.pace import Pace
from proxy.signals.quota_headers import INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, TOKENS, Told
from tests.signals.providers import T0

UNITS = [REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS]


def test_nothing_holds_a_target_of_which_nothing_is_known() -> None:
    one = Pace()
    for _ in range(1000):
        one.begin(1000, 1000, T0)
    assert one.until(T0) == (0.0, None)


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_held_by_its_own_quota(unit: int) -> None:
    """10 requests of 30 tokens in and 70 out have been sent when the news comes that nearly all is used."""
    one = Pace()
    marks = [one.begin(30, 70, T0) for _ in range(10)]
    sizes = (1, 100, 30, 70)
    one.hear([Told(unit, 100 * sizes[unit], 20 * sizes[unit], 60.0)], marks[3], T0)
    until, quota = one.until(T0)
    assert until == 0.0
    assert quota is not None
    assert (quota.limit, quota.remaining) == (100 * sizes[unit], 14 * sizes[unit])
    one.begin(30, 70, T0)
    assert one.until(T0)[0] > T0 + 60 / 20


def test_a_remainder_of_nothing_of_which_nothing_was_ever_told_holds_nothing() -> None:
    one = Pace()
    one.hear([Told(REQUESTS, None, 0, 60.0)], one.begin(1, 1, T0), T0)
    assert one.until(T0) == (0.0, None)
    one.hear([Told(REQUESTS, None, 40, 60.0)], one.begin(1, 1, T0), T0)
    one.hear([Told(REQUESTS, None, 0, 60.0)], one.begin(1, 1, T0), T0)
    assert one.until(T0)[0] > T0


def test_the_latest_holds_and_is_the_one_that_is_told() -> None:
    one = Pace()
    mark = one.begin(10, 10, T0)
    one.hear([Told(REQUESTS, 100, 99, 60.0), Told(TOKENS, 1000, 0, 30.0)], mark, T0)
    assert one.until(T0)[1] == Quota(unit="tokens", limit=1000, remaining=0, reset_at=T0 + 30)
    one.begin(10, 10, T0)
    until, quota = one.until(T0)
    assert until == T0 + 30
    assert quota is not None
    assert quota.unit == "tokens"


def test_the_policys_limits_hold_beside_the_providers() -> None:
    one = Pace(Limits(rpm=10))
    one.hear([Told(REQUESTS, 1000, 990, 60.0)], one.begin(10, 10, T0), T0)
    until, quota = one.until(T0, Use(Rate(requests=10, frees_in_s=7.0), 1.0, T0))
    assert until > T0
    assert quota == Quota(unit="requests", limit=10, remaining=0, reset_at=T0 + 7)
    one.limit(Limits(rpm=2000))
    until, quota = one.until(T0, Use(Rate(requests=10, frees_in_s=7.0), 1.0, T0))
    assert until == 0.0
    assert quota is not None
    assert quota.limit == 1000


def test_a_refusal_that_was_foretold_teaches_no_rate() -> None:
    one = Pace()
    mark = one.begin(1, 1, T0)
    one.hear([Told(REQUESTS, 100, 0, 60.0)], mark, T0)
    one.turned_away(mark, T0)
    quota = one.until(T0 + 60)[1]
    assert quota is not None
    assert quota.unit == "requests"


def test_a_refusal_out_of_the_blue_teaches_one() -> None:
    one = Pace()
    for index in range(120):
        mark = one.begin(1, 1, T0 + index / 2)
    one.hear([Told(REQUESTS, 1000, 990, 60.0)], mark, T0 + 60)
    one.turned_away(mark, T0 + 60)
    until, quota = one.until(T0 + 60)
    assert until > T0 + 60
    assert quota is not None
    assert quota.unit == "requests a minute"
    assert quota.limit == pytest.approx(120 * 0.85, abs=2)
    assert one.until(T0 + 600)[0] == 0.0
