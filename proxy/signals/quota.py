"""One quota of a provider: how much of it is left, and how fast that may be used.

Theory of operation
-------------------
While more than half of a quota is left everything may pass, so that a burst does. Below that, what is left is spread
over the time until the quota is whole again: R units and T seconds allow R/T units a second. That one rule suits both
kinds of provider, without knowing which it is, nor how many other proxies use the same account:

* one whose quota comes back at the end of a window: what remains is spread to its end, and n proxies together spend it
  as T^n, never to zero before the end;
* one whose quota flows back evenly, at r units a second out of a whole of L: T = (L - R) / r, so n proxies send
  n R r / (L - R) a second, which is r, all that comes in, at R = L / (n + 1): from both sides they are driven there.

R is what the newest reply told, less what was sent after that reply's own request. *Newest* goes by the order of
sending: a reply to an earlier request was counted earlier, however late it comes, and would give back what has been
spent since. T counts from the arrival of the reply, which is late rather than early. Some units are kept in reserve for
what others send meanwhile, and however little is left, one request per period is let through: it brings news. Once a
quota should be whole again it is taken to be, less what is sent from then on, until the next reply says better.

`Allowance` turns a rate into *now* or *not before*: it fills at the rate, is drawn on by what is sent, and may go into
debt, since the size of the next request is not known when its turn is given out.
"""

from __future__ import annotations

from proxy.routing.readings import Quota
from proxy.signals.quota_headers import UNITS, Told

FREE_SHARE = 0.5
RESERVE_SHARE = 0.01
BURST_S = 0.25
"""How much of its rate an allowance saves up while nobody comes."""
MIN_PERIOD_S = 0.05
_SMOOTHING = 0.1


class Allowance:
    """Permission to send, accruing at a rate that may change from one look to the next."""

    __slots__ = ("_as_of", "_drawn", "_units")

    def __init__(self) -> None:
        self._units = 0.0
        self._drawn = 0
        self._as_of = 0.0

    def free(self, now: float, sent: int) -> None:
        """Nothing holds at the moment: neither debt nor savings outlast that."""
        self._units, self._drawn, self._as_of = 0.0, sent, now

    def until(self, now: float, sent: int, rate: float, need: float = 0.0) -> float:
        """From when on the next request may be sent, 0 for at once; `sent` counts all units sent so far.

        `need` is what has to be saved up beforehand.
        """
        if not self._as_of:
            self.free(now, sent)
        filled = self._units - (sent - self._drawn) + rate * (now - self._as_of)
        self._units = min(filled, max(rate * BURST_S, need))
        self._drawn, self._as_of = sent, now
        return 0.0 if self._units >= need else now + (need - self._units) / rate


def spread(left: float, limit: float, reset_in_s: float, period_s: float, size: float) -> float | None:
    """Units a second at which to use what is `left` of `limit`; None for as many as come.

    `size` is that of a typical request in the same units, and `period_s` the time in which an empty quota fills.
    """
    if left > FREE_SHARE * limit:
        return None
    usable = left - RESERVE_SHARE * limit - size
    return max(usable / max(reset_in_s, MIN_PERIOD_S), size / period_s)


class Level:
    """A quota in one unit, as its provider last told it; `sent` is all that this process has ever sent, in that unit.

    `order` is the number of requests sent so far, by which replies are put in order.
    """

    __slots__ = (
        "_allowance",
        "_limit",
        "_order",
        "_period_s",
        "_remaining",
        "_reset_at",
        "_sent_then",
        "_size",
        "unit",
    )

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self._allowance = Allowance()
        self._limit = self._remaining = self._order = self._sent_then = 0
        self._reset_at = self._period_s = 0.0
        self._size = 1.0

    def hear(self, told: Told, sent_then: int, order: int, now: float) -> bool:
        """A reply to the request number `order`, when `sent_then` units had been sent; whether it was news."""
        if order < self._order:
            return False
        self._order, self._sent_then = order, sent_then
        # Where no limit is told, the most that has ever remained is the best guess at it.
        self._limit = told.limit or max(self._limit, told.remaining)
        self._remaining = min(told.remaining, self._limit)
        self._reset_at = now + told.reset_in_s
        self._period_s = max(self._period_s, told.reset_in_s, MIN_PERIOD_S)
        return True

    def typical(self, units: int) -> None:
        """A request of this size is sent."""
        self._size += (max(units, 1) - self._size) * _SMOOTHING

    def until(self, now: float, sent: int, order: int) -> float:
        """From when on the next request may be sent; 0 for at once."""
        if now >= self._reset_at:
            self._renew(now, sent, order)
        left = self._left(sent)
        rate = spread(left, self._limit, self._reset_at - now, self._period_s, self._size)
        if rate is None:
            self._allowance.free(now, sent)
            return 0.0
        need = self._size if left < self._size else 0.0
        return min(self._allowance.until(now, sent, rate, need), self._reset_at)

    def scarce(self, sent: int) -> bool:
        """Whether less is left than passes freely."""
        return self.share(sent) <= FREE_SHARE

    def share(self, sent: int) -> float:
        """What is left, as a share of the whole; below 0 where more was sent than was left."""
        return self._left(sent) / self._limit

    def quota(self, sent: int) -> Quota:
        """For explanations."""
        left = max(0, self._left(sent))
        return Quota(unit=UNITS[self.unit], limit=self._limit, remaining=left, reset_at=self._reset_at)

    def _left(self, sent: int) -> int:
        return self._remaining - (sent - self._sent_then)

    def _renew(self, now: float, sent: int, order: int) -> None:
        self._remaining, self._sent_then, self._order = self._limit, sent, order
        self._reset_at = now + self._period_s
