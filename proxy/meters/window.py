"""What was counted lately: differences between totals a few minutes apart.

Theory of operation
-------------------
Totals only grow, so the last minutes are the newest total minus an older one. A window keeps one summary every few
seconds for as long as its span, and answers with the oldest that it still has. Sums that shrank (the store was wiped)
make the past useless: the window starts again.
"""

from __future__ import annotations

from collections import deque

from proxy.meters.summary import Summary

SPAN_S = 300.0


class Window:
    """Summaries of the last `span_s` seconds, by the store's clock."""

    def __init__(self, span_s: float = SPAN_S) -> None:
        self._span_s = span_s
        self._samples: deque[Summary] = deque()

    def add(self, sample: Summary) -> None:
        """Note a summary; each is later than the one before."""
        if self._samples and not sample.continues(self._samples[-1]):
            self._samples.clear()
        self._samples.append(sample)
        while len(self._samples) > 1 and sample.as_of_s - self._samples[1].as_of_s >= self._span_s:
            self._samples.popleft()

    @property
    def latest(self) -> Summary | None:
        """The newest summary; None before the first."""
        return self._samples[-1] if self._samples else None

    def before(self, latest: Summary) -> Summary | None:
        """The oldest summary within the span of `latest` that it can be compared with; None when there is none."""
        oldest = self._samples[0] if self._samples else None
        return oldest if oldest is not None and latest.continues(oldest) else None
