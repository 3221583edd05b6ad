"""Rates of tenants, keys and routes, shared by all processes: the part of the sync that leases them.

Theory of operation
-------------------
Each limit is one bucket of L tokens that is refilled at L a minute; its state is in the store, what it holds is spread
over the processes (`lease.py`). At any time what is left in the store and all that is held is L at most, so for every
span of w seconds the admissions of all processes stay within L * w / 60 + L. A request asks nobody: it takes from
what its process holds. The sync asks for what demand will need, and the store divides the bucket by water-filling;
what nobody needs it divides equally. A process that gets less than its due has the bucket put on a list that all read,
and at the next sync the others give back what they do not need. All demand may so move to another process within a
second, and the whole limit follows it.

What a question says is what is held after giving back, and questions are numbered: one that is late changes nothing.
So a question or an answer that is lost can only lose tokens, never make some. Places (`concurrency`) are not lost
either: the free ones are those that nobody holds.

How many are admitted, of a limit of L a minute, whatever the number of processes:

    always                    L * w / 60 + L in w seconds. Tokens count when they are charged: by estimate when a
                              request is admitted, and by the difference at its end, so what is in flight may go beyond
                              by what it was underestimated, which is paid back before anything new is granted
    the store is away         the same: each process refills its leases at its share (`contact.py`) and up to its share
    some are cut off          the same, for `FORGET_S`: the store refills for those that reach it, and keeps apart what
                              the others hold and refill. After that they are forgotten, and their shares given out
                              again: should they still be there, beyond by their shares
    the store is wiped, or    the same: nothing is granted until all that live have said what they hold, or for
    another takes over        `FORGET_S` if one of them does not come; meanwhile they live by their shares. If none of
                              them comes while the store learns, but others do: beyond by what they hold
    a process dies            the same; its share and what it held are missing for `FORGET_S`, or until `bury`
    a process that has never  refills 1/`expected_members` of the limit from 1.5 s after its start, and has that part
    reached the store         of the places
    the store's clock jumps   forward: L more, once. Backward: less for as long as the last sync was ago
    places                    never more than L, but by those of a process that was forgotten, or never heard the store

A limit below the number of processes leaves some without a request of their own while the store is away.

In the store:

    bucket_peers      hash   process -> which answer it has proven to have, and its share; '' -> the clock of refills
    buckets           hash   limit -> level, and what each process holds and wants; dropped when full and held by nobody
    bucket_shortages  zset   limit -> when it was last short, for three seconds
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
import orjson

from proxy.meters.contact import Contact
from proxy.meters.lease import Kind, Lease
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.rate_headers import Headers, rate_headers
from proxy.meters.scope import PAUSE_S, Scope, Together
from proxy.meters.standing import RateStanding
from proxy.policy.model import Snapshot
from proxy.routing import limits
from proxy.routing.readings import LeasedRates, Rate, Rates

FORGET_S = 60.0
"""A process that has been silent for so long is taken for dead."""
MAX_ASKED = 500
"""Leases in one question: more would hold up the event loop, and the store."""
MAX_LOOKED_AT = 500
MAX_TOGETHER = 50_000
"""Of how many combinations of scopes the leases are kept ready."""
KEYS = ("bucket_peers", "buckets", "bucket_shortages")


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A request that was admitted; wanted back by `Buckets.settle`, exactly once."""

    together: Together
    tokens: int


