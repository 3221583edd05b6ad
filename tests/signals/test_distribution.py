"""Histograms that only grow, their quantiles, and what was added to them lately."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.signals.distribution import (
    BOUNDS_S,
    STEP_S,
    WINDOW_S,
    Distribution,
    Recent,
    Tally,
    spread_of,
    together,
)


def tallied(*durations: float) -> Distribution:
    tally = Tally()
    for one in durations:
        tally.add(one)
    return tally.look()


@given(st.lists(st.floats(0.001, 1000.0), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_its_bucket_of_the_true_one(durations: list[float], q: float) -> None:
    found = tallied(*durations).quantile(q)
    assert found is not None
    ordered = sorted(durations)
    # By Prometheus' definition the rank is q n, between two observations: either of them will do.
    low, high = ordered[max(0, int(q * len(ordered)) - 1)], ordered[min(len(ordered) - 1, int(q * len(ordered)))]
    assert low / 1.1 - 0.0001 <= found <= high * 1.1 + 0.0001


def test_quantiles_are_interpolated_as_prometheus_does() -> None:
    one = Distribution((0.1, 0.5, 1.0), (0.0, 4.0, 0.0, 0.0), 1.2)
    assert one.quantile(0.5) == pytest.approx(0.3)
    assert one.quantile(1.0) == pytest.approx(0.5)


def test_past_the_last_bound_is_the_last_bound() -> None:
    assert Distribution((0.1, 0.5), (1.0, 0.0, 9.0), 90.0).quantile(0.9) == 0.5


def test_there_is_no_quantile_of_nothing() -> None:
    assert tallied().quantile(0.5) is None
    assert spread_of(tallied()) is None
    assert spread_of(None) is None


def test_the_mean_is_exact() -> None:
    spread = spread_of(tallied(1.0, 2.0, 6.0))
    assert spread is not None
    assert (spread.mean_s, spread.samples) == (3.0, 3)
    assert spread.p99_s == pytest.approx(6.0, rel=0.1)


def test_the_buckets_reach_from_a_tenth_of_a_millisecond_to_a_quarter_of_an_hour() -> None:
    assert BOUNDS_S[0] == 0.0001
    assert 900 < BOUNDS_S[-1] < 1200


def test_the_same_buckets_are_added() -> None:
    whole = together([Distribution((0.1, 1.0), (1.0, 2.0, 0.0), 2.0), Distribution((0.1, 1.0), (0.0, 1.0, 3.0), 9.0)])
    assert whole == Distribution((0.1, 1.0), (1.0, 3.0, 3.0), 11.0)


def test_different_buckets_are_kept_apart() -> None:
    whole = together([Distribution((0.1, 1.0), (1.0, 2.0, 0.0), 2.0), Distribution((0.5,), (4.0, 1.0), 3.0)])
    assert whole == Distribution((0.1, 0.5, 1.0), (1.0, 4.0, 2.0, 1.0), 5.0)
    assert together([]) is None


def test_what_was_added_is_since_the_oldest_look_in_the_window() -> None:
    recent, tally, now = Recent(), Tally(), 0.0
    while now < 2 * WINDOW_S:
        tally.add(0.5)
        recent.look((tally.look(),), now)
        now += 1.0
    (added,) = recent.added(now)
    assert added is not None
    assert WINDOW_S - 2 * STEP_S <= added.count <= WINDOW_S
    assert added.sum_s == pytest.approx(added.count * 0.5)


def test_after_the_window_nothing_is_left() -> None:
    recent = Recent()
    recent.look((tallied(1.0),), 0.0)
    recent.look((tallied(1.0, 2.0),), 5.0)
    (added,) = recent.added(10.0)
    assert added is not None
    assert added.count == 1
    assert recent.added(10.0 + WINDOW_S) == ()


def test_nothing_is_known_before_the_first_look() -> None:
    assert Recent().added(0.0) == ()


def test_an_engine_that_was_started_anew_begins_anew() -> None:
    recent = Recent()
    recent.look((tallied(1.0, 1.0, 1.0),), 0.0)
    recent.look((tallied(2.0),), 20.0)
    recent.look((tallied(2.0, 4.0),), 21.0)
    (added,) = recent.added(21.0)
    assert added is not None
    assert (added.count, added.sum_s) == (1, 4.0)


def test_a_histogram_that_shows_up_late_counts_in_full() -> None:
    recent = Recent()
    recent.look((None, tallied(1.0)), 0.0)
    recent.look((tallied(3.0), tallied(1.0)), 1.0)
    first, second = recent.added(1.0)
    assert first is not None
    assert second is not None
    assert (first.count, second.count) == (1, 0)


def test_other_buckets_are_no_continuation() -> None:
    assert Distribution((0.1,), (5.0, 0.0), 1.0).since(Distribution((0.2,), (1.0, 0.0), 1.0)) is None
    assert Distribution((), (2.0,), 1.0).quantile(0.5) is None


def test_a_year_of_looks_takes_the_room_of_one_window() -> None:
    recent, draw = Recent(), random.Random(1)
    tally = Tally()
    for turn in range(5000):
        tally.add(draw.random())
        recent.look((tally.look(),), turn * 1.0)
    assert len(recent._kept) <= WINDOW_S / STEP_S + 2
    assert recent._kept[0][0] > 5000 - WINDOW_S - STEP_S - 1
    assert inf not in BOUNDS_S
