"""What one route and target did together, counted, with a mark every second of where the counts stood.

Theory of operation
-------------------
Counts only grow. The mark of n ticks ago is subtracted to learn what came since; where there are fewer marks the cell
is younger than that, and all of it came since.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from proxy.policy.model import Lane
from proxy.routing.outcome import Outcome

MARKS = 61
"""A minute of them, both ends included."""
_PENDING = 8192


class Counts(NamedTuple):
    """What a cell counted; of attempts that failed before another one was tried only `failed`."""

    requests: int
    failed: int
    input_tokens: int
    output_tokens: int


_NOTHING = Counts(0, 0, 0, 0)


class Cell:
    """One route and target. Add to the counts; `note` the attempts whose latencies may be of interest."""

    __slots__ = ("_marks", "_pending", "failed", "input_tokens", "lane", "note", "output_tokens", "requests")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.requests = self.failed = self.input_tokens = self.output_tokens = 0
        self._pending: deque[Outcome] = deque(maxlen=_PENDING)
        self.note = self._pending.append
        self._marks: deque[Counts] = deque(maxlen=MARKS)

    def sampled(self, most: int) -> list[Outcome]:
        """At most so many of the attempts that were noted since the last time, evenly spread; the others are gone."""
        pending = self._pending
        every = -(-len(pending) // most) or 1
        found = list(pending)[::every]
        pending.clear()
        return found

    def mark(self) -> None:
        """Write down where the counts stand."""
        self._marks.append(self._counts)

    def since(self, ticks: int) -> Counts:
        """What came since the mark of so many ticks ago."""
        marks, now = self._marks, self._counts
        then = marks[-ticks] if len(marks) >= ticks else _NOTHING
        return Counts(*[after - before for after, before in zip(now, then, strict=True)])

    @property
    def rested(self) -> bool:
        """Whether nothing came for as long as marks are kept."""
        return len(self._marks) == MARKS and self._marks[0] == self._counts

    @property
    def _counts(self) -> Counts:
        return Counts(self.requests, self.failed, self.input_tokens, self.output_tokens)


class Tally:
    """One count with its marks."""

    __slots__ = ("_marks", "count")

    def __init__(self) -> None:
        self.count = 0
        self._marks: deque[int] = deque(maxlen=MARKS)

    def mark(self) -> None:
        """Write down where the count stands."""
        self._marks.append(self.count)

    def since(self, ticks: int) -> int:
        """What came since the mark of so many ticks ago."""
        return self.count - (self._marks[-ticks] if len(self._marks) >= ticks else 0)

    @property
    def rested(self) -> bool:
        """Whether nothing came for as long as marks are kept."""
        return len(self._marks) == MARKS and self._marks[0] == self.count
