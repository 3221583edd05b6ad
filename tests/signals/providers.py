"""Proxies that share a simulated provider's account, in simulated time: what the pacing is proved against."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Protocol

from proxy.policy.model import UNLIMITED, Limits
from proxy.signals.ceiling import Use
from proxy.signals.pace import Mark, Pace
from proxy.signals.quota_headers import REQUESTS, Told
from proxy.signals.rates import RateBook

T0 = 5000.0
MAX_BELIEVED_S = 60.0
SYNC_S = 0.2


class Provider(Protocol):
    """Keeps one limit, in whatever way."""

    limit: int

    def ask(self, units: int, now: float) -> bool:
        """Whether a request of this size passes; if so it is charged."""
        ...

    def told(self, now: float) -> tuple[int, float]:
        """What remains, and when all is back."""
        ...

    def wait_s(self, units: int, now: float) -> float:
        """For `Retry-After`."""
        ...


class Windows:
    """So many units in each minute of the clock."""

    def __init__(self, limit: int, period_s: float = 60.0) -> None:
        self.limit, self.period_s = limit, period_s
        self.used: dict[int, int] = {}

    def ask(self, units: int, now: float) -> bool:
        window = int(now // self.period_s)
        used = self.used.get(window, 0) + units
        if used > self.limit:
            return False
        self.used[window] = used
        return True

    def told(self, now: float) -> tuple[int, float]:
        window = int(now // self.period_s)
        return self.limit - self.used.get(window, 0), (window + 1) * self.period_s - now

    def wait_s(self, units: int, now: float) -> float:
        return self.told(now)[1]


class Bucket:
    """A bucket that refills evenly."""

    def __init__(self, limit: int, period_s: float = 60.0) -> None:
        self.limit, self.per_s = limit, limit / period_s
        self.level, self.as_of, self.passed = float(limit), T0, 0

    def ask(self, units: int, now: float) -> bool:
        self.level = min(float(self.limit), self.level + (now - self.as_of) * self.per_s)
        self.as_of = now
        if self.level < units:
            return False
        self.level -= units
        self.passed += units
        return True

    def told(self, now: float) -> tuple[int, float]:
        return int(self.level), (self.limit - self.level) / self.per_s

    def wait_s(self, units: int, now: float) -> float:
        return max(0.0, units - self.level) / self.per_s


class Proxy:
    """One process: a pace, a book for the policy's limits, and what is believed of a `Retry-After`."""

    def __init__(self, limits: Limits) -> None:
        self.pace, self.book, self.full_until = Pace(limits), RateBook(), 0.0
        self.limited = limits is not UNLIMITED

    def may_send(self, now: float) -> bool:
        use = None
        if self.limited:
            use = Use(self.book.rate("target:api", now), self.book.share("target:api", now), now)
        return self.full_until <= now and self.pace.until(now, use)[0] <= now


class Result:
    """What became of it."""

    def __init__(self) -> None:
        self.sent = self.refused = 0
        self.sent_at: list[float] = []

    @property
    def refused_share(self) -> float:
        return self.refused / self.sent


def play(
    provider: Provider,
    *,
    proxies: int,
    lasting_s: float = 300.0,
    offered_per_s: float = 50.0,
    latency_s: tuple[float, float] = (0.02, 0.2),
    limits: Limits = UNLIMITED,
    unit: int = REQUESTS,
    tokens: Callable[[Random], int] = lambda random: 1,
    headers: bool = True,
    retry_after: bool = True,
    sharing: bool = False,
    seed: int = 1,
) -> Result:
    """Requests arrive at random and are spread over the proxies evenly; one that may not be sent goes elsewhere.

    The provider counts a request half the latency (50 ms at most) after it is sent, and its reply's head is back after
    the whole of it; a refusal is back sooner.
    """
    random, serial, result = Random(seed), count(), Result()
    fleet = [Proxy(limits) for _ in range(proxies)]
    events: list[tuple[float, int, str, Any]] = []

    def at(when: float, what: str, *data: Any) -> None:
        heapq.heappush(events, (when, next(serial), what, data))

    at(T0, "arrive")
    if sharing:
        at(T0, "sync")
    while events[0][0] < T0 + lasting_s:
        now, _, what, data = heapq.heappop(events)
        if what == "arrive":
            at(now + random.expovariate(offered_per_s), "arrive")
            proxy, units = random.choice(fleet), tokens(random)
            if proxy.may_send(now):
                mark = proxy.pace.begin(units, 0, now)
                proxy.book.settle(proxy.book.admit(("target:api",), units, now), units, now)
                result.sent += 1
                result.sent_at.append(now)
                took_s = random.uniform(*latency_s)
                at(now + min(took_s / 2, 0.05), "reach", proxy, mark, units, now + took_s)
        elif what == "reach":
            proxy, mark, units, back_at = data
            size = 1 if unit == REQUESTS else units
            passed = provider.ask(size, now)
            result.refused += not passed
            told = Told(unit, provider.limit, *provider.told(now)) if headers else None
            wait_s = None if passed else provider.wait_s(size, now) if retry_after else 0.25
            at(back_at if passed else min(back_at, now + 0.05), "hear", proxy, mark, told, wait_s)
        elif what == "hear":
            _hear(*data, now)
        else:
            at(now + SYNC_S, "sync")
            _sync(fleet, now)
    return result


def _hear(proxy: Proxy, mark: Mark, told: Told | None, wait_s: float | None, now: float) -> None:
    if told is not None:
        proxy.pace.hear((told,), mark, now)
    if wait_s is not None:
        proxy.full_until = now + min(max(wait_s, 0.25), MAX_BELIEVED_S)
        proxy.pace.turned_away(mark, now)
    else:
        proxy.pace.accepted(mark)


def _sync(fleet: list[Proxy], now: float) -> None:
    shown = [proxy.book.gauges(now) for proxy in fleet]
    for index, proxy in enumerate(fleet):
        others: dict[str, int] = {}
        for gauges in shown[:index] + shown[index + 1 :]:
            for name, value in gauges.items():
                others[name] = others.get(name, 0) + value
        proxy.book.absorb(others, now)
