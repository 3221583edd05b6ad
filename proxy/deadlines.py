"""Keeps the deadlines of everything in flight, a few times a second.

Theory of operation
-------------------
A timer per token would cost more than the token. Every exchange has deadlines measured in seconds, so one sweep of all
of them each `PERIOD_S` is exact enough and costs microseconds per hundred streams.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

PERIOD_S = 0.05


class Watched(Protocol):
    """Anything with deadlines; `check` may remove it from the watch."""

    def check(self, now: float) -> None: ...


class Deadlines:
    """The set of what is watched. `start()` needs a running loop."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self.lag_s = 0.0
        """How late the last sweep came: the event loop's own delay."""

    def add(self, watched: Watched) -> None:
        self._watched.add(watched)

    def discard(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def start(self) -> None:
        self._due_at = time.monotonic() + PERIOD_S
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = time.monotonic()
        self.lag_s = max(0.0, now - self._due_at)
        self.start()
        for watched in tuple(self._watched):
            watched.check(now)
