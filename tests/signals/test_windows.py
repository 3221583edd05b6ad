"""Windows forget what is old, and their quantiles are as close to the true ones as they promise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.signals.windows import LONGEST_S, MIN_SAMPLES, QUANTILES, RELATIVE_ERROR, SHORTEST_S, Durations, Share

T0 = 5000.0


def filled(*durations_s: float, at: float = T0) -> Durations:
    window = Durations(60.0)
    for duration_s in durations_s:
        window.add(duration_s, at)
    return window


def p99_s(window: Durations, at: float = T0) -> float | None:
    return window.quantiles(at)[QUANTILES.index(0.99)]


@given(st.lists(st.floats(SHORTEST_S, LONGEST_S), min_size=MIN_SAMPLES, max_size=200))
def test_quantiles_are_within_the_promised_error(durations_s: list[float]) -> None:
    ordered = sorted(durations_s)
    for found, quantile in zip(filled(*durations_s).quantiles(T0), QUANTILES, strict=True):
        true = ordered[math.floor(quantile * (len(ordered) - 1))]
        assert found == pytest.approx(true, rel=RELATIVE_ERROR + 1e-9)


@pytest.mark.parametrize(("duration_s", "seen_s"), [(0.0, SHORTEST_S), (1e-9, SHORTEST_S), (1e6, LONGEST_S)])
def test_durations_off_the_scale_count_as_its_ends(duration_s: float, seen_s: float) -> None:
    assert p99_s(filled(*[duration_s] * MIN_SAMPLES)) == pytest.approx(seen_s, rel=2 * RELATIVE_ERROR)


def test_too_few_samples_are_unknown() -> None:
    assert set(filled(*[1.0] * (MIN_SAMPLES - 1)).quantiles(T0)) == {None}
    assert None not in filled(*[1.0] * MIN_SAMPLES).quantiles(T0)


def test_one_straggler_does_not_make_a_p99() -> None:
    assert p99_s(filled(*[0.1] * 50, 30.0)) == pytest.approx(0.1, rel=RELATIVE_ERROR)


def test_samples_older_than_the_window_are_forgotten_and_newer_ones_kept() -> None:
    window = filled(*[0.1] * 50)
    for _ in range(30):
        window.add(2.0, T0 + 45)
    assert p99_s(window, T0 + 49) == pytest.approx(2.0, rel=RELATIVE_ERROR)
    assert window.count == 80
    assert p99_s(window, T0 + 61) == pytest.approx(2.0, rel=RELATIVE_ERROR)
    assert window.count == 30
    assert p99_s(window, T0 + 10_000) is None
    assert window.count == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 10)), min_size=1, max_size=100))
def test_the_count_is_what_fell_into_the_last_slices(steps: list[tuple[float, float]]) -> None:
    window, now, added = Durations(60.0), T0, []
    for later_s, duration_s in steps:
        now += later_s
        window.add(duration_s, now)
        added.append(now)
        current = int(now / 10.0)
        assert window.count == sum(1 for at in added if int(at / 10.0) > current - 6)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=100))
def test_a_share_counts_what_fell_into_the_last_slices(steps: list[tuple[float, bool]]) -> None:
    share, now, added = Share(60.0), T0, []
    for later_s, success in steps:
        now += later_s
        share.add(success, now)
        added.append((now, success))
        current = int(now / 10.0)
        recent = [good for at, good in added if int(at / 10.0) > current - 6]
        assert (share.successes, share.failures) == (recent.count(True), recent.count(False))
        expected = None if len(recent) < MIN_SAMPLES else recent.count(True) / len(recent)
        assert share.value(now) == expected


def test_a_share_ages_while_nothing_happens() -> None:
    share = Share(60.0)
    for _ in range(MIN_SAMPLES):
        share.add(False, T0)
    assert share.value(T0) == 0.0
    assert share.value(T0 + 61) is None


def test_a_sample_that_arrives_a_little_late_is_counted() -> None:
    share, window = Share(60.0), filled(1.0, at=T0)
    share.add(True, T0)
    share.add(True, T0 - 11)
    window.add(1.0, T0 - 11)
    assert share.successes == window.count == 2
