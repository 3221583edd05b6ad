"""Dollars on both lanes over time, from the proxy's own meters.

Theory of operation
-------------------
The meters' totals only grow; what a lane costs *now* is the difference of two reports some seconds apart. A dedicated
lane's dollars are GPU time by the clock, so its price per token falls as it fills; a shared lane's is what it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from proxy.meters.report import MeterReport

_SPAN_S = 10.0


@dataclass(frozen=True, slots=True)
class Bill:
    """What one lane has cost and carried; `at_shared_prices` is what a provider would have charged for the same."""

    nano_usd: int = 0
    tokens: int = 0
    nano_usd_at_shared_prices: int | None = None

    @property
    def usd(self) -> float:
        """Dollars."""
        return self.nano_usd / 1e9

    @property
    def usd_per_mtok(self) -> float | None:
        """Dollars per million tokens, None before the first."""
        return self.nano_usd / self.tokens / 1e3 if self.tokens else None

    def since(self, earlier: Bill) -> Bill:
        """The part that came after `earlier`."""
        return Bill(self.nano_usd - earlier.nano_usd, self.tokens - earlier.tokens)


class Purse:
    """The reports of the last seconds, oldest first."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, MeterReport]] = deque()

    def note(self, report: MeterReport, now: float) -> None:
        """Keep a report."""
        self._reports.append((now, report))
        while len(self._reports) > 2 and self._reports[1][0] <= now - _SPAN_S:
            self._reports.popleft()

    def total(self, lane: str) -> Bill:
        """Since the beginning."""
        return _bill(self._reports[-1][1], lane) if self._reports else Bill()

    def recent(self, lane: str) -> Bill:
        """Over the last ten seconds or so."""
        return self.total(lane).since(_bill(self._reports[0][1], lane)) if self._reports else Bill()

    @property
    def requests(self) -> int:
        """Requests that the meters know of."""
        return self._reports[-1][1].total.requests if self._reports else 0


def _bill(report: MeterReport, lane: str) -> Bill:
    rows = [row for row in report.total.targets if row.lane == lane]
    at_shared_prices = [row.shared_nano_usd for row in rows if row.shared_nano_usd is not None]
    return Bill(
        sum(row.nano_usd or 0 for row in rows),
        sum(row.input_tokens + row.output_tokens for row in rows),
        sum(at_shared_prices) if at_shared_prices else None,
    )
