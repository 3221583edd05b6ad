"""Recurring spans of local time, which routes match and prices follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A recurring span of local time: on `days` (0 is Monday), from minute to minute of the day in `zone`.

    A span whose end is not after its beginning runs over midnight, and belongs to the day it begins on.
    """

    zone: tzinfo
    days: frozenset[int] = frozenset(range(7))
    from_minute: int = 0
    to_minute: int = 24 * 60

    def covers(self, at_s: float) -> bool:
        """Whether the Unix time `at_s` lies within it."""
        local = datetime.fromtimestamp(at_s, self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.from_minute < self.to_minute:
            return day in self.days and self.from_minute <= minute < self.to_minute
        if minute >= self.from_minute:
            return day in self.days
        return minute < self.to_minute and (local.date() - timedelta(days=1)).weekday() in self.days
