"""How a server ends: what each signal asks for, and when every stage of it is over.

Theory of operation
-------------------
SIGTERM comes from an orchestrator, which takes its time to tell everybody that this server is leaving: for `delay_s`
more it takes whatever comes, then nothing new, and what is in flight has `drain_s` to end. SIGINT comes from somebody
who waits at a terminal: nothing new at once, and `INTERRUPT_DRAIN_S` to end. Every further signal hurries, first to
that, then to no time at all.

One SIGTERM may come twice. systemd tells every process of a unit, and the parent of several workers passes on what it
hears; so one that follows another within `ECHO_S` is the same.

Nothing here reads a clock: the times are those of whoever calls.
"""

from __future__ import annotations

import math
import signal

INTERRUPT_DRAIN_S = 2.0
ECHO_S = 1.0


class Drain:
    """The stages of one server's end, as times on the caller's clock; all are infinite while it serves."""

    def __init__(self, delay_s: float, drain_s: float) -> None:
        self._delay_s = delay_s
        self._drain_s = drain_s
        self._heard_at = -math.inf
        self._hurried = False
        self.accepts_until = math.inf
        """When new connections are turned away."""
        self.cut_at = math.inf
        """When what is still in flight is ended."""

    @property
    def begun(self) -> bool:
        """Whether a signal has come."""
        return self.cut_at < math.inf

    @property
    def waits_until(self) -> float:
        """How long a request may wait for room; after it there is still half of `drain_s` for the answer."""
        return self.cut_at - self._drain_s / 2 if self.begun else math.inf

    def is_patient(self, now: float) -> bool:
        """Whether clients have time: nobody waits at a terminal, and nothing has been cut yet."""
        return not self._hurried and now < self.cut_at

    def told(self, number: int, now: float) -> None:
        """A signal has come."""
        echo = number == signal.SIGTERM and now < self._heard_at + ECHO_S
        if number == signal.SIGTERM:
            self._heard_at = now
        if echo:
            return
        if number == signal.SIGTERM and not self.begun:
            self.accepts_until = now + self._delay_s
            self.cut_at = self.accepts_until + self._drain_s
            return
        left_s = 0.0 if self._hurried else min(INTERRUPT_DRAIN_S, self._drain_s)
        self._hurried = True
        self.accepts_until = min(self.accepts_until, now)
        self.cut_at = min(self.cut_at, now + left_s)
