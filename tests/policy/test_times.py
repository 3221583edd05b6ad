"""Times of the week: what is read, and what is refused with what to write instead."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from proxy.policy import times
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
