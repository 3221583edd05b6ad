"""From when on the next request may be sent to a target, so that its provider never has to say no.

Theory of operation
-------------------
Three things hold a target back, and the latest of them counts:

* the policy's `limits`, from the first request on (`ceiling.py`);
* the quotas that the provider tells in the headers of its replies (`quota.py`);
* the rate that its refusals teach when no header foretold them (`throttle.py`).

A target that nothing holds costs a few additions per request. The state belongs to the account that a target stands
for, so all replicas of a target share one `Pace`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.policy.model import UNLIMITED, Limits
from proxy.routing.readings import Quota
from proxy.signals.ceiling import Ceiling, Hold, Use
from proxy.signals.quota import Level
from proxy.signals.quota_headers import REQUESTS, TOKENS, Told
from proxy.signals.throttle import Throttle

Mark = tuple[int, int, int, int]
"""All that had been sent when a request was, itself included, by unit."""
UNHELD: tuple[float, None] = (0.0, None)


class Pace:
    """What holds one target."""

    __slots__ = ("_ceiling", "_levels", "_request_tokens", "_sent", "_throttle")

    def __init__(self, limits: Limits = UNLIMITED) -> None:
        self._ceiling = Ceiling(limits)
        self._sent: Mark = (0, 0, 0, 0)
        self._request_tokens = 1.0
        self._levels: dict[int, Level] = {}
        self._throttle = Throttle()

    def limit(self, limits: Limits) -> None:
        """Keep the limits of another policy."""
        self._ceiling.limits = limits

    def begin(self, input_tokens: int, output_tokens: int, now: float) -> Mark:
        """A request is sent, estimated to use so many tokens."""
        requests, tokens, inputs, outputs = before = self._sent
        self._throttle.sent(requests, now)
        both = input_tokens + output_tokens
        mark = self._sent = (requests + 1, tokens + both, inputs + input_tokens, outputs + output_tokens)
        self._request_tokens += (both - self._request_tokens) * 0.1
        if self._levels:
            for unit, level in self._levels.items():
                level.typical(mark[unit] - before[unit])
        return mark

    def hear(self, told: Iterable[Told], mark: Mark, now: float) -> None:
        """What the reply to the request of `mark` tells."""
        for one in told:
            level = self._levels.get(one.unit)
            if level is None:
                if not (one.limit or one.remaining):
                    continue
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

    @property
    def throttled(self) -> bool:
        """Whether a rate was learned from refusals, so that every acceptance and refusal is of interest."""
        return self._throttle.active

    def until(self, now: float, use: Use | None = None) -> tuple[float, Quota | None]:
        """From when on the next request may be sent, 0 for at once, and the tightest of what holds or may soon hold.

        `use` is what the policy's limits are about; None where it sets none.
        """
        held, tightest = UNHELD
        if use is not None:
            held, tightest = max(self._by_policy(use), key=_tightness, default=UNHELD)
        if self._levels:
            held, tightest = self._by_headers(now, held, tightest)
        if self._throttle.active:
            held, tightest = self._by_refusals(now, held, tightest)
        return held, tightest

    def _by_policy(self, use: Use) -> Iterator[Hold]:
        return self._ceiling.holds(use, self._sent[REQUESTS], self._sent[TOKENS], self._request_tokens)

    def _by_headers(self, now: float, held: float, tightest: Quota | None) -> tuple[float, Quota | None]:
        """The tightest level if it is tighter than what holds already; only that one is put into words."""
        sent, scarcest = self._sent, None
        least = 2.0 if tightest is None else tightest.remaining / max(tightest.limit, 1)
        for unit, level in self._levels.items():
            until = level.until(now, sent[unit], sent[REQUESTS])
            share = level.share(sent[unit])
            if until > held or (until == held and share < least):
                held, least, scarcest = until, share, level
        return held, tightest if scarcest is None else scarcest.quota(sent[scarcest.unit])

    def _by_refusals(self, now: float, held: float, tightest: Quota | None) -> tuple[float, Quota | None]:
        until = self._throttle.until(now, self._sent[REQUESTS])
        if until <= held:
            return held, tightest
        per_minute = round(self._throttle.rate(now) * 60.0)
        return until, Quota(unit="requests a minute", limit=per_minute, remaining=0, reset_at=until)


def _tightness(hold: Hold) -> tuple[float, float]:
    until, quota = hold
    return until, -quota.remaining / max(quota.limit, 1)
