"""Counters and histograms that cost next to nothing until somebody looks.

Theory of operation
-------------------
prometheus_client's own take a lock and a few calls for each count, since any thread may count. Here one event loop
counts and reads, so a count is an addition and an observation a bisection; samples in prometheus_client's terms are
made when it collects. A family is a collector; `labels()` gives the series for some label values, to be kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import Metric


class Count:
    """One series of a counter; add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Counter:
    """A counter family. `unit` divides what was counted when it is shown: nano-dollars into dollars, say."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...] = (), *, unit: int = 1) -> None:
        self._name, self._documentation, self._labels, self._unit = name, documentation, labels, unit
        self._series: dict[tuple[str, ...], Count] = {}

    def labels(self, *values: str) -> Count:
        """The series with these label values, in the order of the family's labels."""
        return self._series.setdefault(values, Count())

    def collect(self) -> Iterator[Metric]:
        metric = Metric(self._name, self._documentation, "counter")
        for values, count in self._series.items():
            labels = dict(zip(self._labels, values, strict=True))
            metric.add_sample(f"{self._name}_total", labels, count.value / self._unit)
        yield metric


class Distribution:
    """One series of a histogram. `counts[i]` is how many fell into the i-th bucket alone, the last one open."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value` in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram:
    """A histogram family; `bounds` are the buckets' upper ends, ascending and without the infinite one."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._bounds = bounds
        self._ends = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._series: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *values: str) -> Distribution:
        """The series with these label values, in the order of the family's labels."""
        return self._series.setdefault(values, Distribution(self._bounds))

    def collect(self) -> Iterator[Metric]:
        metric = Metric(self._name, self._documentation, "histogram")
        for values, series in self._series.items():
            labels = dict(zip(self._labels, values, strict=True))
            seen = 0
            for end, count in zip(self._ends, series.counts, strict=True):
                seen += count
                metric.add_sample(f"{self._name}_bucket", {**labels, "le": end}, seen)
            metric.add_sample(f"{self._name}_count", labels, seen)
            metric.add_sample(f"{self._name}_sum", labels, series.total)
        yield metric
