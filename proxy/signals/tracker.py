"""The moving state of every target, as one worker process sees it.

Theory of operation
-------------------
The relay asks for readings, reports the beginning of each attempt, the head of its reply and then its outcome; nothing
here waits.
State belongs to a (target name, URL) and outlives the policy that named it: a reload keeps the breakers, the windows
and the counts of whatever is still there. Requests that captured the policy before keep reading and reporting by their
own targets. What `begin` returns is wanted back by `feed`, so an attempt's end always reaches the replica it began on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from proxy.policy.discovery import replica_key
from proxy.policy.model import Candidate, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Attempt, Refusal
from proxy.routing.readings import Breaker, Outlook, Reading, Readings
from proxy.routing.wanted import Wanted
from proxy.signals.account import Account, Entry, Headers, needs_account
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.outlook import OutlookBook, Sent
from proxy.signals.prefix_index import BLOCK_TOKENS
from proxy.signals.rates import RateBook
from proxy.signals.replica import Replica, Transitions
from proxy.signals.workload import Job, job_of

Pool = tuple[Replica, ...]
"""The replicas of one target, in the order of its URLs."""


class Begun(msgspec.Struct, frozen=True, gc=False):
    """An attempt under way: of which request, on which replica, the breaker's generation at its beginning, its place in
    the books, its work and what its replica was taken to have cached, where these are kept.
    """

    facts: Facts
    replica: Replica
    generation: int
    entry: Entry | None
    job: Job | None
    sent: Sent | None


class Tracker:
    """Readings out, outcomes in. `draw` gives numbers in [0, 1); they only jitter the length of ejections."""

    def __init__(
        self, targets: Iterable[Target], draw: Callable[[], float], *, block_tokens: int = BLOCK_TOKENS
    ) -> None:
        self._draw = draw
        self.transitions: Transitions = Counter()
        """Of the breakers of all replicas that there have been, since this process began."""
        targets = tuple(targets)
        self._outlooks = OutlookBook(targets, block_tokens=block_tokens)
        self._book = RateBook()
        self._accounts: dict[str, Account] = {}
        self._replicas: dict[tuple[str, str], Replica] = {}
        self._pools: dict[int, tuple[Target, Pool]] = {}
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target], now: float | None = None) -> None:
        """Follow a new policy: known replicas keep their state, new ones start blank, idle ones without a place go.

        At `now`, unless it is this process that is new, new replicas have just appeared.
        """
        targets = tuple(targets)
        self._outlooks.adopt(targets)
        self._pools = {}
        before = frozenset(self._replicas)
        placed: set[tuple[str, str]] = set()
        for target in targets:
            pool = self._pool_of(target)
            account = self._account_of(target)
            if account is not None:
                account.follow(target)
            for index, replica in enumerate(pool):
                replica.place(target, index, account)
            self._pools[id(target)] = (target, pool)
            placed.update((target.name, url) for url in target.addresses)
        self._replicas = {
            key: replica for key, replica in self._replicas.items() if key in placed or replica.in_flight.own > 0
        }
        if now is not None:
            for key in self._replicas.keys() - before:
                self._replicas[key].appeared(now)
        known = {name for name, _ in self._replicas}
        self._accounts = {name: account for name, account in self._accounts.items() if name in known}

    def read(self, candidates: tuple[Candidate, ...], now: float) -> Readings:
        """A reading for each replica of the candidates' targets."""
        readings = {}
        for candidate in candidates:
            target = candidate.target
            readings[target.name] = self._readings(target, now)
        return readings

    def outlook(self, facts: Facts, candidates: tuple[Candidate, ...], readings: Readings, now: float) -> Outlook:
        """What is expected of a request that may be sent to any of the candidates."""
        return self._outlooks.outlook(facts, candidates, now, readings)

    def answer_tokens(self, facts: Facts) -> float | None:
        """How long the answer to a request is expected to get, by its app's latest; None while nobody knows."""
        return self._outlooks.lengths.expected(facts)

    def wanted(self, wanted: Wanted, now: float) -> None:
        """A request asks for engine time, whether or not it gets any."""
        self._outlooks.wanted(wanted, now)

    def survey(self, now: float) -> Readings:
        """A reading for each replica of the current policy: for metrics and status."""
        return {target.name: self._readings(target, now) for target, _ in self._pools.values()}

    def admits(self, attempt: Attempt, now: float) -> bool:
        """Whether breaker and pace still let the attempt through: ask if it was planned a while ago."""
        return self._replica(attempt).admits(now)

    def begin(self, attempt: Attempt, facts: Facts, now: float) -> Begun:
        """The attempt starts: it counts as in flight until its outcome is fed, exactly once."""
        replica = self._replica(attempt)
        account, work = replica.account, replica.work
        job = None
        if work is not None:
            job = job_of(facts, attempt.estimate)
            work.begin(job, now, shows_first=facts.stream)
        generation, sent = replica.begin(now), self._outlooks.sent(attempt, facts, now)
        return Begun(facts, replica, generation, None if account is None else account.begin(facts, now), job, sent)

    def first(self, begun: Begun, now: float) -> None:
        """The first content of a stream has come."""
        if begun.job is not None:
            begun.replica.first(begun.job, now)

    def listens(self, begun: Begun) -> bool:
        """Whether the head of the reply is of interest; to be asked once."""
        account = begun.replica.account
        return account is not None and account.listens()

    def hear(self, begun: Begun, status: int, headers: Headers, now: float, wall_time: float) -> None:
        """The head of the reply; header names are in lower case, `wall_time` is Unix time."""
        account, entry = begun.replica.account, begun.entry
        if account is not None and entry is not None and account.hear(entry, status, headers, now, wall_time):
            begun.replica.fresh_until = 0.0

    def feed(self, begun: Begun, outcome: Outcome, now: float) -> None:
        """The attempt that `begin` returned `begun` for has ended."""
        replica, entry = begun.replica, begun.entry
        if replica.account is not None and entry is not None:
            replica.account.end(entry, outcome, now)
        if replica.work is not None and begun.job is not None:
            replica.work.conclude(begun.job, outcome, now)
        replica.end(outcome, begun.generation, now)
        self._outlooks.done(begun.sent, begun.facts, outcome, now)

    def refused(self, refusal: Refusal, now: float) -> None:
        """Nobody could serve a request: whoever is out of rotation is needed back."""
        ejected = {one.target for one in refusal.excluded if one.rule == "breaker"}
        for target, pool in self._pools.values() if ejected else ():
            if target.name in ejected:
                for replica in pool:
                    replica.needed(now)

    def found(self, target: str, url: str, now: float, *, present: bool) -> None:
        """Somebody has asked after a replica that slept, and it is there; or it is not."""
        replica = self._replicas.get((target, url))
        if replica is None:
            return
        if not present:
            replica.absent(now)
        elif replica.breaker.phase is not Breaker.CLOSED:
            replica.appeared(now)
            self._outlooks.forget(target, replica.index)

    def heard(self, target: str, url: str, reading: EngineReading) -> None:
        """What the engine of a replica says of itself, just now."""
        replica = self._replicas.get((target, url))
        if replica is not None and replica.work is not None:
            replica.work.heard(reading, reading.as_of)
            replica.fresh_until = 0.0

    def gauges(self, now: float) -> dict[str, int]:
        """For the other workers: requests in flight by replica, their work, and what was used of limits."""
        told = self._book.gauges(now)
        for _, pool in self._pools.values():
            for replica in pool:
                key = replica.key
                told[key] = replica.in_flight.own
                if replica.work is not None:
                    told.update(replica.work.gauges(key, now))
        return told

    def absorb(self, others: Mapping[str, int], now: float) -> None:
        """The sum of the other workers' gauges; a replica that is not in it has none. Believed for five seconds."""
        self._book.absorb(others, now)
        for _, pool in self._pools.values():
            for replica in pool:
                key = replica.key
                replica.in_flight.absorb(others.get(key, 0), now)
                if replica.work is not None:
                    replica.work.absorb(key, others, now)
                replica.fresh_until = 0.0

    def _readings(self, target: Target, now: float) -> tuple[Reading, ...]:
        known = self._pools.get(id(target))
        if known is not None:
            # Of many replicas few have changed since the last request: 0.05 us less for each that has not.
            return tuple([one.reading if now < one.fresh_until else one.read(now) for one in known[1]])
        readings = [replica.read(now) for replica in self._pool_of(target)]
        return tuple(msgspec.structs.replace(reading, replica=index) for index, reading in enumerate(readings))

    def _replica(self, attempt: Attempt) -> Replica:
        known = self._pools.get(id(attempt.target))
        pool = known[1] if known is not None else self._pool_of(attempt.target)
        return pool[attempt.replica]

    def _pool_of(self, target: Target) -> Pool:
        """The replicas of a target of any policy, by name and URL."""
        return tuple(self._at(target, index, url) for index, url in enumerate(target.addresses))

    def _at(self, target: Target, index: int, url: str) -> Replica:
        replica = self._replicas.get((target.name, url))
        if replica is None:
            account = self._account_of(target)
            replica = self._replicas[target.name, url] = Replica(
                target, index, self._draw, account, replica_key(target.name, url), self.transitions
            )
        return replica

    def _account_of(self, target: Target) -> Account | None:
        if not needs_account(target):
            return None
        account = self._accounts.get(target.name)
        if account is None:
            account = self._accounts[target.name] = Account(target, self._book)
        return account
