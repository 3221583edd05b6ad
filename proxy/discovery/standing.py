"""How a source of replicas stands: when it last confirmed what is known of it, whether it answers, and what is wrong.

That a watch breaks, or that a name is not resolved once, is nothing: two failures in a row say that the source is not
up, and three are worth a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)

DOWN_AFTER = 2
SILENT_AFTER = 3


class Standing:
    """Of one source, which is `spelled` so in the log."""

    __slots__ = ("_clock", "_spelled", "answered", "as_of", "failures", "trouble")

    def __init__(self, spelled: str, clock: Callable[[], float]) -> None:
        self._spelled = spelled
        self._clock = clock
        self.answered = asyncio.Event()
        """Set from the first answer on."""
        self.as_of = 0.0
        self.failures = 0
        self.trouble = ""

    @property
    def up(self) -> bool:
        """Whether it answers now."""
        return self.answered.is_set() and self.failures < DOWN_AFTER

    def confirmed(self) -> None:
        """It has said that what is known of it holds."""
        self.as_of = self._clock()
        self.answered.set()

    def sound(self) -> None:
        """Nothing is wrong with it any more."""
        if self.failures >= SILENT_AFTER:
            _log.info("%s says again where its replicas are", self._spelled)
        self.failures, self.trouble = 0, ""

    def failed(self, reason: str) -> None:
        """It did not answer, or not with what was asked for."""
        self.failures += 1
        self.trouble = reason
        if self.failures == SILENT_AFTER:
            kept = "what it said holds on" if self.answered.is_set() else "none is known"
            _log.warning("%s does not say where its replicas are, %s: %s", self._spelled, kept, reason)
