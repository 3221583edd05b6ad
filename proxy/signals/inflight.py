"""How many requests one replica has in flight, over every worker that sends to it.

Theory of operation
-------------------
A worker knows its own count at once and the others' from the background sync, a fraction of a second late. When the
sync falls silent the others' count is no longer known, and an old number would be as wrong as none: it is dropped after
`OTHERS_BELIEVED_S`, and the engine's own *full* answers are then what holds the line.
"""

from __future__ import annotations

OTHERS_BELIEVED_S = 5.0
"""Twenty sync intervals: long enough for a Redis failover, short enough not to turn requests away for ghosts."""


class InFlight:
    """One replica's count. `own` is this process's, exact."""

    __slots__ = ("_others", "_others_until", "own")

    def __init__(self) -> None:
        self.own = 0
        self._others = 0
        self._others_until = 0.0

    def absorb(self, others: int, now: float) -> None:
        """Take note of what the other workers report."""
        self._others = others
        self._others_until = now + OTHERS_BELIEVED_S

    def total(self, now: float) -> int:
        """Own and others' requests, as far as they are known at `now`."""
        return self.own + self._others if now < self._others_until else self.own
