"""How many failures may be tried elsewhere, so that an outage is not multiplied by its own retries.

Theory of operation
-------------------
A token bucket in the manner of Finagle's `RetryBudget`: each request puts in `SHARE` of a token and time puts in
`FLOOR_PER_S`, each fallback takes a whole one out, and tokens fade with a time constant of `MEMORY_S` instead of living
for a fixed term, which needs no list of deposits. At rest it therefore holds `FLOOR_PER_S * MEMORY_S` tokens, and at a
steady rate of requests ten seconds' worth of `SHARE` more: enough for all that one failing replica drops at once, and
over any longer time at most `SHARE` of the requests plus the floor. A spillover from a full engine is no retry and
draws nothing.
"""

from __future__ import annotations

import math

SHARE = 0.1
FLOOR_PER_S = 3.0
MEMORY_S = 10.0
GRAIN_S = 0.05
"""Fading is worked out at most this often; what it delays is half a percent of the bucket."""


class RetryBudget:
    """One bucket; `now` is in seconds on any clock that does not run backwards."""

    __slots__ = ("_as_of", "_tokens", "exhausted")

    def __init__(self, now: float) -> None:
        self._tokens = FLOOR_PER_S * MEMORY_S
        self._as_of = now
        self.exhausted = 0
        """How often a withdrawal was refused: a counter for metrics."""

    def deposit(self, now: float) -> None:
        """A request has come in."""
        self._settle(now)
        self._tokens += SHARE

    def withdraw(self, now: float) -> bool:
        """Whether one more fallback may be tried; if so it is paid for."""
        self._settle(now)
        if self._tokens < 1:
            self.exhausted += 1
            return False
        self._tokens -= 1
        return True

    def _settle(self, now: float) -> None:
        """dT/dt = floor - T/memory, solved over the time since the last call."""
        elapsed_s = now - self._as_of
        if elapsed_s < GRAIN_S:
            return
        rest = FLOOR_PER_S * MEMORY_S
        self._tokens = rest + (self._tokens - rest) * math.exp(-elapsed_s / MEMORY_S)
        self._as_of = now
