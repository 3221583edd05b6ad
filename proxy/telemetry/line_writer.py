"""Writes lines from a thread of its own, so that whoever makes them never waits for a pipe or a disk.

Theory of operation
-------------------
Lines wait in memory and go out in batches, a few times a second. If they cannot go out for long the oldest are dropped
and counted; what cannot be written at all is counted too. Nothing here raises, and nothing here is waited for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

FLUSH_S = 0.1
MAX_PENDING_LINES = 50_000
CLOSE_S = 1.0


class LineWriter:
    """Gives lines, which have no line break yet, to `write`, batch after batch.

    `write` returns how many of them it had to drop; by OSError or ValueError it says that it dropped them all.
    """

    def __init__(self, name: str, write: Callable[[list[bytes]], int]) -> None:
        self._write = write
        self._lines: deque[bytes] = deque(maxlen=MAX_PENDING_LINES)
        self._closing = threading.Event()
        self._overrun = 0  # counted where lines are made
        self._unwritten = 0  # counted in the thread
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._overrun + self._unwritten

    def add(self, line: bytes) -> None:
        """Take a line along with the next batch."""
        if len(self._lines) == MAX_PENDING_LINES:
            self._overrun += 1
        self._lines.append(line)

    def stop(self) -> None:
        """Write what is left, and no more after that."""
        self._closing.set()

    def join(self) -> None:
        """Wait until that is done; gives up after a second."""
        self._thread.join(timeout=CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._unwritten += self._write(lines)
        except (OSError, ValueError):
            self._unwritten += len(lines)
