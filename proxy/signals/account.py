"""What the replicas of one target have in common: a provider's account, or the limits that a policy sets for a target.

Theory of operation
-------------------
Every attempt is counted when it begins, with the tokens it is estimated to use; the head of its reply may bring news of
the provider's quota or its refusal, long before a stream ends; and its end settles the tokens. A dedicated target
without limits has no account: its engine's own word is enough. Providers tell of their quotas always or never, so of
one that has not told in `PATIENCE` replies only every so-manieth is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from proxy.policy.model import Lane, Target
from proxy.routing.facts import Facts
from proxy.routing.limits import estimated_tokens
from proxy.routing.outcome import Outcome
from proxy.routing.readings import Quota
from proxy.signals.ceiling import Use
from proxy.signals.pace import Mark, Pace
from proxy.signals.quota_headers import read
from proxy.signals.rates import Admission, RateBook

TOO_MANY_REQUESTS = 429
PATIENCE = 8
Headers = Iterable[tuple[bytes, bytes]]


def needs_account(target: Target) -> bool:
    """Whether anything may have to hold the target back but its engine."""
    return target.lane is Lane.SHARED or bool(target.limits)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One attempt in an account's books."""

    mark: Mark
    admitted: Admission | None


class Account:
    """One target's, over all of its replicas; `book` is where use is counted for the policy's limits."""

    __slots__ = ("_book", "_limited", "_pace", "_provider", "_scope", "_silent")

    def __init__(self, target: Target, book: RateBook) -> None:
        self._book = book
        self._scope = f"target:{target.name}"
        self._pace = Pace()
        self._silent = 0
        self.follow(target)

    def follow(self, target: Target) -> None:
        """Take over what the policy says of the target; what was learned stays."""
        self._limited = bool(target.limits)
        self._pace.limit(target.limits)
        self._provider = target.lane is Lane.SHARED

    def read(self, now: float) -> tuple[float, Quota | None]:
        """From when on the next request may be sent, 0 for at once, and the quota that is closest to its end."""
        if not self._limited:
            return self._pace.until(now)
        book, scope = self._book, self._scope
        return self._pace.until(now, Use(book.rate(scope, now), book.share(scope, now), now))

    def begin(self, facts: Facts, now: float) -> Entry:
        """An attempt is sent."""
        input_tokens, tokens = facts.input_tokens, estimated_tokens(facts)
        admitted = self._book.admit((self._scope,), tokens, now) if self._limited else None
        return Entry(self._pace.begin(input_tokens, tokens - input_tokens, now), admitted)

    def listens(self) -> bool:
        """Whether to look at the head of the next reply; to be asked once per attempt."""
        if not self._provider:
            return False
        if self._silent < PATIENCE or self._pace.throttled:
            return True
        self._silent += 1
        return self._silent % PATIENCE == 0

    def hear(self, entry: Entry, status: int, headers: Headers, now: float, wall_time: float) -> bool:
        """The head of a reply; whether it brought news."""
        told = read(headers, wall_time)
        if told:
            self._silent = 0
            self._pace.hear(told, entry.mark, now)
        else:
            self._silent += 1
        if status == TOO_MANY_REQUESTS:
            self._pace.turned_away(entry.mark, now)
            return True
        self._pace.accepted(entry.mark)
        return bool(told)

    def end(self, entry: Entry, outcome: Outcome, now: float) -> None:
        """The attempt has ended."""
        if entry.admitted is not None:
            usage = outcome.usage
            self._book.settle(entry.admitted, usage.input_tokens + usage.output_tokens, now)
        if outcome.status == TOO_MANY_REQUESTS and self._provider:
            self._pace.turned_away(entry.mark, now)
