"""One limit as this process sees it: what it may use of the bucket, without asking anybody.

Theory of operation
-------------------
A lease is whole tokens (requests, tokens of text, places) that the store has handed out and counts as gone. A request
takes from what is held; the rest of the arithmetic is about asking for the right amount. What was used and what was
missed since the last question is a demand; its peak is remembered, and falls by half in a second. Wanted is what the
demand needs for three syncs, and the largest request that was turned away of late.

Held may be negative: a request that used more than was estimated leaves a debt. The next question hands it to the
store, where all processes pay it back before anything new is granted. What a request did not use goes back by the same
way, because only the store knows whether the bucket has been refilled meanwhile.

While the store is away the lease refills itself, at the process's share and up to its share of the bucket
(`contact.py`). Places are not refilled: a request in flight keeps its place whatever happens.
"""

from __future__ import annotations

from enum import IntEnum
from math import ceil, floor

from proxy.meters.contact import WHOLE, Contact

MINUTE_S = 60.0
AHEAD_S = 0.6
"""For how long a lease is to last: three syncs."""
DEMAND_HALVES_IN_S = 1.0
KEPT = 8
"""Of what is given back, one part in so many is kept until the store has divided it."""
NOTHING = 0.05
"""Tokens a second; a demand below that is none."""


class Kind(IntEnum):
    """What is limited; the numbers are those of `lua/buckets.lua`."""

    REQUESTS = 0
    TOKENS = 1
    PLACES = 2


