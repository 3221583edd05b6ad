"""From when on the next request may be sent to a target, so that its provider never has to say no.

Theory of operation
-------------------
Three things hold a target back, and the latest of them counts:

* the policy's `limits`, from the first request on: the use of the last minute, all proxies together, is kept below
  them, and spread by the same rule as a provider's quota;
* the quotas that the provider tells in the headers of its replies (`quota.py`);
* the rate that its refusals teach when no header foretold them (`throttle.py`).

A target that nothing holds costs a few additions per request. The state belongs to the account that a target stands
for, so all replicas of a target share one `Pace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.policy.model import UNLIMITED, Limits
from proxy.routing.readings import Quota, Rate
from proxy.signals.quota import Allowance, Level, spread
from proxy.signals.quota_headers import REQUESTS, TOKENS, UNITS, Told
from proxy.signals.throttle import Throttle

PERIOD_S = 60.0
LOOK_AGAIN_S = 0.25
"""When to see whether a request has ended elsewhere, or others' use has left the minute."""

UNUSED = Rate()
Mark = tuple[int, int, int, int]
"""All that had been sent when a request was, itself included, by unit."""
Hold = tuple[float, Quota]
"""From when on something allows the next request, 0 for at once, and what it is."""
UNHELD: tuple[float, None] = (0.0, None)


class Pace:
    """What holds one target. `limits` are the policy's, and may change with it."""

    __slots__ = ("_allowances", "_levels", "_request_tokens", "_sent", "_throttle", "limits")

    def __init__(self, limits: Limits = UNLIMITED) -> None:
        self.limits = limits
        self._sent: Mark = (0, 0, 0, 0)
        self._request_tokens = 1.0
        self._levels: dict[int, Level] = {}
        self._allowances = {REQUESTS: Allowance(), TOKENS: Allowance()}
        self._throttle = Throttle()

    def begin(self, input_tokens: int, output_tokens: int, now: float) -> Mark:
        """A request is sent, estimated to use so many tokens."""
        requests, tokens, inputs, outputs = before = self._sent
        self._throttle.sent(requests, now)
        both = input_tokens + output_tokens
        mark = self._sent = (requests + 1, tokens + both, inputs + input_tokens, outputs + output_tokens)
        self._request_tokens += (both - self._request_tokens) * 0.1
        for unit, level in self._levels.items():
            level.typical(mark[unit] - before[unit])
        return mark

    def hear(self, told: Iterable[Told], mark: Mark, now: float) -> None:
        """What the reply to the request of `mark` tells."""
        for one in told:
            level = self._levels.get(one.unit)
            if level is None:
                level = self._levels[one.unit] = Level(one.unit)
            level.hear(one, mark[one.unit], mark[REQUESTS], now)

    def accepted(self, mark: Mark) -> None:
        """The request of `mark` was let through."""
        if self._throttle.active:
            self._throttle.accepted(mark[REQUESTS])

    def turned_away(self, mark: Mark, now: float) -> None:
        """The request of `mark` was answered with 429; when a quota is known to run out, that was to be expected."""
        sent = self._sent
        if not any(level.scarce(sent[unit]) for unit, level in self._levels.items()):
            self._throttle.turned_away(mark[REQUESTS], sent[REQUESTS], now)

    def until(self, now: float, used: Rate = UNUSED) -> tuple[float, Quota | None]:
        """From when on the next request may be sent, 0 for at once, and the tightest of what holds or may soon hold.

        `used` is the target's use over all proxies, which the policy's limits are about.
        """
        if self.limits is UNLIMITED and not self._levels and not self._throttle.active:
            return UNHELD
        return max(self._holds(now, used), key=_tightness, default=UNHELD)

    def _holds(self, now: float, used: Rate) -> Iterator[Hold]:
        sent, limits = self._sent, self.limits
        if limits.rpm is not None:
            yield self._by_policy(REQUESTS, limits.rpm, used.requests, 1.0, used.frees_in_s, now)
        if limits.tpm is not None:
            yield self._by_policy(TOKENS, limits.tpm, used.tokens, self._request_tokens, used.frees_in_s, now)
        if limits.concurrency is not None:
            yield _by_concurrency(limits.concurrency, used.in_flight, now)
        for unit, level in self._levels.items():
            yield level.until(now, sent[unit], sent[REQUESTS]), level.quota(sent[unit])
        if self._throttle.active:
            yield self._by_refusals(now)

    def _by_policy(self, unit: int, limit: int, used: int, size: float, frees_in_s: float, now: float) -> Hold:
        allowance, sent, left = self._allowances[unit], self._sent[unit], limit - used
        rate = spread(left, limit, max(frees_in_s, LOOK_AGAIN_S), PERIOD_S, size)
        if rate is None:
            until = 0.0
            allowance.free(now, sent)
        else:
            until = allowance.until(now, sent, rate)
            if left <= 0:
                until = max(until, now + LOOK_AGAIN_S)
        quota = Quota(unit=UNITS[unit], limit=limit, remaining=max(0, left), reset_at=now + frees_in_s)
        return until, quota

    def _by_refusals(self, now: float) -> Hold:
        until = self._throttle.until(now, self._sent[REQUESTS])
        per_minute = round(self._throttle.rate(now) * 60.0)
        left = 0 if until > now else 1
        return until, Quota(unit="requests a minute", limit=per_minute, remaining=left, reset_at=max(until, now))


def _by_concurrency(limit: int, in_flight: int, now: float) -> Hold:
    left = max(0, limit - in_flight)
    until = 0.0 if left else now + LOOK_AGAIN_S
    return until, Quota(unit="requests at a time", limit=limit, remaining=left, reset_at=max(until, now))


def _tightness(hold: Hold) -> tuple[float, float]:
    until, quota = hold
    return until, -quota.remaining / quota.limit
