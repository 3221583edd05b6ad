"""How budgets, rates and the journal stand: what `/admin/meters` and `spillway status` show beside the report.

Theory of operation
-------------------
Values for people and dashboards; nothing is decided by them. What a budget has left is `free`: what is neither spent
nor held for requests under way. A standing that this process has not yet heard from the store has `known` false, and
its sums are only what this process knows of by itself.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from proxy.policy.model import Enforce, Per


class State(StrEnum):
    """How near the end a budget is: `alert` from its lowest alert on, `unknown` until the store has been heard."""

    OPEN = "open"
    ALERT = "alert"
    EXHAUSTED = "exhausted"
    UNKNOWN = "unknown"


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One cap of one budget in its present window. Money is nano-USD; a budget with two caps has two standings.

    `held_nano_usd` is set aside for requests under way, by every process. `window_start_s` is Unix time by the store's
    clock, None for `total`; `resets_in_s` are seconds from the report's time, None where nothing ever resets.
    `alert_percent` is the highest of the budget's alerts that the window has reached, 0 for none.
    """

    name: str
    per: Per
    limit_nano_usd: int
    spent_nano_usd: int
    held_nano_usd: int
    free_nano_usd: int
    enforce: Enforce
    window_start_s: int | None = None
    resets_in_s: float | None = None
    known: bool = True
    alert_percent: int = 0

    @property
    def state(self) -> State:
        """In a word; what is held counts as gone."""
        if not self.known:
            return State.UNKNOWN
        if self.free_nano_usd <= 0:
            return State.EXHAUSTED
        return State.ALERT if self.alert_percent else State.OPEN

    @property
    def used_share(self) -> float:
        """Spent over limit, 1.0 for a limit of nothing."""
        return self.spent_nano_usd / self.limit_nano_usd if self.limit_nano_usd else 1.0


class RateStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One limit on requests or tokens a minute, or on requests at one time, over all processes.

    `scope` says whose: `tenant bank`, `key bank/ci`, `route default`. `rate` is `rpm`, `tpm` or `concurrency`. `used`
    is over the last minute, or now; `leased` is what this process may give out by itself, None where that is not known.
    """

    scope: str
    rate: str
    limit: int
    used: int
    leased: float | None = None
    shadow: bool = False
    known: bool = True


class JournalStanding(msgspec.Struct, frozen=True, kw_only=True):
    """The file that survives a crash of this process. `waiting` are counts that the store does not have yet.

    `refused` are notes that the file had no room for, or that the disk would not take; they are in memory only.
    """

    path: str
    size_bytes: int
    max_bytes: int
    waiting: int = 0
    refused: int = 0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; `degraded` is, for each part that does not work as it should, what is wrong and since when."""

    budgets: tuple[BudgetStanding, ...] = ()
    rates: tuple[RateStanding, ...] = ()
    journal: JournalStanding | None = None
    degraded: dict[str, str] = {}


NOTHING_KNOWN = Standing()
"""What stands where nobody gives a standing."""
