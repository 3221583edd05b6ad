"""How many requests and tokens were sent to every target in the last minute, and how many requests are in flight there.

Theory of operation
-------------------
This is for the limits of targets, which are their providers': what counts there is what they have seen of us, and the
pace towards it is set by their own words too. What callers may use is leased (`meters/buckets.py`).

A scope (`target:openai`) has a row of slices of one second. A request is counted when it is sent, tokens by estimate,
and settled at its end: what it used more than estimated counts from then on, what it used less is given back to the
second that it was taken from. Totals are kept while slices come and fall off, so nothing is summed and each step is
O(1) in the long run. The row covers between 60 and 61 seconds: no span of a minute ever holds more than is counted
here.

Other processes tell their totals through the sync, which are believed for as long as their requests in flight are
(`inflight.py`). A scope that has nothing in its minute and nothing in flight is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from proxy.routing.readings import Rate
from proxy.signals.inflight import OTHERS_BELIEVED_S

SLICES = 61
UNKNOWN_FREES_IN_S = 1.0
"""When to look again if all use is that of others, whose oldest request is not known here."""

_REQUESTS, _TOKENS, _IN_FLIGHT = "requests", "tokens", "in_flight"
_KINDS = {_REQUESTS: 0, _TOKENS: 1, _IN_FLIGHT: 2}
_NONE = [0, 0, 0]


class Slice:
    """What one scope used in one second; the second is of the monotonic clock."""

    __slots__ = ("requests", "second", "tokens")

    def __init__(self, second: int) -> None:
        self.second = second
        self.requests = self.tokens = 0


class Minute:
    """One scope's recent use by this process."""

    __slots__ = ("_slices", "in_flight", "requests", "tokens")

    def __init__(self) -> None:
        self._slices: deque[Slice] = deque()
        self.requests = self.tokens = self.in_flight = 0

    def turn(self, now: float) -> None:
        """Let fall off what is older than a minute."""
        oldest, slices = int(now) - SLICES + 1, self._slices
        while slices and slices[0].second < oldest:
            fallen = slices.popleft()
            self.requests -= fallen.requests
            self.tokens -= fallen.tokens

    def add(self, requests: int, tokens: int, now: float) -> Slice:
        """Count, and say where."""
        self.turn(now)
        second, slices = int(now), self._slices
        if not slices or slices[-1].second < second:
            slices.append(Slice(second))
        newest = slices[-1]
        newest.requests += requests
        newest.tokens += tokens
        self.requests += requests
        self.tokens += tokens
        return newest

    def give_back(self, tokens: int, where: Slice, now: float) -> None:
        """Tokens counted in a slice were not used after all."""
        self.turn(now)
        if self._slices and where.second >= self._slices[0].second:
            where.tokens -= tokens
            self.tokens -= tokens

    def frees_in_s(self, now: float) -> float | None:
        """When the oldest use falls off; None when there is none."""
        return self._slices[0].second + SLICES - now if self._slices else None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._slices and not self.in_flight


class Admission(msgspec.Struct, frozen=True, gc=False):
    """A request that is counted; wanted back by `RateBook.settle`, exactly once."""

    places: tuple[tuple[Minute, Slice], ...]
    tokens: int


class RateBook(Mapping[str, Rate]):
    """The rates of all scopes; as a mapping, those at the time that `at` was last given, worked out when asked for."""

    __slots__ = ("_minutes", "_now", "_others", "_others_until")

    def __init__(self) -> None:
        self._minutes: dict[str, Minute] = {}
        self._others: dict[str, list[int]] = {}
        self._others_until = 0.0
        self._now = 0.0

    def at(self, now: float) -> RateBook:
        """The rates at `now`, until this is called again."""
        self._now = now
        return self

    def admit(self, scopes: Iterable[str], tokens: int, now: float) -> Admission:
        """Count one request, with the tokens it is estimated to use."""
        places = []
        for scope in scopes:
            minute = self._minutes.get(scope)
            if minute is None:
                minute = self._minutes[scope] = Minute()
            minute.in_flight += 1
            places.append((minute, minute.add(1, tokens, now)))
        return Admission(tuple(places), tokens)

    def settle(self, admitted: Admission, tokens: int, now: float) -> None:
        """The request has ended, having used so many tokens."""
        excess = tokens - admitted.tokens
        for minute, where in admitted.places:
            minute.in_flight -= 1
            if excess > 0:
                minute.add(0, excess, now)
            elif excess:
                minute.give_back(-excess, where, now)

    def gauges(self, now: float) -> dict[str, int]:
        """This process's use for the others, by `kind:scope`; what is idle is forgotten on the way."""
        shown: dict[str, int] = {}
        for scope, minute in list(self._minutes.items()):
            minute.turn(now)
            if minute.idle:
                del self._minutes[scope]
                continue
            shown[f"{_REQUESTS}:{scope}"] = minute.requests
            shown[f"{_TOKENS}:{scope}"] = minute.tokens
            shown[f"{_IN_FLIGHT}:{scope}"] = minute.in_flight
        return shown

    def absorb(self, others: Mapping[str, int], now: float) -> None:
        """The sum of the others' gauges: a scope that is not in it is unused by them."""
        told: dict[str, list[int]] = {}
        for name, count in others.items():
            kind, _, scope = name.partition(":")
            index = _KINDS.get(kind)
            if index is not None and scope:
                told.setdefault(scope, [0, 0, 0])[index] = count
        self._others, self._others_until = told, now + OTHERS_BELIEVED_S

    def __getitem__(self, scope: str) -> Rate:
        if scope not in self._minutes and scope not in self._others:
            raise KeyError(scope)
        return self.rate(scope, self._now)

    def rate(self, scope: str, now: float) -> Rate:
        """What one scope has used up to `now`."""
        minute = self._minutes.get(scope)
        requests, tokens, in_flight = self._others.get(scope, _NONE) if now < self._others_until else _NONE
        if minute is None:
            return Rate(requests=requests, tokens=tokens, in_flight=in_flight, frees_in_s=UNKNOWN_FREES_IN_S)
        minute.turn(now)
        frees_in_s = minute.frees_in_s(now)
        return Rate(
            requests=minute.requests + requests,
            tokens=minute.tokens + tokens,
            in_flight=minute.in_flight + in_flight,
            frees_in_s=UNKNOWN_FREES_IN_S if frees_in_s is None else frees_in_s,
        )

    def share(self, scope: str, now: float) -> float:
        """This process's part of the requests that a scope has used; 1 when nobody has used it."""
        minute = self._minutes.get(scope)
        own = 0 if minute is None else minute.requests
        others = self._others.get(scope, _NONE)[0] if now < self._others_until else 0
        return own / (own + others) if own + others else 1.0

    def __iter__(self) -> Iterator[str]:
        return iter(self._minutes.keys() | self._others.keys())

    def __len__(self) -> int:
        return len(self._minutes.keys() | self._others.keys())