class Buckets(LeasedRates):
    """A part of the sync; as a mapping, the rates at the time that `rates` was last given (`readings.Rates`).

    `expected_members` is by how many processes the limits are divided while nothing is known of the others. `clock` is
    the monotonic clock of all times given.
    """

    name = "buckets"

    def __init__(
        self,
        *,
        expected_members: int = 1,
        forget_s: float = FORGET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._contact = Contact(expected_members, clock())
        self._forget_ms = int(forget_s * 1000)
        self._scopes: dict[str, Scope] = {}
        self._together: dict[tuple[str, ...], Together] = {}
        self._leases: dict[bytes, Lease] = {}
        self._due: dict[Lease, None] = {}
        self._untold: dict[Lease, None] = {}
        self._spare: dict[Lease, None] = {}
        self._retired: dict[Lease, None] = {}
        self._asked: list[Lease] = []
        self._number = 0
        self._dead: frozenset[str] = frozenset()
        self._looked_at = 0
        self._idle: tuple[Lease, ...] = ()
        self._now = clock()

    # the policy

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow a new policy: what is leased under a limit stays leased, whatever it is now."""
        before = {lease.name.encode(): lease for lease in self._retired} | self._leases
        self._leases, self._scopes, self._retired, self._together = {}, {}, {}, {}
        for held in limits.of_policy(snapshot):
            if held.bucket not in self._scopes:
                self._scopes[held.bucket] = self._scope(held, before)
        self._retired = {lease: None for name, lease in before.items() if name not in self._leases}
        self._idle = tuple(self._leases.values())
        self._untold = {lease: None for lease in self._untold if lease not in self._retired}

    def bury(self, slots: Iterable[str]) -> None:
        """These processes are known to have died: what they held need not be kept for them."""
        self._dead |= frozenset(slots)

    def standings(self, now: float) -> tuple[RateStanding, ...]:
        """How every limit stands, for people."""
        return tuple([_standing(one.held, lease, now) for one in self._scopes.values() for lease in one.leases])

    @property
    def ready(self) -> bool:
        """Whether everything that the policy limits has been asked for."""
        return not self._untold

    # the path

    def rates(self, now: float) -> Rates:
        """What of every scope may not be used at `now`, until the next call."""
        self._now = now
        return self

    def admit(self, scopes: Iterable[str], tokens: int, now: float) -> Taken:
        """A request is served: it takes from its scopes, with the tokens that it is estimated to use."""
        together = self._joined(tuple(scopes))
        if together.optional:
            together = Together(
                [one for one in together.scopes if one.enforced or self._takes(one, tokens, now)], self._contact
            )
        together.take(tokens)
        self._due.update(together.all)
        return Taken(together, tokens)

    def settle(self, admitted: Taken, tokens: int, now: float) -> None:
        """The request has ended, having used so many tokens."""
        admitted.together.settle(admitted.tokens, tokens)
        self._due.update(admitted.together.settled)

    def missed(self, scopes: Iterable[str], tokens: int, now: float) -> None:
        """A request was refused for its rates: what it lacked is asked for."""
        for name in scopes:
            scope = self._scopes.get(name)
            for lease in () if scope is None else scope.leases:
                amount = tokens if lease.kind is Kind.TOKENS else 1
                if not lease.takes(amount, now):
                    lease.miss(amount, now)
                    self._due[lease] = None

    def headers(self, scopes: Iterable[str], now: float, *, refused_tokens: int | None = None) -> Headers:
        """`x-ratelimit-*`, of the tightest of the scopes that refuse; `refused_tokens` is the size of a request that is
        being refused.
        """
        together = self._joined(tuple(scopes))
        return rate_headers(together.told_requests, together.told_tokens, now, refused_tokens)

    # the sync

    def ask(self, moment: Moment) -> Ask | None:
        """Demand first, then what was never asked for, then what idles; at most `MAX_ASKED` at a time."""
        if not self._leases and not self._contact.members:
            return None
        now = moment.now
        self._number += 1
        self._asked = list(self._leases.values()) if moment.last else self._chosen(now)
        asks = [lease.ask(now, spare=self._spares(lease, moment)) for lease in self._asked]
        for lease in self._asked:
            self._spare.pop(lease, None)
        contact = self._contact
        question = {
            "n": self._number,
            "echo": contact.echo,
            "era": contact.era,
            "share": contact.share,
            "members": contact.members,
            "whole": not self._untold,
            "forget_ms": self._forget_ms,
            "dead": sorted(self._dead),
            "asks": asks,
        }
        return Ask(KEYS, orjson.dumps(question))

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """What was granted; and which buckets are short, so that what is not needed of them is given back next time."""
        asked, self._asked = self._asked, []
        if not reply:
            return
        era, learning, share, members, away, short, answers = reply
        if era.decode() != self._contact.era:
            self._contact.era = era.decode()
            self._untold = dict.fromkeys(self._leases.values())
        else:
            for lease in asked:
                self._untold.pop(lease, None)
        if learning:
            self._contact.learned(share)
            return
        now = self._clock()
        self._contact.answered(self._number, share, members, away=bool(away), sent_at=moment.now, now=now)
        self._dead = frozenset()
        amounts = iter(answers)
        for lease, granted, level, elsewhere in zip(asked, amounts, amounts, amounts, strict=False):
            lease.told(granted, level, elsewhere)
            if lease.active:
                self._due[lease] = None
            if not lease.held and not lease.in_use:
                self._retired.pop(lease, None)
        for name in short:
            wanted = self._leases.get(name)
            if wanted is not None and wanted.held > wanted.wanted:
                self._spare[wanted] = None

    def unheard(self, moment: Moment) -> None:
        """Nobody knows what became of the question: what it gave back is lost, what it was told of is told again."""
        self._due.update(dict.fromkeys([lease for lease in self._asked if lease.active]))
        self._asked = []

    def _chosen(self, now: float) -> list[Lease]:
        chosen: dict[Lease, None] = {}
        for source in (self._spare, self._due, self._retired, self._untold):
            chosen.update(dict.fromkeys(islice(source, MAX_ASKED)))
            if len(chosen) >= MAX_ASKED:
                break
        else:
            chosen.update(dict.fromkeys(self._lacking(now)))
        asked = list(islice(chosen, MAX_ASKED))
        for lease in asked:
            self._due.pop(lease, None)
        return asked

    def _lacking(self, now: float) -> Iterator[Lease]:
        """Of the idle, some at a time."""
        idle, first = self._idle, self._looked_at
        self._looked_at = first + MAX_LOOKED_AT if first + MAX_LOOKED_AT < len(idle) else 0
        return (lease for lease in idle[first : first + MAX_LOOKED_AT] if lease.lacks(now, PAUSE_S))

    def _spares(self, lease: Lease, moment: Moment) -> bool:
        return moment.last or lease in self._spare or lease in self._retired

    def _joined(self, scopes: tuple[str, ...]) -> Together:
        together = self._together.get(scopes)
        if together is None:
            if len(self._together) >= MAX_TOGETHER:
                self._together.clear()
            together = Together([self._scopes.get(name) for name in scopes], self._contact)
            self._together[scopes] = together
        return together

    def _takes(self, scope: Scope, tokens: int, now: float) -> bool:
        """Whether a limit that does not refuse has room; if not, it is as if it had refused."""
        fits = all(one.takes(tokens if one.kind is Kind.TOKENS else 1, now) for one in scope.leases)
        if not fits:
            self.missed((scope.held.bucket,), tokens, now)
        return fits

    def _scope(self, held: limits.Held, before: Mapping[bytes, Lease]) -> Scope:
        scope = Scope(held)
        found = (held.limits.rpm, Kind.REQUESTS), (held.limits.tpm, Kind.TOKENS), (held.limits.concurrency, Kind.PLACES)
        scope.put([self._lease(held, kind, limit, before) for limit, kind in found if limit is not None])
        return scope

    def _lease(self, held: limits.Held, kind: Kind, limit: int, before: Mapping[bytes, Lease]) -> Lease:
        name = f"{held.bucket} {kind.name.lower()}"
        lease = before.get(name.encode())
        if lease is None:
            enforced = held.manner is limits.Manner.REQUIRE
            lease = Lease(name, kind, limit, self._contact, enforced=enforced, now=self._clock())
            self._untold[lease] = None
        elif lease.limit != limit:
            lease.limit = limit
            self._due[lease] = None
        self._leases[name.encode()] = lease
        return lease

    # the mapping

    def fit(self, buckets: tuple[str, ...], tokens: int) -> bool:
        """Whether all of them have room for a request of so many tokens."""
        return self._joined(buckets).fits(tokens, self._now)

    def __getitem__(self, bucket: str) -> Rate:
        return self._scopes[bucket].rate(self._now)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scopes)

    def __len__(self) -> int:
        return len(self._scopes)


_RATES = {Kind.REQUESTS: "rpm", Kind.TOKENS: "tpm", Kind.PLACES: "concurrency"}


def _standing(held: limits.Held, lease: Lease, now: float) -> RateStanding:
    kind, _, name = held.scope.partition(":")
    return RateStanding(
        scope=f"{kind} {name}{', wanted' if held.manner is limits.Manner.WANT else ''}",
        rate=_RATES[lease.kind],
        limit=lease.limit,
        used=lease.limit - lease.left(now),
        leased=max(0, lease.free(now)),
        shadow=held.manner is limits.Manner.SHADOW,
        known=lease.level >= 0,
    )
