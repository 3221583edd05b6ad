"""Budgets as this process holds them, and their part in the exchange with the store.

Theory of operation
-------------------
Each cap of a budget has a *term* for the present window (`term.py`), one for the next as its end comes near, so that no
request waits for a lease when the window turns, and perhaps one for a window past, until all that was begun in it is
settled. Windows are told by the store's clock alone.

A request is held against all caps of all budgets that cover its target, or against none. What it was held against is
what it is settled against, whatever policy or window has come since.

How far a hard cap can be overspent, whatever the number of processes:

    always                     what an upstream charges beyond a hold: the tokens it sends between the last that was
                               covered and its being cut off, and what it counts more than the bounds of `hold.py`
    a process dies             the same, for the requests that it had in flight; what it had leased stays reserved
    the store is wiped, or     nothing: it grants nothing for `learn_ms`, while the living tell it what they hold and
    older than it was, or      what they remember of the others. What only those knew that died meanwhile is lost, and
    is another one             so is the newest grant of a process that cannot reach the store in that time
    the store is away          nothing: what is leased is spent, then hard budgets are closed. Soft ones stay open for
                               a part of their cap in each process
    the store's clock jumps    a window begins early or late by as much

Nothing here waits; `ask` tells of no more than `MAX_TERMS` terms at a time, those in need first, then the changed ones,
of which who has waited longest comes first. Who leaves tells all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import orjson

from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.standing import BudgetStanding
from proxy.meters.term import Term, window
from proxy.policy.model import Budget, Cap
from proxy.routing.readings import Fund, LeasedFunds

ESCROW = "escrow"
"""The kind under which terms are noted in a journal."""
MAX_TERMS = 200
REFRESH_S = 5.0
AHEAD_MS = 10_000
KEPT_MS = 8 * 86_400_000
UNBOUNDED = 1 << 62
UNSYNCED_PART = 10
"""While the store is away a process lets a soft budget run on for one part of its cap in so many."""


class Alert(NamedTuple):
    """A budget has passed one of its thresholds; told once in all, by the process that found it."""

    budget: str
    per: str
    percent: int
    spent_nano_usd: int
    limit_nano_usd: int


class Journal(Protocol):
    """Where terms are noted, to outlive this process: a `meters.journal.Journal`."""

    def cell(self, kind: str, name: str, width: int) -> int: ...

    def note(self, cell: int, values: Sequence[int]) -> None: ...

    def release(self, cell: int) -> None: ...


class _Left(NamedTuple):
    """A term of a dead process, and whom to tell when the store knows of it."""

    slot: str
    key: str
    values: tuple[int, ...]
    done: Callable[[], None]


class _Account:
    """One cap of one budget, over all windows."""

    __slots__ = ("_make", "budget", "cap", "next", "now", "past")

    def __init__(self, budget: Budget, cap: Cap) -> None:
        self.budget, self.cap = budget, cap
        # Until the store has told the time there is no window; what is used until then is moved to the first.
        self.now = self._term(0, None)
        self.next: Term | None = None
        self.past: list[Term] = []

    def steady(self, store_ms: int) -> bool:
        """Whether the present window holds for a while yet, and none before it is open."""
        now = self.now
        return not self.past and now.end_ms is not None and now.start_ms <= store_ms < now.end_ms - AHEAD_MS

    def turn(self, store_ms: int) -> list[Term]:
        """Follow the store's clock; the terms that are over and done with are returned."""
        start_ms, end_ms = window(self.cap.per, store_ms)
        if self.now.told_at is None and not self.now.granted and self.now.end_ms is None and end_ms is not None:
            self._open_first(start_ms, end_ms)
        elif self.now.start_ms != start_ms:
            self.past.append(self.now)
            begun = self.next is not None and self.next.start_ms == start_ms
            self.now, self.next = (self.next if begun else None) or self._term(start_ms, end_ms), None
        over = [term for term in self.past if term.idle]
        self.past = [term for term in self.past if not term.idle]
        if end_ms is not None and end_ms - store_ms < AHEAD_MS and self.next is None:
            self.next = self._term(*window(self.cap.per, end_ms))
        return over

    def change(self, budget: Budget, cap: Cap) -> None:
        """The policy says something else of it now."""
        self.budget, self.cap = budget, cap
        for term in (self.now, self.next):
            if term is not None:
                term.limit, term.alerts = cap.nano_usd, budget.alerts
                term.bind(budget.enforce)
                term.closed = False

    @property
    def matters(self) -> bool:
        """Whether a policy that names it again in this window would have to go on from here."""
        return bool(self.now.granted or self.now.used) or not all(term.idle for term in self.terms())

    def close(self) -> None:
        """The policy does not name it any more: what is free of it goes back."""
        for term in self.terms():
            term.closed = True

    def terms(self) -> tuple[Term, ...]:
        """The present one first."""
        return (self.now, *self.past) if self.next is None else (self.now, self.next, *self.past)

    def _open_first(self, start_ms: int, end_ms: int) -> None:
        first = self._term(start_ms, end_ms)
        self.now.start_ms, self.now.end_ms, self.now.key = first.start_ms, first.end_ms, first.key

    def _term(self, start_ms: int, end_ms: int | None) -> Term:
        budget, cap = self.budget, self.cap
        return Term(
            budget.name,
            cap.per,
            cap.nano_usd,
            enforce=budget.enforce,
            alerts=budget.alerts,
            start_ms=start_ms,
            end_ms=end_ms,
        )


