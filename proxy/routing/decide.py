"""`decide()`: from (policy, facts, readings) to a plan or a refusal. Serve, explain, test and replay all call it.

Theory of operation
-------------------
1. The public model must exist for the tenant, and the first route that matches is the request's route.
2. The route's gates have given the lawful set beforehand (`table.py`). Nothing below can add to it.
3. Of each lawful target the least loaded able replica stands in the plan; targets without one are left out, with why.
4. Order: targets known to miss fewer wants come first, then the route's preference, then the model's own order.
5. After one replica of every target come the second-best replicas, in the same order: another target is the better
   second try, because replicas of one target tend to fail together.

The first attempt is a *spillover* when it is shared and a dedicated target was left out, or put behind it, because of
what was observed; all later attempts are *fallbacks*. The happy path formats no string.
"""

from __future__ import annotations

from proxy.policy.model import Prefer, Route, Snapshot
from proxy.routing import gates, refusals, wants
from proxy.routing.capacity import InFlightThreshold, Room, able, least_loaded, retry_after_s, shortage
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Cause, Decision, Exclusion, Plan
from proxy.routing.readings import Breaker, Reading, Readings
from proxy.routing.table import FALLBACK_REASON, Entry, Lawful, applies, compile_table

IN_FLIGHT_THRESHOLD = InFlightThreshold()

Option = tuple[Entry, Reading]
"""A lawful target and the replica of it that would be tried."""

Misses = tuple[Exclusion, ...]
"""The wants that an option is measured to miss."""


class Router:
    """A snapshot made ready to decide. Build it once per snapshot: it does the policy's share of the work."""

    __slots__ = ("_room", "_table", "snapshot")

    def __init__(self, snapshot: Snapshot, room: Room = IN_FLIGHT_THRESHOLD) -> None:
        self.snapshot = snapshot
        self._room = room
        self._table = compile_table(snapshot)

    def decide(self, facts: Facts, readings: Readings, now: float, draw: float) -> Decision:
        """The attempts for one request in order, or why there are none.

        `now` is in seconds on the clock of the readings; `draw` in [0, 1) breaks ties between replicas.
        """
        rows = self._table.get(facts.model)
        if rows is None or not gates.tenant_may_use(facts.tenant, facts.model):
            return refusals.model_not_found(facts.model)
        for row in rows:
            if applies(row.match, facts):
                break
        else:
            return refusals.no_route(facts)
        lawful = row.lawful[facts.endpoint, facts.lane_override]
        if lawful.refusal is not None:
            return lawful.refusal
        return self._choose(lawful, facts, readings, now, draw)

    def _choose(self, lawful: Lawful, facts: Facts, readings: Readings, now: float, draw: float) -> Decision:
        route, room = lawful.route, self._room
        if lawful.ready is not None and _all_able(lawful, facts, readings, now, room):
            return lawful.ready
        firsts: list[Option] = []
        spares: list[Option] = []
        left_out: list[Exclusion] = []
        spilled: Exclusion | None = None
        for entry in lawful.entries:
            target = entry.target
            seen = readings.get(target.name) or entry.unseen
            usable = able(target, seen, facts, now, room)
            if len(usable) == 1:
                firsts.append((entry, usable[0]))
            elif usable:
                best = least_loaded(usable, draw)
                firsts.append((entry, best))
                usable.remove(best)
                spares.append((entry, least_loaded(usable, draw)))
            else:
                left_out.append(shortage(target, seen, facts, now, room))
                if entry.dedicated and spilled is None:
                    spilled = left_out[-1]
        if not firsts:
            return refusals.none_able(route, facts, lawful.barred, left_out, _soonest_s(lawful, readings, now))
        relaxed = bool(firsts[0][0].missed)
        if lawful.measured:
            misses = [wants.missed_by_reading(entry.target, route.want, reading) for entry, reading in firsts]
            if any(misses) or route.prefer is Prefer.LATENCY:
                firsts, demoted, relaxed = _reordered(route, firsts, misses)
                left_out += [miss for missed in misses for miss in missed]
                spilled = spilled or demoted
        return Plan(
            route=route.name,
            attempts=_attempts(lawful, firsts + spares, spilled),
            excluded=(*lawful.excluded, *left_out) if left_out else lawful.excluded,
            relaxed=relaxed,
            max_failovers=route.max_failovers,
        )


def _all_able(lawful: Lawful, facts: Facts, readings: Readings, now: float, room: Room) -> bool:
    for entry in lawful.entries:
        target = entry.target
        (reading,) = readings.get(target.name) or entry.unseen
        if reading.breaker is Breaker.OPEN or reading.full_until > now or not room.has_room(target, reading, facts):
            return False
        if lawful.measured and wants.missed_by_reading(target, lawful.route.want, reading):
            return False
    return True


def decide(snapshot: Snapshot, facts: Facts, readings: Readings, now: float, draw: float) -> Decision:
    """`Router.decide` for a single decision, for explain and tests: it prepares the snapshot each time."""
    return Router(snapshot).decide(facts, readings, now, draw)


def _reordered(
    route: Route, options: list[Option], misses: list[Misses]
) -> tuple[list[Option], Exclusion | None, bool]:
    """The options by what was measured of them; `misses` are theirs, one tuple each.

    Also returned: the miss that put a dedicated target behind a shared one, if one did, and whether the option that is
    now first misses a want.
    """
    by_latency = route.prefer is Prefer.LATENCY

    def rank(ranked: tuple[Option, Misses]) -> tuple[int, bool, float]:
        (entry, reading), missed = ranked
        ttft_s = reading.ttft_p99_s if by_latency else 0.0
        return len(entry.missed) + len(missed), ttft_s is None, ttft_s or 0.0

    ranked = sorted(zip(options, misses, strict=True), key=rank)
    (first, _), missed_first = ranked[0]
    demoted = options[0][0].dedicated and not first.dedicated and misses[0]
    return [option for option, _ in ranked], demoted[0] if demoted else None, bool(first.missed or missed_first)


def _attempts(lawful: Lawful, options: list[Option], spilled: Exclusion | None) -> tuple[Attempt, ...]:
    cause, reason = Cause.PREFERRED, lawful.reason
    if spilled is not None and not options[0][0].dedicated and lawful.route.prefer is not Prefer.SHARED:
        cause, reason = Cause.SPILLOVER, spill_reason(spilled)
    attempts = []
    for ordinal, (entry, reading) in enumerate(options):
        attempts.append(
            Attempt(
                target=entry.target,
                replica=reading.replica,
                model=entry.model,
                ordinal=ordinal,
                cause=cause,
                reason=reason,
            )
        )
        cause, reason = Cause.FALLBACK, FALLBACK_REASON
    return tuple(attempts)


def spill_reason(exclusion: Exclusion) -> str:
    """Why a dedicated target was left before anything failed, in the words of headers, logs and `explain`."""
    name, observed = exclusion.target, exclusion.observed
    match exclusion.rule:
        case "capacity":
            return f"dedicated at capacity: {observed} on {name}"
        case "engine_full":
            return f"engine full: {name} {observed}"
        case "breaker":
            return f"out of rotation: {name} is {observed}"
        case rule:
            return f"{rule}: {observed} on {name} against {exclusion.limit}"


def _soonest_s(lawful: Lawful, readings: Readings, now: float) -> float:
    return min(retry_after_s(readings.get(entry.target.name) or entry.unseen, now) for entry in lawful.entries)