class Lease:
    """One bucket of `limit` tokens a minute, or places. Amounts are whole tokens, but while the store is away.

    `enforced` says that requests are refused for want of tokens; if not, a request beyond the limit takes none.
    """

    __slots__ = (
        "_alone_s",
        "_asked_at",
        "_book",
        "_contact",
        "_debt",
        "_demand",
        "_leaked_s",
        "_missed",
        "_outage",
        "_peak",
        "_peak_at",
        "_refund",
        "_used",
        "elsewhere",
        "enforced",
        "held",
        "in_use",
        "kind",
        "level",
        "limit",
        "name",
        "stated",
        "wanted",
    )

    def __init__(self, name: str, kind: Kind, limit: int, contact: Contact, *, enforced: bool, now: float) -> None:
        self.name, self.kind, self.limit, self.enforced = name, kind, limit, enforced
        self._contact = contact
        self.held = 0.0
        self.in_use = 0
        self.level = -1
        """What the store had left when it last answered, and `elsewhere` what others held; -1 before the first time."""
        self.elsewhere = 0
        self.wanted = 0
        """What was last asked for, and `stated` what was then held."""
        self.stated = 0
        self._book = 0
        self._debt = self._refund = 0
        self._used = self._missed = self._peak = 0
        self._peak_at = self._asked_at = now
        self._demand = 0.0
        self._leaked_s = contact.leaked_s(now)
        self._alone_s = 0.0
        self._outage = contact.outage

    # the path

    def free(self, now: float) -> int:
        """What the next request may take; negative while there is a debt."""
        if self.kind is Kind.PLACES:
            return self._places(now) - self.in_use
        self.turn(now)
        return floor(self.held)

    def takes(self, amount: int, now: float) -> bool:
        """Whether a request of that size may pass: one larger than the bucket, when it holds all there can be."""
        return self.free(now) >= min(amount, self.full)

    @property
    def full(self) -> int:
        """All that this process can ever hold, or what passes for it: alone, its share of the tokens is enough for a
        request that is larger.
        """
        alone = self.kind is Kind.TOKENS and self._alone_s > 0.0
        return max(1, self.limit * self._contact.share // WHOLE) if alone else self.limit

    def used(self, now: float) -> int:
        """What is not free: none when as much is free as ever can be."""
        free = self.free(now)
        return 0 if free >= self.full else self.limit - free

    def movable(self, used: int) -> int:
        """How much of what counts as `used` is in truth left in the store, or held by others, as last heard."""
        return min(used, max(0, self.level) + self.elsewhere)

    def left(self, now: float) -> int:
        """What all processes together may still use, as far as this one knows."""
        if self.kind is Kind.PLACES:
            left = max(0, self._places(now) - self.in_use)
            return left if self.level < 0 else min(self.limit, left + self.level + self.elsewhere)
        contact = self._contact
        if now >= contact.calm_until or contact.outage != self._outage:
            self.turn(now)
        left = int(self.held) if self.held > 0.0 else 0
        if self.level < 0:
            return left
        left += self.level + self.elsewhere + int(self.limit * (now - self._asked_at) / MINUTE_S)
        return min(self.limit, left)

    def take(self, amount: int) -> None:
        """A request is admitted."""
        self._used += amount
        if self.kind is Kind.PLACES:
            self.in_use += amount
        else:
            self.held -= amount

    def miss(self, amount: int, now: float) -> None:
        """A request was not admitted, for want of this."""
        self._missed += amount
        if amount >= self._peak:
            self._peak, self._peak_at = amount, now

    def settle(self, taken: int, used: int) -> None:
        """A request has ended that took so much, and used so much."""
        if self.kind is Kind.PLACES:
            self.in_use -= taken
        elif used > taken:
            self.held -= used - taken
        elif self._alone_s:
            self.held = max(self.held, min(self.held + taken - used, self._share))
        else:
            self._refund += taken - used

    def turn(self, now: float) -> None:
        """Let leak and refill what time has leaked and refilled."""
        contact = self._contact
        if now < contact.calm_until and contact.outage == self._outage:
            return
        share = contact.share / WHOLE
        per_s = self.limit * share / MINUTE_S
        leaked_s = contact.leaked_s(now)
        if leaked_s > self._leaked_s:
            excess = self.held - self._share
            if excess > 0.0:
                self.held -= min(excess, (self.limit / MINUTE_S - per_s) * (leaked_s - self._leaked_s))
            self._leaked_s = leaked_s
        if contact.outage != self._outage:
            self._begin_contact()
        alone_s = contact.alone_s(now)
        if alone_s > self._alone_s:
            if self.held < self._share:
                self.held = min(self._share, self.held + per_s * (alone_s - self._alone_s))
            self._alone_s = alone_s

    # the sync

    @property
    def active(self) -> bool:
        """Whether there is anything to tell the store."""
        return bool(self._used or self._missed or self.wanted or self._refund or self.held < 0.0)

    def lacks(self, now: float, pause_s: float) -> bool:
        """Whether it is time to ask for the part of an idle bucket that is this process's."""
        return self.held < max(1, floor(self._share)) and now - self._asked_at >= pause_s

    def ask(self, now: float, *, spare: bool) -> tuple[str, int, int, int, int, int, int]:
        """The question: name, kind, limit, held, given back, wanted, and the level last seen. `spare` gives back what
        is not wanted; while there is any demand a little stays, for requests to meet while the answer is on its way.
        What is given back is gone from here, whatever becomes of the question.
        """
        wanted = min(self.limit, self._want(now))
        kept = wanted
        if self._demand:
            kept = max(wanted, floor(self.held) // KEPT if self.held >= KEPT else int(self.held > 1.0))
        if self.kind is Kind.PLACES:
            # Places that were taken while the store had forgotten this process are held all the same.
            self.held = float(max(self._places(now), self.in_use))
            if spare:
                self.held = min(self.held, float(max(kept, self.in_use)))
        else:
            self.turn(now)
        held = max(0, floor(self.held))
        returned = 0
        if self.kind is not Kind.PLACES and not self._alone_s:
            returned = max(0, held - kept) if spare else 0
            self.held -= returned
            held -= returned
            returned += self._refund
            self._refund = 0
        self._debt = max(0, -floor(self.held))
        self.wanted, self.stated, self._book = wanted, held, held
        self._asked_at = now
        return self.name, int(self.kind), self.limit, held, returned - self._debt, wanted, self.level

    def told(self, granted: int, level: int, elsewhere: int) -> None:
        """The answer to the last question; what was spent meanwhile was spent of what had been stated."""
        self._alone_s = 0.0
        self.held = min(self.held + self._debt, float(self.stated)) + granted
        self._debt = 0
        self._book = self.stated + granted
        self.level, self.elsewhere = level, elsewhere

    @property
    def _share(self) -> float:
        return self.limit * self._contact.share / WHOLE

    def _begin_contact(self) -> None:
        """The store has answered since: what was refilled here without its knowledge is given up."""
        if self._alone_s:
            self.held = min(self.held, float(self._book))
        self._outage, self._alone_s = self._contact.outage, 0.0

    def _places(self, now: float) -> int:
        """A process that has never heard the store has its share of the places, as soon as it is on its own."""
        if not self._contact.members and self._contact.alone_s(now):
            return max(int(self.held), self.limit * self._contact.share // WHOLE)
        return int(self.held)

    def _want(self, now: float) -> int:
        """Forget, on the way, what was used and missed up to now."""
        elapsed_s = max(now - self._asked_at, 1e-3)
        self._demand *= 0.5 ** (elapsed_s / DEMAND_HALVES_IN_S)
        self._demand = max(self._demand, (self._used + self._missed) / max(elapsed_s, 0.1))
        self._used = self._missed = 0
        if self._demand < NOTHING * (1.0 if self.kind is not Kind.TOKENS else 10.0):
            self._demand = 0.0
        if now - self._peak_at > 2.0 * DEMAND_HALVES_IN_S:
            self._peak = 0
        return ceil(self._demand * AHEAD_S) + min(self._peak, self.limit) + self.in_use