class Escrow(LeasedFunds):
    """A part of the sync; as a mapping, what each budget has left (`readings.Funds`)."""

    name = "escrow"

    def __init__(self, on_alert: Callable[[Alert], None], journal: Journal | None = None) -> None:
        self._on_alert = on_alert
        self._journal = journal
        self._accounts: dict[str, tuple[_Account, ...]] = {}
        self._retired: list[_Account] = []
        self._asked: list[tuple[Term, int]] = []
        self._left: list[_Left] = []
        self._asked_left = 0
        self._learning = False
        # The store's time in milliseconds when this process's clock stood at zero.
        self._store_ms: int | None = None
        self._now = 0.0
        self.connected = False

    def adopt(self, budgets: Iterable[Budget]) -> None:
        """Follow a policy: caps of the same budget and window keep what they hold."""
        known = {(one.budget.name, one.cap.per): one for one in self._everyone()}
        self._accounts = {}
        for budget in budgets:
            accounts = []
            for cap in budget.caps:
                account = known.pop((budget.name, cap.per), None) or _Account(budget, cap)
                account.change(budget, cap)
                accounts.append(account)
            self._accounts[budget.name] = tuple(accounts)
        self._retired = list(known.values())
        for account in self._retired:
            account.close()

    def terms_of(self, budgets: Iterable[Budget]) -> tuple[Term, ...]:
        """What a request under `budgets` is held against now."""
        return tuple([account.now for budget in budgets for account in self._accounts.get(budget.name, ())])

    def terms_named(self, budget: str) -> tuple[Term, ...]:
        """The same of one budget."""
        return tuple([account.now for account in self._accounts.get(budget, ())])

    def standings(self, now: float) -> list[BudgetStanding]:
        """Every budget's every cap, for people."""
        return [self._standing(account, now) for accounts in self._accounts.values() for account in accounts]

    # a mapping of funds

    def __getitem__(self, name: str) -> Fund:
        accounts = self._accounts[name]
        tightest = min(accounts, key=lambda account: self._free(account.now))
        term = tightest.now
        free = self._free(term)
        return Fund(
            free_nano_usd=free,
            spent_nano_usd=term.spent,
            unlent_nano_usd=max(0, term.limit - term.outstanding) if term.hard else 0,
            held_nano_usd=max(term.outstanding - term.spent - max(0, free), term.held),
            limit_nano_usd=term.limit,
            per=term.per,
            resets_in_s=self._resets_in_s(term, self._now),
            known=self.connected or not term.hard,
        )

    def free_nano_usd(self, budget: str) -> int:
        """What the next request may set aside of it here and now."""
        accounts = self._accounts.get(budget)
        if accounts is None:
            return UNBOUNDED
        if len(accounts) == 1:
            return self._free(accounts[0].now)
        return min([self._free(account.now) for account in accounts])

    def is_ample(self, budgets: tuple[Budget, ...]) -> bool:
        """Whether all their terms could take a good many of the largest requests seen."""
        if not self.connected:
            return False
        for budget in budgets:
            for account in self._accounts.get(budget.name, ()):
                if not account.now.is_ample:
                    return False
        return True

    def at(self, now: float) -> Escrow:
        """The funds at `now`, until this is called again."""
        self._now = now
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def __len__(self) -> int:
        return len(self._accounts)

    # a part of the sync

    def ask(self, moment: Moment) -> Ask:
        """Tell what was granted, given back and used, and ask for more; with nothing to tell, ask whether it hears."""
        chosen = self._due(moment) if moment.store_ms is not None else []
        self._asked, self._asked_left = [(term, term.used) for term in chosen], len(self._left)
        entries = [*[self._entry(term, moment) for term in chosen], *map(_left_entry, self._left)]
        keys = [*[term.key for term in chosen], *[left.key for left in self._left]]
        return Ask(("members", *keys), orjson.dumps(entries))

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """Take what was granted."""
        self.connected, self._learning = True, heard.learning
        self._store_ms = heard.store_ms - int(moment.now * 1000.0)
        for (term, used), answer in zip(self._asked, reply, strict=False):
            self._answered(term, used, answer, moment.now)
        told, self._left = self._left[: self._asked_left], self._left[self._asked_left :]
        for left in told:
            left.done()

    def unheard(self, moment: Moment) -> None:
        """What was asked can be asked again: it is told in sums that only grow."""
        self.connected = False

    def adopt_left(self, slot: str, key: str, values: Sequence[int], done: Callable[[], None]) -> None:
        """What a dead process had noted of one term; what it held for requests is taken to have been used."""
        self._left.append(_Left(slot, key, tuple(values), done))

    def _due(self, moment: Moment) -> list[Term]:
        """The terms to ask about, those that changed or want something first, and the others once in a while."""
        assert moment.store_ms is not None
        urgent: list[Term] = []
        stale: list[Term] = []
        for account in self._everyone():
            self._turn(account, moment.store_ms)
            for term in account.terms():
                if term.told_at is None or term.need or term.told_used != term.used or self._learning or moment.last:
                    urgent.append(term)
                elif term.moves or moment.now - term.told_at > REFRESH_S:
                    stale.append(term)
        self._retired = [account for account in self._retired if account.matters]
        stale.sort(key=lambda term: term.told_at or 0.0)
        if moment.last:
            return urgent
        if len(urgent) > MAX_TERMS:
            urgent.sort(key=lambda term: (not term.need, term.told_at or 0.0))
        return (urgent + stale)[:MAX_TERMS]

    def _turn(self, account: _Account, store_ms: int) -> None:
        if account.steady(store_ms) and (self._journal is None or account.now.note is not None):
            return
        past = account.turn(store_ms)
        if self._journal is None:
            return
        for term in account.terms():
            if term.note is None:
                term.note = partial(self._journal.note, self._journal.cell(ESCROW, term.key, 4))
                term.tell_journal()
        for term in past:
            self._journal.release(self._journal.cell(ESCROW, term.key, 4))

    def _everyone(self) -> Iterator[_Account]:
        for accounts in self._accounts.values():
            yield from accounts
        yield from self._retired

    def _entry(self, term: Term, moment: Moment) -> dict[str, Any]:
        need, want = term.wanted(moment.now)
        if moment.last:
            term.leave()
        entry = {
            "limit": term.limit,
            "hard": term.hard,
            "granted": str(term.granted),
            "returned": str(term.returned),
            "used": str(term.used),
            "need": need,
            "want": want,
            "alerts": term.alerts,
        }
        if term.end_ms is not None:
            entry["expire_ms"] = term.end_ms + KEPT_MS
        if self._learning:
            entry["others"] = {slot: str(amount) for slot, amount in term.others.items()}
        return entry

    def _answered(self, term: Term, used: int, answer: Sequence[Any] | None, now: float) -> None:
        if answer is None:
            # Taken for dead after a day of silence: what it had leased is gone, and counted as spent.
            term.retire()
            return
        granted, spent, outstanding, starving, crossed, others = answer
        term.told(int(granted), int(spent), int(outstanding), bool(starving), used, now)
        known = dict(zip(map(_text, others[::2]), map(int, others[1::2]), strict=True))
        # A store that is learning knows less than it did; what it has forgotten is remembered until it has been told.
        term.others = _greater(term.others, known) if self._learning else known
        for percent in crossed:
            self._on_alert(Alert(term.budget, term.per, int(percent), term.spent, term.limit))

    def _free(self, term: Term) -> int:
        if term.hard or self.connected:
            return term.free
        unsynced = term.limit // UNSYNCED_PART - (term.used - term.told_used) - term.held
        return min(term.free, unsynced)

    def _resets_in_s(self, term: Term, now: float) -> float | None:
        if term.end_ms is None or self._store_ms is None:
            return None
        return max(0.0, (term.end_ms - self._store_ms) / 1000.0 - now)

    def _standing(self, account: _Account, now: float) -> BudgetStanding:
        term = account.now
        spent, outstanding = term.spent, max(term.outstanding, term.spent + term.held)
        reached = [percent for percent in term.alerts if spent * 100 >= term.limit * percent]
        return BudgetStanding(
            name=term.budget,
            per=term.per,
            limit_nano_usd=term.limit,
            spent_nano_usd=spent,
            held_nano_usd=outstanding - spent,
            free_nano_usd=term.limit - outstanding,
            enforce=account.budget.enforce,
            window_start_s=None if term.end_ms is None else term.start_ms // 1000,
            resets_in_s=self._resets_in_s(term, now),
            known=term.told_at is not None and self.connected,
            alert_percent=max(reached, default=0),
        )


def _left_entry(left: _Left) -> dict[str, Any]:
    granted, returned, used, held = left.values
    used += held
    return {
        "slot": left.slot,
        "limit": 0,
        "hard": False,
        "granted": str(granted),
        "returned": str(max(returned, granted - used)),
        "used": str(used),
        "need": 0,
        "want": 0,
        "alerts": (),
    }


def _greater(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one.keys() | other.keys()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
