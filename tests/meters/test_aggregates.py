"""Minutes and hours."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.aggregates import Grain, Period, Row, period_at, periods, rows, tally
from proxy.meters.fields import Series
from tests.meters.examples import NOON, series, vector


def test_a_period_is_named_by_its_beginning_in_utc() -> None:
    assert NOON.key == "minute:20261122T1200"
    assert NOON.hour.key == "hour:20261122T12"
    assert NOON.hour.hour == NOON.hour
    assert period_at(NOON.start_s + 3599.99, Grain.MINUTE).key == "minute:20261122T1259"
    assert period_at(NOON.start_s + 3599.99, Grain.HOUR) == NOON.hour


def test_periods_cover_a_span_from_the_one_that_it_begins_in() -> None:
    found = list(periods(NOON.start_s + 30.5, NOON.start_s + 180.0, Grain.MINUTE))
    assert [period.start_s - NOON.start_s for period in found] == [0, 60, 120]
    assert list(periods(NOON.start_s, NOON.start_s, Grain.HOUR)) == []


@given(st.floats(0, 4e9), st.floats(0, 1e5), st.sampled_from(Grain))
def test_every_instant_of_a_span_lies_in_one_of_its_periods(from_s: float, length_s: float, grain: Grain) -> None:
    found = list(periods(from_s, from_s + length_s, grain))
    assert len(set(found)) == len(found)
    if length_s > 1e-3:
        assert period_at(from_s, grain) == found[0]
        assert found[-1].start_s < from_s + length_s <= found[-1].start_s + grain.seconds + 1


def test_rows_leave_out_what_is_not_known() -> None:
    counted = {series(): (*vector(requests=2, ttft_count=1), 7), "of|another|shape": (5,)}
    labels = Series("anonymous", "", "llama-70b", "default", "together", "shared")
    assert list(rows(NOON, counted)) == [Row(NOON.start_s, Grain.MINUTE, labels, {"requests": 2, "ttft_count": 1})]


def test_a_tally_names_what_is_not_zero() -> None:
    assert tally((1, 0, 3)) == {"requests": 1, "spilled": 3}
    assert Period(Grain.HOUR, 0).key == "hour:19700101T00"
