"""What was counted in each minute and each hour: the names of the periods in the store, and rows read back.

Theory of operation
-------------------
Beside the totals the store sums up, per series, what was counted in each minute and in each hour, UTC, by its own
clock. Whatever raises a slot is added, in the same script, to the minute and the hour that it is filed under, and to
nothing else: so the aggregates are as exact as the totals, however often a push is sent. The minutes are kept for
`MINUTES_KEPT_S`, the hours for `HOURS_KEPT_S`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from proxy.meters.fields import COUNTERS, Series, parse_series
from proxy.meters.vectors import Vector

MINUTES_KEPT_S = 48 * 3600
HOURS_KEPT_S = 400 * 86400


class Grain(StrEnum):
    """How long a period is."""

    MINUTE = "minute"
    HOUR = "hour"

    @property
    def seconds(self) -> int:
        """Its length."""
        return 60 if self is Grain.MINUTE else 3600


class Period(NamedTuple):
    """One minute or hour, from `start_s`, Unix time."""

    grain: Grain
    start_s: int

    @property
    def key(self) -> str:
        """Its name in the store: `minute:20261122T1859`, `hour:20261122T18`."""
        start = datetime.fromtimestamp(self.start_s, UTC)
        return f"{self.grain}:{start:%Y%m%dT%H%M}" if self.grain is Grain.MINUTE else f"{self.grain}:{start:%Y%m%dT%H}"

    @property
    def hour(self) -> Period:
        """The hour that it is, or lies in."""
        return period_at(self.start_s, Grain.HOUR)


class Row(NamedTuple):
    """What one series counted in one period; `counts` by counter name, those that are not zero."""

    start_s: int
    grain: Grain
    series: Series
    counts: Mapping[str, int]


def period_at(at_s: float, grain: Grain) -> Period:
    """The period that an instant lies in."""
    return Period(grain, int(at_s // grain.seconds) * grain.seconds)


def periods(from_s: float, to_s: float, grain: Grain) -> Iterator[Period]:
    """Those that begin from `from_s` on and before `to_s`; the first may have begun just before, and is whole."""
    start = period_at(from_s, grain).start_s
    return (Period(grain, at_s) for at_s in range(start, max(start, -int(-to_s // 1)), grain.seconds))


def rows(period: Period, counted: Mapping[str, Vector]) -> Iterator[Row]:
    """The rows of one period. Series of a shape that this release does not know are left out."""
    for name, vector in counted.items():
        series = parse_series(name)
        if series is not None:
            yield Row(period.start_s, period.grain, series, tally(vector))


def tally(vector: Vector) -> dict[str, int]:
    """By counter name, those that are not zero. Counts that this release does not know are left out."""
    return {counter: count for counter, count in zip(COUNTERS, vector, strict=False) if count}
