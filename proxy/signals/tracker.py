"""The moving state of every target, as one worker process sees it.

Theory of operation
-------------------
The relay asks for readings, reports the beginning of each attempt and then its outcome; nothing here waits.
State belongs to a (target name, URL) and outlives the policy that named it: a reload keeps the breakers, the windows
and the counts of whatever is still there. Requests that captured the policy before keep reading and reporting by their
own targets. What `begin` returns is wanted back by `feed`, so an attempt's end always reaches the replica it began on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from proxy.policy.model import Candidate, Target
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Attempt
from proxy.routing.readings import Reading, Readings
from proxy.signals.replica import Replica

Pool = tuple[Replica, ...]
"""The replicas of one target, in the order of its URLs."""


Begun = tuple[Replica, int]
"""The replica that an attempt began on, and its breaker's generation then."""


class Tracker:
    """Readings out, outcomes in. `draw` gives numbers in [0, 1); they only jitter the length of ejections."""

    def __init__(self, targets: Iterable[Target], draw: Callable[[], float]) -> None:
        self._draw = draw
        self._replicas: dict[tuple[str, str], Replica] = {}
        self._pools: dict[int, tuple[Target, Pool]] = {}
        self.adopt(targets)

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow a new policy: known replicas keep their state, new ones start blank, idle ones without a place go."""
        self._pools = {}
        placed: set[tuple[str, str]] = set()
        for target in targets:
            pool = self._pool_of(target)
            for index, replica in enumerate(pool):
                replica.place(target, index)
            self._pools[id(target)] = (target, pool)
            placed.update((target.name, url) for url in _urls(target))
        self._replicas = {
            key: replica for key, replica in self._replicas.items() if key in placed or replica.in_flight.own > 0
        }

    def read(self, candidates: tuple[Candidate, ...], now: float) -> Readings:
        """A reading for each replica of the candidates' targets."""
        readings = {}
        for candidate in candidates:
            target = candidate.target
            readings[target.name] = self._readings(target, now)
        return readings

    def survey(self, now: float) -> Readings:
        """A reading for each replica of the current policy: for metrics and status."""
        return {target.name: self._readings(target, now) for target, _ in self._pools.values()}

    def admits(self, attempt: Attempt, now: float) -> bool:
        """Whether the breaker still lets the attempt through: ask before a fallback that was planned a while ago."""
        return self._replica(attempt).admits(now)

    def begin(self, attempt: Attempt, now: float) -> Begun:
        """The attempt starts: it counts as in flight until its outcome is fed, exactly once."""
        replica = self._replica(attempt)
        return replica, replica.begin(now)

    def feed(self, begun: Begun, outcome: Outcome, now: float) -> None:
        """The attempt that `begin` returned `begun` for has ended."""
        replica, generation = begun
        replica.end(outcome, generation, now)

    def gauges(self) -> dict[str, int]:
        """This process's requests in flight by `target/replica`, for the other workers."""
        return {_key(replica): replica.in_flight.own for _, pool in self._pools.values() for replica in pool}

    def absorb(self, others: Mapping[str, int], now: float) -> None:
        """The sum of the other workers' gauges; a replica that is not in it has none. Believed for five seconds."""
        for _, pool in self._pools.values():
            for replica in pool:
                replica.in_flight.absorb(others.get(_key(replica), 0), now)
                replica.fresh_until = 0.0

    def _readings(self, target: Target, now: float) -> tuple[Reading, ...]:
        known = self._pools.get(id(target))
        if known is not None:
            return tuple([replica.read(now) for replica in known[1]])
        readings = [replica.read(now) for replica in self._pool_of(target)]
        return tuple(msgspec.structs.replace(reading, replica=index) for index, reading in enumerate(readings))

    def _replica(self, attempt: Attempt) -> Replica:
        known = self._pools.get(id(attempt.target))
        pool = known[1] if known is not None else self._pool_of(attempt.target)
        return pool[attempt.replica]

    def _pool_of(self, target: Target) -> Pool:
        """The replicas of a target of any policy, by name and URL."""
        return tuple(self._at(target, index, url) for index, url in enumerate(_urls(target)))

    def _at(self, target: Target, index: int, url: str) -> Replica:
        replica = self._replicas.get((target.name, url))
        if replica is None:
            replica = self._replicas[target.name, url] = Replica(target, index, self._draw)
        return replica


def _urls(target: Target) -> tuple[str, ...]:
    """A target that LiteLLM reaches by provider name has no URL, and still one replica."""
    return target.urls or ("",)


def _key(replica: Replica) -> str:
    return f"{replica.target}/{replica.index}"
