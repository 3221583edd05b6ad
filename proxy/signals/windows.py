"""Sliding windows: quantiles of durations, and the share of successes, over the recent past.

Theory of operation
-------------------
A window is a row of slices. As time passes the oldest falls off and a new one begins; what falls off is taken out of
the running totals, so adding is O(1) and the totals always cover between (slices - 1) and (slices) slices of time. A
result that arrives a moment late counts in the newest slice.
Durations are counted in logarithmic buckets, each `GROWTH` times as wide as the one before (the idea of DDSketch,
Masson et al., VLDB 2019): any quantile is within `RELATIVE_ERROR` of the true one, whatever the distribution. The
quantile of rank floor(q (n - 1)) is taken, DDSketch's lower one: below a hundred samples a p99 is then the second
largest, so a single straggler never condemns a target. All quantiles come from one walk over the buckets; whoever asks
decides how often that is worth it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import ceil, floor, log

RELATIVE_ERROR = 0.04
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SHORTEST_S = 1e-4
LONGEST_S = 1e3
BUCKETS = ceil(log(LONGEST_S / SHORTEST_S, GROWTH)) + 1
SLICES = 6
MIN_SAMPLES = 20
"""Below this many samples a window answers None: unknown, rather than a guess."""
QUANTILES = (0.99, 0.95, 0.9, 0.5)
"""Those that rules may name, in the order in which they are given out."""

UNKNOWN: Sequence[float | None] = (None,) * len(QUANTILES)

_PER_LOG = 1 / log(GROWTH)
_OFFSET = -log(SHORTEST_S) * _PER_LOG
_MIDPOINT = 2 / (1 + GROWTH)


class Durations:
    """The recent distribution of a duration in seconds."""

    __slots__ = ("_newest", "_slice_s", "_slices", "_totals", "_until", "count")

    def __init__(self, window_s: float) -> None:
        self.count = 0
        self._slice_s = window_s / SLICES
        self._slices = deque([0] * BUCKETS for _ in range(SLICES))
        self._newest = self._slices[-1]
        self._totals = [0] * BUCKETS
        self._until = 0.0

    def add(self, duration_s: float, now: float) -> None:
        """Count one observation made at `now`."""
        if now >= self._until:
            self._turn(now)
        bucket = 0
        if duration_s > SHORTEST_S:
            bucket = min(ceil(log(duration_s) * _PER_LOG + _OFFSET), BUCKETS - 1)
        self._newest[bucket] += 1
        self._totals[bucket] += 1
        self.count += 1

    def quantiles(self, now: float) -> Sequence[float | None]:
        """The window's `QUANTILES` in seconds; all None with fewer than `MIN_SAMPLES`."""
        if now >= self._until:
            self._turn(now)
        last = self.count - 1
        if last < MIN_SAMPLES - 1:
            return UNKNOWN
        upwards = list(accumulate(self._totals))
        ranks = [floor(quantile * last) for quantile in QUANTILES]
        return [SHORTEST_S * GROWTH ** bisect_right(upwards, rank) * _MIDPOINT for rank in ranks]

    def _turn(self, now: float) -> None:
        passed, self._until = _slices_passed(now, self._until, self._slice_s)
        for _ in range(passed):
            fallen = self._slices.popleft()
            lost = sum(fallen)
            if lost:
                self.count -= lost
                self._totals = [total - gone for total, gone in zip(self._totals, fallen, strict=True)]
                fallen = [0] * BUCKETS
            self._slices.append(fallen)
        self._newest = self._slices[-1]


class Share:
    """The recent share of successes among results."""

    __slots__ = ("_newest", "_slice_s", "_slices", "_until", "failures", "successes")

    def __init__(self, window_s: float) -> None:
        self.successes = self.failures = 0
        self._slice_s = window_s / SLICES
        self._slices = deque([0, 0] for _ in range(SLICES))
        self._newest = self._slices[-1]
        self._until = 0.0

    def add(self, success: bool, now: float) -> None:
        """Count one result."""
        if now >= self._until:
            self._turn(now)
        if success:
            self.successes += 1
            self._newest[0] += 1
        else:
            self.failures += 1
            self._newest[1] += 1

    def value(self, now: float) -> float | None:
        """Successes over results in the window; None with fewer than `MIN_SAMPLES` results."""
        if now >= self._until:
            self._turn(now)
        results = self.successes + self.failures
        return None if results < MIN_SAMPLES else self.successes / results

    def _turn(self, now: float) -> None:
        passed, self._until = _slices_passed(now, self._until, self._slice_s)
        for _ in range(passed):
            succeeded, failed = self._slices.popleft()
            self.successes -= succeeded
            self.failures -= failed
            self._slices.append([0, 0])
        self._newest = self._slices[-1]


def _slices_passed(now: float, until: float, slice_s: float) -> tuple[int, float]:
    """How many slices have ended since the newest one was to end at `until`, and when the one of `now` will."""
    turn = floor(now / slice_s)
    return min(turn - round(until / slice_s) + 1, SLICES), (turn + 1) * slice_s
