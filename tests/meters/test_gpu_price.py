"""The price of a span is exact, whatever edges it crosses: nights, weekends and the changes of summer time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.meters.gpu_price import rates
from proxy.policy.gpus import Gpus, TimedPrice, Tranche
from proxy.policy.schedule import Schedule
from tests.thorough import examples

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = TimedPrice(
    schedule=Schedule(zone=BERLIN, days=frozenset({5, 6}), from_minute=22 * 60, to_minute=6 * 60),
    nano_usd_per_hour=1_500_000_000,
)
H100 = Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)
MIXED = Gpus(
    type="H100",
    count=4,
    nano_usd_per_hour=2_990_000_000,
    reserved=Tranche(replicas=2, nano_usd_per_hour=1_800_000_000),
    spot=Tranche(replicas=1, nano_usd_per_hour=1_200_000_000),
    schedule=(NIGHT,),
)


def test_one_rate_where_nothing_changes() -> None:
    assert list(rates(H100, 3, 0, 40 * 86_400_000)) == [(0, 35_880_000_000)]


def test_the_edges_of_a_night_that_runs_over_midnight() -> None:
    friday = int(datetime(2026, 11, 20, tzinfo=BERLIN).timestamp() * 1000)
    found = list(rates(MIXED, 4, friday, friday + 3 * 86_400_000))
    local = [f"{datetime.fromtimestamp(at_ms / 1000, BERLIN):%a %H:%M}" for at_ms, _ in found]
    assert local == ["Fri 00:00", "Sat 22:00", "Sun 06:00", "Sun 22:00"]


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 29), 1), ((2026, 10, 25), 3)],  # 02:00 becomes 03:00; 03:00 becomes 02:00
)
def test_an_hour_that_summer_time_skips_or_repeats(day: tuple[int, int, int], hours: int) -> None:
    """A span from 01:30 to 03:30 is one hour long, or three."""
    span = Schedule(zone=BERLIN, from_minute=90, to_minute=210)
    gpus = Gpus(
        type="H100", count=1, nano_usd_per_hour=0, schedule=(TimedPrice(schedule=span, nano_usd_per_hour=3_600_000),)
    )
    begin = int(datetime(*day, tzinfo=BERLIN).timestamp() * 1000)
    assert integral(gpus, 1, begin, begin + 12 * 3_600_000) == hours * 3_600_000 * 3_600_000


def integral(gpus: Gpus, replicas: int, begin_ms: int, end_ms: int) -> int:
    """By pieces, in nano-USD per hour times milliseconds."""
    found = list(rates(gpus, replicas, begin_ms, end_ms))
    ends = [at_ms for at_ms, _ in found[1:]] + [end_ms]
    return sum((end - begin) * rate for (begin, rate), end in zip(found, ends, strict=True))


def minute_by_minute(gpus: Gpus, replicas: int, begin_ms: int, end_ms: int) -> int:
    """The oracle: no minute of local time is cut by an edge."""
    whole, at_ms = 0, begin_ms
    while at_ms < end_ms:
        until = min(end_ms, at_ms - at_ms % 60_000 + 60_000)
        whole += (until - at_ms) * gpus.rate(replicas, at_ms / 1000.0)
        at_ms = until
    return whole


def test_the_change_to_winter_time_is_an_edge_by_itself() -> None:
    """01:30 to 02:45 ends at 02:45 summer time, and begins again when it is 02:00 for the second time."""
    span = TimedPrice(schedule=Schedule(zone=BERLIN, from_minute=90, to_minute=165), nano_usd_per_hour=1)
    gpus = Gpus(type="H100", count=1, nano_usd_per_hour=2, schedule=(span,))
    begin = int(datetime(2026, 10, 25, tzinfo=BERLIN).timestamp() * 1000)
    found = [((at_ms - begin) // 60_000, rate) for at_ms, rate in rates(gpus, 1, begin, begin + 12 * 3_600_000)]
    assert found == [(0, 2), (90, 1), (165, 2), (180, 1), (225, 2)]


ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca")
CHANGES = tuple(
    int(datetime(*day, tzinfo=UTC).timestamp() * 1000)
    for day in ((2026, 3, 29), (2026, 10, 25), (2026, 4, 4), (2026, 10, 3), (2026, 3, 8), (2026, 2, 15), (2026, 7, 1))
)
PRICES = st.integers(0, 10**11)
_NEAR_A_CHANGE = st.sampled_from([0, 60, 90, 119, 120, 121, 150, 165, 180, 181, 1425, 1440 - 1])
SCHEDULES = st.builds(
    lambda zone, days, begin, end: Schedule(zone=ZoneInfo(zone), days=days, from_minute=begin, to_minute=end),
    st.sampled_from(ZONES),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439) | _NEAR_A_CHANGE,
    st.integers(0, 1440) | _NEAR_A_CHANGE,
)
TIMED = st.builds(lambda schedule, price: TimedPrice(schedule=schedule, nano_usd_per_hour=price), SCHEDULES, PRICES)
TRANCHES = st.none() | st.builds(
    lambda replicas, price: Tranche(replicas=replicas, nano_usd_per_hour=price), st.integers(1, 4), PRICES
)
GPUS = st.builds(
    lambda count, price, reserved, spot, timed: Gpus(
        type="X", count=count, nano_usd_per_hour=price, reserved=reserved, spot=spot, schedule=tuple(timed)
    ),
    st.integers(1, 8),
    PRICES,
    TRANCHES,
    TRANCHES,
    st.lists(TIMED, max_size=3),
)


@settings(max_examples=examples(300), deadline=None)
@given(GPUS, st.integers(0, 8), st.sampled_from(CHANGES), st.integers(-40_000_000, 40_000_000), st.integers(1, 10**8))
def test_pieces_sum_to_what_every_minute_costs(
    gpus: Gpus, replicas: int, change: int, before: int, length: int
) -> None:
    begin = change + before
    assert integral(gpus, replicas, begin, begin + length) == minute_by_minute(gpus, replicas, begin, begin + length)
