"""Which moments a recurring span of local time covers."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from proxy.policy.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


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
