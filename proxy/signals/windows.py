"""Sliding windows: quantiles of durations, and the share of successes, over the recent past.

Theory of operation
-------------------
A window is a ring of slices. Time turns the ring: when a slice falls off the far end its counts are taken out of the
running totals, so adding is O(1) and the totals always cover between (slices - 1) and (slices) slices of time.
Durations are counted in logarithmic buckets, each `GROWTH` times as wide as the one before (the idea of DDSketch,
Masson et al., VLDB 2019): any quantile is within `RELATIVE_ERROR` of the true one, whatever the distribution. The
quantile of rank floor(q (n - 1)) is taken, DDSketch's lower one: below a hundred samples a p99 is then the second
largest, so a single straggler never condemns a target.
"""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.04
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SHORTEST_S = 1e-4
LONGEST_S = 1e3
BUCKETS = math.ceil(math.log(LONGEST_S / SHORTEST_S, GROWTH)) + 1
SLICES = 6
MIN_SAMPLES = 20
"""Below this many samples a window answers None: unknown, rather than a guess."""
RECOMPUTE_S = 0.25
"""A quantile is a walk over the buckets, so it is computed at most this often."""

_PER_LOG = 1 / math.log(GROWTH)
_OFFSET = -math.log(SHORTEST_S) * _PER_LOG
_MIDPOINT = 2 / (1 + GROWTH)


class Durations:
    """The recent distribution of a duration in seconds."""

    __slots__ = ("_answer", "_answer_until", "_quantile", "_slice_s", "_slices", "_totals", "_turn", "count")

    def __init__(self, window_s: float, quantile: float) -> None:
        self.count = 0
        self._quantile = quantile
        self._slice_s = window_s / SLICES
        self._slices = [[0] * BUCKETS for _ in range(SLICES)]
        self._totals = [0] * BUCKETS
        self._turn = 0
        self._answer: float | None = None
        self._answer_until = 0.0

    def add(self, duration_s: float, now: float) -> None:
        """Count one observation made at `now`."""
        turn = int(now / self._slice_s)
        if turn != self._turn:
            self._rotate(turn)
        bucket = _bucket(duration_s)
        self._slices[turn % SLICES][bucket] += 1
        self._totals[bucket] += 1
        self.count += 1

    def quantile(self, now: float) -> float | None:
        """The window's quantile in seconds, at most `RECOMPUTE_S` old; None with fewer than `MIN_SAMPLES`."""
        if now >= self._answer_until:
            turn = int(now / self._slice_s)
            if turn != self._turn:
                self._rotate(turn)
            self._answer = self._compute()
            self._answer_until = now + RECOMPUTE_S
        return self._answer

    def _compute(self) -> float | None:
        if self.count < MIN_SAMPLES:
            return None
        # Counted from the top, where the high quantiles that are asked for are near.
        above = self.count - 1 - math.floor(self._quantile * (self.count - 1))
        for bucket in range(BUCKETS - 1, -1, -1):
            above -= self._totals[bucket]
            if above < 0:
                return SHORTEST_S * GROWTH**bucket * _MIDPOINT
        return None

    def _rotate(self, turn: int) -> None:
        for stale in range(max(self._turn + 1, turn - SLICES + 1), turn + 1):
            fallen = self._slices[stale % SLICES]
            lost = sum(fallen)
            if lost:
                self.count -= lost
                self._totals = [total - gone for total, gone in zip(self._totals, fallen, strict=True)]
                self._slices[stale % SLICES] = [0] * BUCKETS
        self._turn = max(turn, self._turn)


class Share:
    """The recent share of successes among results."""

    __slots__ = ("_failed", "_slice_s", "_succeeded", "_turn", "failures", "successes")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / SLICES
        self._turn = 0
        self.successes = self.failures = 0
        self._succeeded = [0] * SLICES
        self._failed = [0] * SLICES

    def add(self, success: bool, now: float) -> None:
        """Count one result."""
        turn = int(now / self._slice_s)
        if turn != self._turn:
            self._rotate(turn)
        if success:
            self.successes += 1
            self._succeeded[turn % SLICES] += 1
        else:
            self.failures += 1
            self._failed[turn % SLICES] += 1

    def value(self, now: float) -> float | None:
        """Successes over results in the window; None with fewer than `MIN_SAMPLES` results."""
        turn = int(now / self._slice_s)
        if turn != self._turn:
            self._rotate(turn)
        results = self.successes + self.failures
        return None if results < MIN_SAMPLES else self.successes / results

    def _rotate(self, turn: int) -> None:
        for stale in range(max(self._turn + 1, turn - SLICES + 1), turn + 1):
            place = stale % SLICES
            self.successes -= self._succeeded[place]
            self.failures -= self._failed[place]
            self._succeeded[place] = self._failed[place] = 0
        self._turn = max(turn, self._turn)


def _bucket(duration_s: float) -> int:
    if duration_s <= SHORTEST_S:
        return 0
    return min(math.ceil(math.log(duration_s) * _PER_LOG + _OFFSET), BUCKETS - 1)
