"""A rate learned from refusals, for providers that answer 429 without telling their limits beforehand.

Theory of operation
-------------------
On a 429 the rate falls to `DECREASE` of what was sent lately; then it grows by an even amount, so slowly that it would
double in `RECOVERY_S`, after which it is forgotten. (Additive increase, multiplicative decrease: Chiu and Jain, 1989,
show that those who share a limit without knowing of each other end up with equal parts of it.) What was sent lately is
the lower of two averages: the short one follows a change of traffic, the long one is right where a whole minute's quota
was sent in a few seconds. Refusals of requests that were sent before the last one was heard say nothing new, and nor do
those that follow it with nothing accepted in between: the provider is at its end for now, not slower than thought, and
is asked again after a time that doubles.
"""

from __future__ import annotations

from collections import deque

from proxy.signals.quota import Allowance

DECREASE = 0.85
RECOVERY_S = 300.0
MIN_PER_S = 0.5
"""No refusal teaches less than this: one that sends so little is not what exhausts a provider."""
SHORT_S, LONG_S = 10.0, 60.0
FIRST_WAIT_S, MAX_WAIT_S = 0.25, 15.0


class Throttle:
    """A rate in requests per second. `order` and `sent` count this process's requests from the first one on."""

    __slots__ = ("_allowance", "_base", "_history", "_order", "_refusals", "_since", "_wait_until", "active")

    def __init__(self) -> None:
        self.active = False
        self._allowance = Allowance()
        self._history: deque[tuple[float, int]] = deque()
        self._base = self._since = self._wait_until = 0.0
        self._order = self._refusals = 0

    def sent(self, before: int, now: float) -> None:
        """A request is sent, after `before` others."""
        history = self._history
        if history and now - history[-1][0] < 1.0:
            return
        history.append((now, before))
        while history[0][0] < now - LONG_S:
            history.popleft()

    def turned_away(self, order: int, sent: int, now: float) -> None:
        """Request number `order` was refused, when `sent` had been sent."""
        if order <= self._order:
            return
        self._order = sent
        self._wait_until = now + min(FIRST_WAIT_S * 2.0**self._refusals, MAX_WAIT_S)
        self._refusals = min(self._refusals + 1, 16)
        if self._refusals == 1:
            self._decrease(sent, now)

    def accepted(self, order: int) -> None:
        """Request number `order` was let through."""
        if order > self._order:
            self._refusals = 0

    def rate(self, now: float) -> float:
        """Requests per second."""
        return self._base * (1 + (now - self._since) / RECOVERY_S)

    def until(self, now: float, sent: int) -> float:
        """From when on the next request may be sent; 0 for at once."""
        if now - self._since >= RECOVERY_S:
            self.active = False
            return 0.0
        until = self._allowance.until(now, sent, self.rate(now))
        return max(until, self._wait_until) if self._wait_until > now else until

    def _decrease(self, sent: int, now: float) -> None:
        rate = min(self._recent(sent, now, SHORT_S), self._recent(sent, now, LONG_S))
        if self.active:
            rate = min(rate, self.rate(now))
        else:
            self._allowance = Allowance()
        self._base, self._since = max(rate * DECREASE, MIN_PER_S), now
        self.active = True

    def _recent(self, sent: int, now: float, span_s: float) -> float:
        before = next((count for at, count in self._history if at >= now - span_s), sent)
        return (sent - before) / span_s
