"""How much of its share a replica is given that has just appeared, or come back: less at first.

Theory of operation
-------------------
An engine that has just been started has nothing in its caches and compiles as it goes, and nothing is known of it; if
all that was waiting for it came at once, it would be late for all of it. So for `RAMP_S` its waits are predicted to be
longer than they would be, by one over its warmth, which grows evenly from `LEAST` to 1. The rule of work then gives it
what it can take, a little more each second. A replica that this process finds at its own start is as warm as any:
it is the proxy that is new.
"""

from __future__ import annotations

from math import inf

RAMP_S = 30.0
"""Envoy's usual `slow_start_window`; an engine has seen all its batch sizes by then."""
LEAST = 0.1
LONG_S = 10.0
"""An outage that was shorter leaves an engine as warm as it was: it was the network, or one bad batch."""


class Warmth:
    """One replica's."""

    __slots__ = ("_from", "_shut_at")

    def __init__(self) -> None:
        self._from = -inf
        self._shut_at: float | None = None

    def appeared(self, now: float) -> None:
        """It was not there a moment ago, or not running."""
        self._from = now
        self._shut_at = None

    def shut(self, now: float) -> None:
        """Its breaker is not closed any more."""
        if self._shut_at is None:
            self._shut_at = now

    def closed(self, now: float) -> None:
        """Its breaker is closed again."""
        if self._shut_at is not None and now - self._shut_at > LONG_S:
            self._from = now
        self._shut_at = None

    def at(self, now: float) -> float:
        """From `LEAST` to 1."""
        age_s = now - self._from
        return 1.0 if age_s >= RAMP_S else max(age_s / RAMP_S, LEAST)
