"""Rate limits as a provider keeps them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.simulator.token_bucket import FixedWindow, Limit, TokenBucket


def test_a_minutes_worth_may_be_spent_at_once_and_comes_back_evenly() -> None:
    bucket = TokenBucket(60, now=100.0)
    bucket.take(60, 100.0)
    assert bucket.wait_s(1, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(1, 101.0) == 0.0
    assert bucket.level(110.0) == pytest.approx(10.0)
    assert bucket.full_in_s(110.0) == pytest.approx(50.0)


def test_it_never_holds_more_than_a_minutes_worth() -> None:
    assert TokenBucket(60, now=0.0).level(1e6) == 60.0


def test_a_request_above_the_whole_limit_waits_for_a_full_bucket_rather_than_for_ever() -> None:
    bucket = TokenBucket(60, now=0.0)
    assert bucket.wait_s(600, 0.0) == 0.0
    bucket.take(600, 0.0)
    assert bucket.wait_s(600, 0.0) == pytest.approx(600.0)


def test_a_fixed_window_forgives_all_at_its_end() -> None:
    window = FixedWindow(60, now=100.0)
    window.take(50, 110.0)
    assert window.wait_s(10, 159.0) == 0.0
    assert window.wait_s(11, 159.0) == pytest.approx(1.0)
    assert (window.level(159.0), window.full_in_s(159.0)) == (10.0, 1.0)
    assert (window.level(160.0), window.wait_s(60, 160.0), window.full_in_s(160.0)) == (60.0, 0.0, 60.0)


def test_a_request_above_the_whole_window_waits_for_a_new_one() -> None:
    window = FixedWindow(60, now=0.0)
    assert window.wait_s(600, 0.0) == 0.0
    window.take(600, 0.0)
    assert window.wait_s(1, 15.0) == pytest.approx(45.0)


@pytest.mark.parametrize("kind", [TokenBucket, FixedWindow])
def test_a_period_may_be_short(kind: type[TokenBucket | FixedWindow]) -> None:
    limit: Limit = kind(10, 0.0, 2.0)
    limit.take(10, 0.5)
    assert limit.wait_s(10, 0.5) > 0.0
    assert limit.wait_s(10, 2.6) == 0.0


@given(st.integers(1, 6000), st.lists(st.tuples(st.integers(1, 100), st.floats(0, 5)), max_size=50))
def test_what_passes_never_exceeds_burst_plus_refill(per_minute: int, requests: list[tuple[int, float]]) -> None:
    bucket, now, passed = TokenBucket(per_minute, now=0.0), 0.0, 0
    for wanted, gap_s in requests:
        now += gap_s
        units = min(wanted, per_minute)
        if bucket.wait_s(units, now) == 0.0:
            bucket.take(units, now)
            passed += units
    assert passed <= per_minute * (1 + now / 60) + 1e-6
