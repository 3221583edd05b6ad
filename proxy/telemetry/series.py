"""Counters and histograms that cost next to nothing until somebody looks.

Theory of operation
-------------------
prometheus_client's own take a lock and a few calls for each count, since any thread may count. Here one event loop
counts and reads, so a count is an addition and an observation a bisection; text is made when Prometheus asks for it
(`exposition`). `labels()` gives the series of a family for some label values, to be kept.
"""

from __future__ import annotations

from bisect import bisect_left

from proxy.telemetry.exposition import head, number, opening


class Count:
    """One series of a counter; add to `value`."""

    __slots__ = ("head", "value")

    def __init__(self, head: str) -> None:
        self.head = head
        self.value: float = 0


class Counter:
    """A counter family. `unit` divides what was counted when it is shown: nano-dollars into dollars, say."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...] = (), *, unit: int = 1) -> None:
        self._name, self._documentation, self._labels, self._unit = name, documentation, labels, unit
        self._series: dict[tuple[str, ...], Count] = {}

    def labels(self, *values: str) -> Count:
        """The series with these label values, in the order of the family's labels."""
        series = self._series.get(values)
        if series is None:
            labels = dict(zip(self._labels, values, strict=True))
            series = self._series[values] = Count(head(f"{self._name}_total", labels))
        return series

    def text(self, *, openmetrics: bool) -> str:
        """The family as Prometheus reads it."""
        lines = [opening(self._name, self._documentation, "counter", openmetrics=openmetrics)]
        lines += [f"{one.head}{number(one.value / self._unit)}\n" for one in self._series.values()]
        return "".join(lines)


class Distribution:
    """One series of a histogram. `counts[i]` is how many fell into the i-th bucket alone, the last one open."""

    __slots__ = ("_bounds", "counts", "heads", "total")

    def __init__(self, bounds: tuple[float, ...], heads: tuple[str, ...]) -> None:
        self._bounds = bounds
        self.heads = heads
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
        self._ends = [*(number(float(bound)) for bound in bounds), "+Inf"]
        self._series: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *values: str) -> Distribution:
        """The series with these label values, in the order of the family's labels."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Distribution(self._bounds, self._heads(values))
        return series

    def text(self, *, openmetrics: bool) -> str:
        """The family as Prometheus reads it."""
        lines = [opening(self._name, self._documentation, "histogram", openmetrics=openmetrics)]
        for series in self._series.values():
            *buckets, of_count, of_sum = series.heads
            seen = 0
            for bucket, count in zip(buckets, series.counts, strict=True):
                seen += count
                lines.append(f"{bucket}{number(seen)}\n")
            lines.append(f"{of_count}{number(seen)}\n{of_sum}{number(series.total)}\n")
        return "".join(lines)

    def _heads(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Of each bucket, then of the count and the sum."""
        labels = dict(zip(self._labels, values, strict=True))
        buckets = [head(f"{self._name}_bucket", {**labels, "le": end}) for end in self._ends]
        return (*buckets, head(f"{self._name}_count", labels), head(f"{self._name}_sum", labels))
