"""One window of one cap of a budget, as one process holds it: pure arithmetic of leases.

Theory of operation
-------------------
The store grants each process parts of a cap, and never more than the cap in all. What a process was granted, what it
gave back and what it has used only grow, and only that process writes them; so they can be told to the store again and
again, and merge by the greater. At any time

    granted = returned + used + held + free

where `held` is set aside for requests in flight. Only `free` may be set aside, so nothing is spent that was not granted
but what an upstream charges beyond its hold; that makes `free` negative, a debt, which the next grants pay first.

How much to ask for: what some seconds of requests have lately set aside, and room for two of the largest. The store
gives ever smaller parts as the cap is used up, and what is not needed at once goes back as soon as somebody starves.

Sources: escrow (O'Neil 1986), bounded counters (Balegas et al., arXiv 1503.09052), interim grants for sessions of
unknown length (RFC 8506, Diameter Credit-Control).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from proxy.policy.model import Enforce, Per

AHEAD_S = 8.0
"""How long a process means to last with what it has, so that a store that stalls for some seconds is not felt."""
SCARCE_AHEAD_S = 1.0
"""The same once somebody starves."""
AMPLE = 8
NOTED_AHEAD = 8
"""How many of the largest requests a note in the journal leaves room for, up to a thousandth of the cap."""
IDLE_S = 1.0
RATE_HALF_LIFE_S = 1.0
IDLE_PART = 100
IDLE_NANO_USD = 250_000_000
"""What a process keeps of a cap, so that its next request need not wait for a grant: one part in so many, or if that is
less, so much or a half."""


class Term:
    """See the module's text. Money is nano-USD; times are seconds on the monotonic clock unless they say `_ms`."""

    __slots__ = (
        "_asked_at",
        "_ceiling",
        "_committed",
        "_drawn_at",
        "_largest",
        "_rate",
        "alerts",
        "binding",
        "budget",
        "closed",
        "end_ms",
        "granted",
        "hard",
        "held",
        "key",
        "limit",
        "need",
        "note",
        "others",
        "outstanding",
        "per",
        "refused",
        "returned",
        "spent_by_others",
        "start_ms",
        "starving",
        "told_at",
        "told_used",
        "used",
    )

    def __init__(
        self,
        budget: str,
        per: Per,
        limit: int,
        *,
        enforce: Enforce,
        alerts: tuple[int, ...],
        start_ms: int,
        end_ms: int | None,
    ) -> None:
        self.budget, self.per, self.limit, self.alerts = budget, per, limit, alerts
        self.bind(enforce)
        self.start_ms, self.end_ms = start_ms, end_ms
        self.key = f"budget:{budget}:{per}:{start_ms // 1000}"
        self.granted = self.returned = self.used = self.held = 0
        self.need = 0
        self.outstanding = self.spent_by_others = 0
        self.others: Mapping[str, int] = {}
        self.starving = self.refused = self.closed = False
        self.told_at: float | None = None
        self.told_used = 0
        self.note: Callable[[tuple[int, int, int, int]], None] | None = None
        self._ceiling = -1
        self._rate = 0.0
        self._largest = 0
        self._committed = 0
        self._asked_at: float | None = None
        self._drawn_at = -math.inf

    def bind(self, enforce: Enforce) -> None:
        """Whether it may be overspent, and whether it refuses at all."""
        self.hard, self.binding = enforce is Enforce.HARD, enforce is not Enforce.SHADOW

    @property
    def free(self) -> int:
        """What may be set aside here and now."""
        if self.hard:
            return self.granted - self.returned - self.used - self.held
        return self.limit - self.spent_by_others - self.used - self.held

    @property
    def is_ample(self) -> bool:
        """Whether a good many of the largest requests seen would be free."""
        return self.free > AMPLE * self._largest > 0

    @property
    def spent(self) -> int:
        """What all processes have used, the others as of the last answer."""
        return self.spent_by_others + self.used

    @property
    def moves(self) -> bool:
        """Whether there may be something to ask for or to give back."""
        if self.closed:
            return self.hard and self.free > 0
        return self.hard and (self._rate > 0.0 or self.starving or self.free < self._floor // 2)

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to tell: all is settled, and the store knows."""
        return not self.held and self.told_used == self.used and self.told_at is not None

    def set_aside(self, amount: int, now: float, *, begun: bool) -> bool:
        """Hold `amount` more, if it is free; if not, remember that it was wanted.

        A soft cap is asked before an attempt has begun and not after; one in shadow never says no.
        """
        self._drawn_at = now
        self._largest = max(self._largest, amount)
        free = self.free
        if amount > free and (self.hard or (self.binding and not begun)):
            self.refused = True
            self.lack(amount)
            return False
        self.refused = False
        self.held += amount
        self._noted()
        return True

    def lack(self, amount: int) -> None:
        """A request was refused for want of this much: the next of its kind shall have it."""
        self._largest = max(self._largest, amount)
        self.need = max(self.need, amount - max(self.free, 0))

    def wish(self, amount: int) -> None:
        """A request made do with less than this; the next of its kind shall not have to."""
        self._largest = max(self._largest, amount)

    def release(self, amount: int) -> None:
        """Hold `amount` less."""
        self.held -= amount
        self._noted()

    def settle(self, held: int, used: int) -> None:
        """A request that held so much has used so much."""
        self.held -= held
        self.used += used
        self._noted()

    def wanted(self, now: float) -> tuple[int, int]:
        """(the least that helps, what would be welcome) of a grant; what is too much is given back first."""
        self._observe(now)
        if self.closed:
            self.leave()
            return max(0, -self.free), 0
        enough = max(self._busy(AHEAD_S), self._floor)
        self._give_back(enough, now)
        need = max(self.need, -self.free)
        self.need = 0
        welcome = enough - self.free if 2 * self.free < enough or need else 0
        return need, max(need, welcome)

    def leave(self) -> None:
        """What is not used is nobody's any more: this process goes, or the policy has forgotten the budget."""
        self.returned += max(0, self.free if self.hard else 0)

    def retire(self) -> None:
        """The store has closed this process's account: nothing of it can be spent any more."""
        self.returned, self.told_used = self.granted, self.used

    def told(self, granted: int, spent: int, outstanding: int, starving: bool, used: int, now: float) -> None:
        """The store's answer to a question that said `used`."""
        # A grant whose answer was lost is found here.
        self.granted = max(self.granted, granted)
        self.spent_by_others = max(0, spent - used)
        self.outstanding = outstanding
        self.starving = starving
        self.told_used, self.told_at = used, now
        self.tell_journal()

    def _noted(self) -> None:
        if self.used + self.held > self._ceiling:
            self.tell_journal()

    def tell_journal(self) -> None:
        """Note what a crash would leave behind: what was used, and what is held at most until the next note.

        That there is some room in it spares most requests a note of their own.
        """
        if self.note is not None:
            self._ceiling = self.used + self.held + min(NOTED_AHEAD * self._largest, self.limit // 1000)
            self.note((self.granted, self.returned, self.used, self._ceiling - self.used))

    def _observe(self, now: float) -> None:
        committed = self.used + self.held
        if self._asked_at is not None and now > self._asked_at:
            elapsed_s = now - self._asked_at
            kept = 0.5 ** (elapsed_s / RATE_HALF_LIFE_S)
            rate = max(0, committed - self._committed) / elapsed_s
            self._rate = max(rate, kept * self._rate)
            self._largest = int(self._largest * max(kept, 0.98))
        self._committed, self._asked_at = committed, now

    @property
    def _floor(self) -> int:
        return max(self.limit // IDLE_PART, min(self.limit // 2, IDLE_NANO_USD))

    def _busy(self, ahead_s: float) -> int:
        return int(self._rate * ahead_s) + 2 * self._largest

    def _give_back(self, enough: int, now: float) -> None:
        if not self.hard or self.free <= 0:
            return
        if not self.starving:
            keep = 2 * enough
        elif now - self._drawn_at > IDLE_S:
            keep = 0
        else:
            keep = self._busy(SCARCE_AHEAD_S)
        self.returned += max(0, self.free - keep)


def window(per: Per, at_ms: int) -> tuple[int, int | None]:
    """When the window that holds `at_ms` begins and ends, in Unix milliseconds; `total` begins at 0 and never ends."""
    if per is Per.TOTAL:
        return 0, None
    at = datetime.fromtimestamp(at_ms // 1000, UTC).replace(minute=0, second=0, microsecond=0)
    if per is Per.HOUR:
        return _ms(at), _ms(at + timedelta(hours=1))
    at = at.replace(hour=0)
    if per is Per.DAY:
        return _ms(at), _ms(at + timedelta(days=1))
    if per is Per.WEEK:
        at -= timedelta(days=at.weekday())
        return _ms(at), _ms(at + timedelta(days=7))
    at = at.replace(day=1)
    return _ms(at), _ms((at + timedelta(days=32)).replace(day=1))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000
