"""Durations as histograms that only grow, and what was added to them lately.

Theory of operation
-------------------
An engine publishes histograms that grow for as long as it lives; what happened over the last minutes is the difference
between two looks at them. Counting our own side the same way makes both sides comparable: one `Recent` takes looks at
either, keeps one every `STEP_S` for `WINDOW_S`, and answers with the difference between the newest and the oldest. A
histogram that has shrunk belongs to an engine that was started anew, so everything before is forgotten.

Quantiles are interpolated within a bucket, as Prometheus does (`histogram_quantile`): they are as good as the buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

WINDOW_S = 300.0
STEP_S = 10.0

BOUNDS_S = tuple(0.0001 * 1.1**step for step in range(171))
"""The buckets of what we count ourselves: 10 % wide each, from a tenth of a millisecond to a quarter of an hour."""


class Distribution(msgspec.Struct, frozen=True, gc=False):
    """A histogram of durations. `counts[i]` fell into bucket i alone, whose upper end is `bounds[i]` seconds; the last
    bucket has no end. `sum_s` is the sum of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum_s: float

    @property
    def count(self) -> float:
        return sum(self.counts)

    def since(self, earlier: Distribution) -> Distribution | None:
        """What came after `earlier`; None if this is not a continuation of it."""
        if earlier.bounds != self.bounds:
            return None
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        if min(counts, default=0.0) < 0:
            return None
        return Distribution(self.bounds, counts, max(0.0, self.sum_s - earlier.sum_s))

    def quantile(self, q: float) -> float | None:
        """The duration in seconds below which a share `q` lies: past the last bound, that one; None of nothing."""
        whole = self.count
        if not whole or not self.bounds:
            return None
        rank = q * whole
        reached = list(accumulate(self.counts))
        bucket = bisect_left(reached, rank)
        while bucket < len(self.counts) - 1 and not self.counts[bucket]:
            bucket += 1
        if bucket >= len(self.bounds):
            return self.bounds[-1]
        low = self.bounds[bucket - 1] if bucket else 0.0
        within = (rank - (reached[bucket] - self.counts[bucket])) / self.counts[bucket]
        return low + (self.bounds[bucket] - low) * min(1.0, max(0.0, within))


def together(parts: Iterable[Distribution]) -> Distribution | None:
    """One histogram of several, whose bounds may differ: those that end alike are added. None of none."""
    counts: dict[float, float] = {}
    endless = sum_s = 0.0
    empty = True
    for part in parts:
        empty = False
        sum_s += part.sum_s
        endless += part.counts[-1]
        for bound, count in zip(part.bounds, part.counts, strict=False):
            counts[bound] = counts.get(bound, 0.0) + count
    if empty:
        return None
    bounds = tuple(sorted(counts))
    return Distribution(bounds, (*(counts[bound] for bound in bounds), endless), sum_s)


class Spread(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is told of a distribution, in seconds; the mean is exact, the quantiles as good as the buckets."""

    mean_s: float
    p50_s: float
    p99_s: float
    samples: int


def spread_of(distribution: Distribution | None) -> Spread | None:
    """None of nothing."""
    if distribution is None:
        return None
    count, p50_s, p99_s = distribution.count, distribution.quantile(0.5), distribution.quantile(0.99)
    if p50_s is None or p99_s is None:
        return None
    return Spread(mean_s=distribution.sum_s / count, p50_s=p50_s, p99_s=p99_s, samples=round(count))


class Tally:
    """A histogram that we fill ourselves."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self._sum_s += duration_s

    def look(self) -> Distribution:
        """How it stands."""
        return Distribution(BOUNDS_S, tuple(self._counts), self._sum_s)


Looks = Sequence[Distribution | None]
"""Several histograms of one thing, looked at together; None is one that there is not."""


class Recent:
    """What was added to some histograms over the last `WINDOW_S`."""

    __slots__ = ("_kept", "_latest")

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Looks]] = deque()
        self._latest: tuple[float, Looks] | None = None

    def look(self, histograms: Looks, now: float) -> None:
        """Take note of how they stand."""
        if self._latest is not None and not _continues(self._latest[1], histograms):
            self._kept.clear()
        self._latest = (now, histograms)
        if not self._kept or now - self._kept[-1][0] >= STEP_S:
            self._kept.append((now, histograms))
        self._forget(now)

    def added(self, now: float) -> tuple[Distribution | None, ...]:
        """What came in the window, one for each; nothing is known of a window in which nobody looked twice."""
        self._forget(now)
        if self._latest is None or not self._kept:
            return ()
        pairs = zip(self._latest[1], self._kept[0][1], strict=True)
        # An engine may show a histogram only once there is something in it.
        return tuple(last if last is None or first is None else last.since(first) for last, first in pairs)

    def _forget(self, now: float) -> None:
        while self._kept and now - self._kept[0][0] > WINDOW_S:
            self._kept.popleft()


def _continues(before: Looks, after: Looks) -> bool:
    pairs = zip(before, after, strict=True)
    return all(then is None or (now is not None and now.since(then) is not None) for then, now in pairs)
