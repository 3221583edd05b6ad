"""The last minutes as a row of points, so that whoever opens the console later has a chart at once.

Theory of operation
-------------------
A ring of `POINTS` points, one every `STEP_S`, kept whether somebody looks or not: a point costs a few microseconds.
Percentiles are of the first tokens that were sampled in the step. Old points leave as new ones come.
"""

from __future__ import annotations

from collections import deque
from math import floor
from typing import NamedTuple

from proxy.live.view import HistoryHere

STEP_S = 2.0
POINTS = 150


class Point(NamedTuple):
    """One step, ending at `at`, Unix time; the fields are the columns of `HistoryHere`, in its order."""

    at: float
    dedicated_requests_per_s: float
    shared_requests_per_s: float
    refused_per_s: float
    failed_per_s: float
    tokens_per_s: float
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    spill_share: float | None
    dedicated_nano_usd_per_h: float | None
    shared_nano_usd_per_h: float | None
    dedicated_nano_usd_per_mtok: float | None = None
    break_even_nano_usd_per_mtok: float | None = None


class History:
    """The ring."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=POINTS)

    def add(self, point: Point) -> None:
        """The newest point."""
        self._points.append(Point._make(map(_short, point)))

    def view(self) -> HistoryHere:
        """All points, as columns."""
        columns = zip(*self._points, strict=True)
        return HistoryHere(step_s=STEP_S, **dict(zip(Point._fields, columns, strict=False)))


def quantile(values: list[float], q: float) -> float | None:
    """The value of rank floor(q (n - 1)), as in `signals.windows`; None of none."""
    return sorted(values)[floor(q * (len(values) - 1))] if values else None


def _short(value: float | None) -> float | None:
    """Four digits of it at most behind the point: what is drawn needs no more, and it is sent every second."""
    return None if value is None else round(value, 4)
