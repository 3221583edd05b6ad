"""A provider's rate limit: so many requests or tokens a minute, spent at once and refilled evenly.

Theory of operation
-------------------
A bucket holds at most one minute's worth and refills continuously. Its level is computed from the time of the last
change, so nothing has to happen between requests. Time is the caller's.
"""

from __future__ import annotations


class TokenBucket:
    """`per_minute` units a minute, full at `now`."""

    __slots__ = ("_level", "_per_s", "_updated_s", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / 60
        self._level = float(per_minute)
        self._updated_s = now

    def wait_s(self, units: int, now: float) -> float:
        """Seconds until `units` could be taken; 0 when they can be now. A request above the whole limit waits for a
        full bucket."""
        return max(0.0, min(units, self.per_minute) - self.level(now)) / self._per_s

    def take(self, units: int, now: float) -> None:
        """Spend; the level may fall below 0, and later requests wait for it."""
        self._level = self.level(now) - units
        self._updated_s = now

    def level(self, now: float) -> float:
        """Units left."""
        return min(float(self.per_minute), self._level + (now - self._updated_s) * self._per_s)

    def full_in_s(self, now: float) -> float:
        """Seconds until nothing is spent any more."""
        return (self.per_minute - self.level(now)) / self._per_s
