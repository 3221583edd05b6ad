"""Times of the week: what is read, and what is refused with what to write instead."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from proxy.policy import times
from proxy.policy.model import Schedule
from proxy.policy.problem import Mistake

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("written", "days"), [("tue", (1,)), ("mon-fri", (0, 1, 2, 3, 4)), ("sat-mon", (5, 6, 0)), ("sun-sun", (6,))]
)
def test_days_and_spans_of_days(written: str, days: tuple[int, ...]) -> None:
    assert times.days(written) == days


@pytest.mark.parametrize("written", ["Mon", "weekend", "mon-", "-fri", 1, None, "mon-fri-sun"])
def test_what_is_no_day_is_refused(written: object) -> None:
    with pytest.raises(Mistake, match="not a day"):
        times.days(written)


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("09:00-18:00", (540, 1080)),
        ("9:00 - 18:30", (540, 1110)),
        ("00:00-24:00", (0, 1440)),
        ("22:00-06:00", (1320, 360)),
    ],
)
def test_hours_are_minutes_of_the_day(written: str, minutes: tuple[int, int]) -> None:
    assert times.hours(written) == minutes


@pytest.mark.parametrize("written", ["9-18", "09:00-25:00", "24:00-02:00", "09:00-09:00", "09:60-10:00", 540, None])
def test_what_is_no_span_of_hours_is_refused(written: object) -> None:
    with pytest.raises(Mistake, match="not a span of hours"):
        times.hours(written)


def test_a_zone_is_an_iana_name() -> None:
    assert times.zone("Europe/Berlin") == BERLIN
    for wrong in ("Europe/Berlim", "../../etc/passwd", "", 1, "CEST+1"):
        with pytest.raises(Mistake, match="not a time zone"):
            times.zone(wrong)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("moment", "day", "night"),
    [
        ("2026-11-23T08:59", False, False),  # a Monday
        ("2026-11-23T09:00", True, False),
        ("2026-11-23T17:59", True, False),
        ("2026-11-23T18:00", False, False),
        ("2026-11-23T22:00", False, True),
        ("2026-11-24T05:59", False, True),  # the night that began on Monday
        ("2026-11-24T06:00", False, False),
        ("2026-11-24T22:00", False, False),
        ("2026-11-23T05:00", False, False),  # the night that began on Sunday
    ],
)
def test_a_span_over_midnight_belongs_to_the_day_it_begins_on(moment: str, day: bool, night: bool) -> None:
    monday = frozenset({0})
    assert Schedule(zone=BERLIN, days=monday, from_minute=540, to_minute=1080).covers(at(moment)) is day
    assert Schedule(zone=BERLIN, days=monday, from_minute=1320, to_minute=360).covers(at(moment)) is night


def test_the_clock_on_the_wall_is_followed_through_daylight_saving() -> None:
    morning = Schedule(zone=BERLIN, from_minute=540, to_minute=600)
    assert all(morning.covers(at(f"2026-{month}-15T09:30")) for month in ("01", "07"))
