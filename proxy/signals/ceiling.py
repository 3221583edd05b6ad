"""The limits that the policy sets for a target, kept from the first request on.

Theory of operation
-------------------
Use over the last minute is counted over all proxies (`rates.py`), and what is left is spread like a provider's quota
(`quota.py`): up to half of it passes freely, the rest evenly over the time until the oldest use leaves the minute. Here
the others' use is known, so each proxy takes of that rate the share that it had of the use. When nothing is left
nothing passes: unlike a provider's, this limit needs no asking.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from proxy.policy.model import Limits
from proxy.routing.readings import Quota, Rate
from proxy.signals.quota import Allowance, spread
from proxy.signals.quota_headers import REQUESTS, TOKENS, UNITS

PERIOD_S = 60.0
MIN_SHARE = 0.25
"""A proxy that has only just begun to send had no share yet, and is not to wait until the others' use is forgotten."""
LOOK_AGAIN_S = 0.25
"""When to see whether requests have ended, or use has left the minute, elsewhere."""

Hold = tuple[float, Quota]
"""From when on the next request is allowed, 0 for at once, and by what."""


class Use(msgspec.Struct, frozen=True, gc=False):
    """The use that all proxies make of a target at `now`, of which this one had a `share`."""

    rate: Rate
    share: float
    now: float


class _Row:
    """One limit of a minute, in requests or tokens."""

    __slots__ = ("_allowance", "_unit")

    def __init__(self, unit: int) -> None:
        self._allowance = Allowance()
        self._unit = unit

    def hold(self, limit: int, used: int, use: Use, sent: int, size: float) -> Hold:
        """What it says when so much is `used` by all, and `sent` is all that this process ever sent."""
        now, left = use.now, limit - used
        rate = spread(left, limit, max(use.rate.frees_in_s, LOOK_AGAIN_S), PERIOD_S, size)
        if rate is None:
            until = 0.0
            self._allowance.free(now, sent)
        else:
            until = self._allowance.until(now, sent, rate * max(use.share, MIN_SHARE))
        if left <= 0:
            until = max(until, now + LOOK_AGAIN_S)
        reset_at = now + use.rate.frees_in_s
        return until, Quota(unit=UNITS[self._unit], limit=limit, remaining=max(0, left), reset_at=reset_at)


class Ceiling:
    """One target's limits, which may change with the policy."""

    __slots__ = ("_requests", "_tokens", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._requests = _Row(REQUESTS)
        self._tokens = _Row(TOKENS)

    def holds(self, use: Use, requests: int, tokens: int, size: float) -> Iterator[Hold]:
        """What each limit says.

        `requests` and `tokens` are all that this process has ever sent, `size` the tokens of a typical request.
        """
        limits, rate = self.limits, use.rate
        if limits.rpm is not None:
            yield self._requests.hold(limits.rpm, rate.requests, use, requests, 1.0)
        if limits.tpm is not None:
            yield self._tokens.hold(limits.tpm, rate.tokens, use, tokens, size)
        if limits.concurrency is not None:
            free = max(0, limits.concurrency - rate.in_flight)
            until = 0.0 if free else use.now + LOOK_AGAIN_S
            quota = Quota(unit="requests at a time", limit=limits.concurrency, remaining=free, reset_at=use.now)
            yield until, quota
