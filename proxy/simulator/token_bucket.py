"""A provider's rate limit: so many requests or tokens in a period, which come back evenly or all at once.

Theory of operation
-------------------
Both kinds are in use. A `TokenBucket` holds at most one period's worth and refills continuously; a `FixedWindow` counts
from the start of the current period, and all is forgiven at its end. The level is computed from the time of the last
change, so nothing has to happen between requests. Time is the caller's.
"""

from __future__ import annotations

from typing import Protocol

MINUTE_S = 60.0


class Limit(Protocol):
    """One limit; `units` are the most that a period allows."""

    units: int

    def wait_s(self, units: int, now: float) -> float:
        """Seconds until `units` could be taken; 0 when they can be now. A request above the whole limit waits for all
        of it."""
        ...

    def take(self, units: int, now: float) -> None:
        """Spend; the level may fall below 0, and later requests wait for it."""
        ...

    def level(self, now: float) -> float:
        """Units left."""
        ...

    def full_in_s(self, now: float) -> float:
        """Seconds until nothing is spent any more."""
        ...


class TokenBucket:
    """`units` a period, full at `now`."""

    __slots__ = ("_level", "_per_s", "_updated_s", "units")

    def __init__(self, units: int, now: float, period_s: float = MINUTE_S) -> None:
        self.units = units
        self._per_s = units / period_s
        self._level = float(units)
        self._updated_s = now

    def wait_s(self, units: int, now: float) -> float:
        """See `Limit`."""
        return max(0.0, min(units, self.units) - self.level(now)) / self._per_s

    def take(self, units: int, now: float) -> None:
        """See `Limit`."""
        self._level = self.level(now) - units
        self._updated_s = now

    def level(self, now: float) -> float:
        """See `Limit`."""
        return min(float(self.units), self._level + (now - self._updated_s) * self._per_s)

    def full_in_s(self, now: float) -> float:
        """See `Limit`."""
        return (self.units - self.level(now)) / self._per_s


class FixedWindow:
    """`units` in each period, the first of which begins at `now`."""

    __slots__ = ("_began_s", "_period_s", "_spent", "_window", "units")

    def __init__(self, units: int, now: float, period_s: float = MINUTE_S) -> None:
        self.units = units
        self._began_s = now
        self._period_s = period_s
        self._window = self._spent = 0

    def wait_s(self, units: int, now: float) -> float:
        """See `Limit`."""
        return self.full_in_s(now) if self.level(now) < min(units, self.units) else 0.0

    def take(self, units: int, now: float) -> None:
        """See `Limit`."""
        window = self._window_of(now)
        if window != self._window:
            self._window, self._spent = window, 0
        self._spent += units

    def level(self, now: float) -> float:
        """See `Limit`."""
        return float(self.units - self._spent if self._window_of(now) == self._window else self.units)

    def full_in_s(self, now: float) -> float:
        """See `Limit`."""
        return self._began_s + (self._window_of(now) + 1) * self._period_s - now

    def _window_of(self, now: float) -> int:
        return int((now - self._began_s) // self._period_s)
