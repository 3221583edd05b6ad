"""Whether a replica can take one more request now, and in which words to say that it cannot.

Theory of operation
-------------------
Four things stop a lawful replica: its breaker is open, its engine said a moment ago that it is full, its provider's
quota is nearly used up and has to be paced, or it has no room. The first three are facts; *room* is a judgement by
count: the only one of a replica whose work nobody knows, and a bound that a policy may set for any other, which
`place.py` judges by what it predicts. It stands behind the `Room` protocol, so that a replay can hold the rules of
others beside it. Nothing is formatted while a replica is able: this runs for every replica of every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.policy.model import Lane, Target
from proxy.routing.facts import Facts
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Breaker, Reading

DEFAULT_MAX_IN_FLIGHT = 256
"""Per dedicated replica whose work nobody knows, when the policy sets none: the batch that vLLM's own `--max-num-seqs`
has long defaulted to.
"""

RETRY_AFTER_S = 1.0
"""What a refused caller is told when nothing says when room will come: a decode of a few hundred tokens ends sooner."""

MIN_RETRY_AFTER_S = 0.25
MAX_RETRY_AFTER_S = 60.0

_OPEN = Breaker.OPEN
"""For what is asked of every replica: CPython 3.11 takes 45 ns to find a member of an enum, and 9 to find a global."""


class Room(Protocol):
    """Decides whether a replica has room for one more request. Implementations are pure."""

    def has_room(self, target: Target, reading: Reading, facts: Facts) -> bool:
        """Whether `reading`'s replica of `target` can take the request of `facts`; called for every able replica."""
        ...

    def shortage(self, target: Target, seen: Sequence[Reading], facts: Facts) -> Exclusion:
        """Why none of the replicas in `seen` has room; called once per target, and only then."""
        ...


class InFlightThreshold:
    """A replica is full at `max_in_flight` requests; shared targets without one have no threshold of their own.

    What it does: compares requests in flight, over all workers, with the policy's limit per replica.
    Reads: `Reading.in_flight`, `Target.max_in_flight`.
    When unknown: dedicated replicas take `DEFAULT_MAX_IN_FLIGHT`, or what can be served in time where their work is
    known; shared ones are held by their provider's own answers.
    """

    __slots__ = ()

    def has_room(self, target: Target, reading: Reading, facts: Facts) -> bool:
        """See `Room`."""
        limit = target.max_in_flight
        if limit is None:
            counted = reading.load is None and target.lane is Lane.DEDICATED
            return not counted or reading.in_flight < DEFAULT_MAX_IN_FLIGHT
        return reading.in_flight < limit

    def shortage(self, target: Target, seen: Sequence[Reading], facts: Facts) -> Exclusion:
        """See `Room`."""
        per_replica = max_in_flight(target) or 0
        used, limit = sum([reading.in_flight for reading in seen]), per_replica * len(seen)
        return Exclusion(target.name, "capacity", f"{used} of {limit} in flight", f"{limit} in flight", False)


def max_in_flight(target: Target) -> int | None:
    """The threshold of one replica; None when the target has none."""
    if target.max_in_flight is None and target.lane is Lane.DEDICATED:
        return DEFAULT_MAX_IN_FLIGHT
    return target.max_in_flight


def able(target: Target, seen: Sequence[Reading], facts: Facts, now: float, room: Room) -> list[Reading]:
    """The replicas that can take the request now.

    A half-open breaker is able: `signals/` shows it half-open only while no probe is on its way, so the request that
    sees it is the probe.
    """
    has_room = room.has_room
    if len(seen) == 1:
        reading = seen[0]
        rested = reading.breaker is not _OPEN and reading.full_until <= now and reading.paced_until <= now
        return [reading] if rested and has_room(target, reading, facts) else []
    return [
        reading
        for reading in seen
        if reading.breaker is not _OPEN
        and reading.full_until <= now
        and reading.paced_until <= now
        and has_room(target, reading, facts)
    ]


def least_loaded(readings: Sequence[Reading], draw: float) -> Reading:
    """The replica with the fewest requests in flight; `draw` in [0, 1) chooses among equals."""
    least = min([reading.in_flight for reading in readings])
    equals = [reading for reading in readings if reading.in_flight == least]
    return equals[int(draw * len(equals))]


def shortage(target: Target, seen: Sequence[Reading], facts: Facts, now: float, room: Room) -> Exclusion:
    """Why no replica of the target is able: `breaker` only when all are ejected, since fullness passes sooner."""
    if not seen:
        return Exclusion(target.name, "asleep", "no replica is ready", "one replica", False)
    serving = [reading for reading in seen if reading.breaker is not Breaker.OPEN]
    if not serving:
        back_s = max(0.0, min(reading.open_until for reading in seen) - now)
        return Exclusion(target.name, "breaker", f"open, next probe in {back_s:.1f} s", "closed", False)
    rested = [reading for reading in serving if reading.full_until <= now]
    if not rested:
        ago_s = now - max(reading.full_at for reading in serving)
        return Exclusion(target.name, "engine_full", f"said so {ago_s:.1f} s ago", "not full", False)
    if not [reading for reading in rested if reading.paced_until <= now]:
        return _paced(target, serving, now)
    return room.shortage(target, serving, facts)


def _paced(target: Target, seen: Sequence[Reading], now: float) -> Exclusion:
    """Which quota the provider said is running out; its limits in the policy count as its word."""
    quota = next((reading.quota for reading in seen if reading.paced_until > now and reading.quota is not None), None)
    if quota is None:
        return Exclusion(target.name, "quota", "used up", "room for a request", False)
    left = f"{quota.remaining} of {quota.limit} {quota.unit} left for {max(0.0, quota.reset_at - now):.0f} s"
    return Exclusion(target.name, "quota", left, "room for a request at an even pace", False)


def retry_after_s(seen: Sequence[Reading], now: float) -> float:
    """When the first of these replicas may be able again: seconds, at least a quarter and at most sixty."""
    waits = [_wait_s(reading, now) for reading in seen]
    return min(max(min(waits, default=RETRY_AFTER_S), MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)


def _wait_s(reading: Reading, now: float) -> float:
    ejected_until = reading.open_until if reading.breaker is Breaker.OPEN else 0.0
    until = max(reading.full_until, reading.paced_until, ejected_until)
    return until - now if until > now else RETRY_AFTER_S
