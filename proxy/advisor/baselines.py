"""The rules that others route by, under the same policy and in the same replay: what ours has to be better than.

Theory of operation
-------------------
A gateway that does not know an engine's work goes by what it can count. Each rule here is a `Router` that is shown how
many requests each replica has in flight, and nothing else: no work, no latency, no word of an engine that was full a
moment ago. What it does then is what `Router.decide` does for anybody's readings.

- *in flight*: a replica takes so many requests at a time;
- *queue*: engines refuse when so many wait, and the request goes on to the next attempt;
- *weight*: so large a share of the requests, drawn by lot, goes to dedicated targets;
- *AIMD*: a limit of requests in flight for each replica, larger by one after each round of first tokens in time, cut by
  a factor when one is late (TCP's congestion avoidance, Chiu & Jain 1989, as adaptive concurrency limits have it);
- *dedicated*: everything stays on dedicated targets, and waits there.

With all replicas away, any of them is *all shared*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.advisor.fleet import dedicated_only, with_replicas
from proxy.advisor.replayed import Replayed
from proxy.advisor.scenario import PLAIN, Scenario
from proxy.advisor.simulate import Simulation
from proxy.advisor.trace import Trace
from proxy.policy.model import Lane, Snapshot, Target
from proxy.routing.capacity import Room
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Decision, Exclusion
from proxy.routing.readings import NO_FUNDS, NO_OUTLOOK, NO_RATES, Funds, Outlook, Rates, Reading, Readings

FIRST_LIMIT = 8.0
MOST_IN_FLIGHT = 1024.0


class AtMost:
    """So many requests in flight on each dedicated replica; any number where `limit` is None."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int | None) -> None:
        self._limit = limit

    def has_room(self, target: Target, reading: Reading, facts: Facts) -> bool:
        """See `Room`."""
        return self._limit is None or target.lane is Lane.SHARED or reading.in_flight < self._limit

    def shortage(self, target: Target, seen: Sequence[Reading], facts: Facts) -> Exclusion:
        """See `Room`."""
        return _full(target, seen, str(self._limit))


class Adaptive:
    """A limit for each dedicated replica that follows its first tokens: the one here that remembers anything."""

    __slots__ = ("_decrease", "_limits", "_seen", "_ttft_s")

    def __init__(self, ttft_s: float, decrease: float) -> None:
        self._ttft_s = ttft_s
        self._decrease = decrease
        self._limits: dict[tuple[str, int], float] = {}
        self._seen: dict[tuple[str, int], int] = {}

    def has_room(self, target: Target, reading: Reading, facts: Facts) -> bool:
        """See `Room`."""
        if target.lane is Lane.SHARED:
            return True
        key = (target.name, reading.replica)
        self._seen[key] = reading.in_flight
        return reading.in_flight < self._limits.get(key, FIRST_LIMIT)

    def shortage(self, target: Target, seen: Sequence[Reading], facts: Facts) -> Exclusion:
        """See `Room`."""
        return _full(target, seen, "what came in time")

    def heard(self, attempt: Attempt, ttft_s: float) -> None:
        """A first token has come. A limit that is hardly used does not grow: nothing was learned of it."""
        key = (attempt.target.name, attempt.replica)
        limit = self._limits.get(key, FIRST_LIMIT)
        if ttft_s > self._ttft_s:
            self._limits[key] = max(1.0, limit * self._decrease)
        elif 2 * self._seen.get(key, 0) >= limit:
            self._limits[key] = min(limit + 1 / limit, MOST_IN_FLIGHT)


class Blind(Router):
    """A router that is shown requests in flight alone."""

    __slots__ = ()

    def decide(
        self,
        facts: Facts,
        readings: Readings,
        now: float,
        draw: float,
        rates: Rates = NO_RATES,
        funds: Funds = NO_FUNDS,
        outlook: Outlook = NO_OUTLOOK,
    ) -> Decision:
        """See `Router`."""
        return super().decide(facts, _counts(readings), now, draw, rates, funds)


class Weighted(Blind):
    """A router that goes by lot: `share` of the requests stay on dedicated targets."""

    __slots__ = ("_elsewhere", "_share")

    def __init__(self, snapshot: Snapshot, share: float) -> None:
        super().__init__(snapshot, AtMost(None))
        self._elsewhere = Blind(snapshot, AtMost(0))
        self._share = share

    def decide(
        self,
        facts: Facts,
        readings: Readings,
        now: float,
        draw: float,
        rates: Rates = NO_RATES,
        funds: Funds = NO_FUNDS,
        outlook: Outlook = NO_OUTLOOK,
    ) -> Decision:
        """See `Router`. What is left of the lot breaks ties."""
        share = self._share
        if draw < share:
            return super().decide(facts, readings, now, draw / share, rates, funds)
        return self._elsewhere.decide(facts, readings, now, (draw - share) / (1 - share), rates, funds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One rule with its setting. `queue_limit` is the engines' own; `shares` is False where nothing may be spilled."""

    name: str
    room: Callable[[], Room] = lambda: AtMost(None)
    weight: float | None = None
    queue_limit: int | None = None
    shares: bool = True

    def replay(
        self,
        trace: Trace,
        snapshot: Snapshot,
        *,
        replicas: Mapping[str, int] | None = None,
        scenario: Scenario = PLAIN,
        seed: int = 0,
    ) -> Replayed:
        """`simulate`, by this rule."""
        fleet = snapshot if replicas is None else with_replicas(snapshot, replicas)
        fleet = fleet if self.shares else dedicated_only(fleet)
        room = self.room()
        router = Blind(fleet, room) if self.weight is None else Weighted(fleet, self.weight)
        true = replace(scenario, queue_limit=self.queue_limit)
        heard = room.heard if isinstance(room, Adaptive) else None
        return Simulation(trace, fleet, scenario=true, seed=seed, router=router, policy=self.name, heard=heard).run()


DEDICATED = Baseline(name="all dedicated", shares=False)


def in_flight(limit: int) -> Baseline:
    """So many requests at a time on each replica."""
    return Baseline(name=f"in flight {limit}", room=lambda: AtMost(limit))


def queue(limit: int) -> Baseline:
    """Engines that refuse when so many requests wait."""
    return Baseline(name=f"queue {limit}", queue_limit=limit)


def weight(share: float) -> Baseline:
    """Such a share of the requests on dedicated targets, from 0 to 1."""
    return Baseline(name=f"weight {share:.0%}", weight=share)


def aimd(decrease: float, ttft_s: float) -> Baseline:
    """Limits that are cut by the factor `decrease` whenever a first token takes longer than `ttft_s`."""
    return Baseline(name=f"AIMD {decrease:g}", room=lambda: Adaptive(ttft_s, decrease))


def _counts(readings: Readings) -> Readings:
    return {
        name: tuple(
            [
                Reading(target=name, replica=one.replica, as_of=one.as_of, in_flight=one.in_flight, breaker=one.breaker)
                for one in seen
            ]
        )
        for name, seen in readings.items()
    }


def _full(target: Target, seen: Sequence[Reading], limit: str) -> Exclusion:
    used = sum(reading.in_flight for reading in seen)
    return Exclusion(target.name, "capacity", f"{used} in flight", f"{limit} in flight on each replica", False)
