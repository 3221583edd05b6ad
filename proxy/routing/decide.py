"""`decide()`: from (policy, facts, readings) to a plan or a refusal. Serve, explain, test and replay all call it.

Theory of operation
-------------------
1. The public model must exist for the tenant, and the first route that matches is the request's route.
2. The route's gates have given the lawful set beforehand (`table.py`). Nothing below can add to it.
3. The rates of the tenant, the key and the route must have room (`limits.py`).
4. A lawful target that a spent budget covers, that is unfit for this very request, or measured to break a rule under
   `require`, is left out. When that leaves nothing, a budget may have the request served as another model, by targets
   that the gates of its own route let pass too.
5. Of each other one the least loaded able replica stands in the plan; targets without one are left out, with why.
6. Order: targets known to miss fewer wants come first, then the route's preference, then the model's own order.
7. After one replica of every target come the second-best replicas, in the same order: another target is the better
   second try, because replicas of one target tend to fail together.

The first attempt is a *spillover* when it is shared and a dedicated target was left out, or put behind it, because of
what was observed; all later attempts are *fallbacks*. The happy path formats no string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import msgspec

from proxy.policy.model import Budget, Candidate, Prefer, Route, Rules, Snapshot
from proxy.routing import budgets, gates, limits, refusals, wants
from proxy.routing.bounds import Bound, Bounds
from proxy.routing.capacity import InFlightThreshold, Room, able, least_loaded, retry_after_s, shortage
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Cause, Decision, Exclusion, Plan, Refusal
from proxy.routing.readings import NO_FUNDS, NO_RATES, Breaker, Funds, LeasedFunds, Rates, Reading, Readings
from proxy.routing.rules import missed_by_reading, missed_by_request
from proxy.routing.table import FALLBACK_REASON, Entry, Lawful, Row, compile_table, concerned, first_match

IN_FLIGHT_THRESHOLD = InFlightThreshold()

Option = tuple[Entry, Reading]
"""A lawful target and the replica of it that would be tried."""

Misses = tuple[Exclusion, ...]
"""The wants that an option is measured to miss."""

NONE_POOR: Mapping[str, Exclusion] = {}


class Moment(NamedTuple):
    """What is true of the targets now: readings, the time on their clock, and a number in [0, 1) to break ties with."""

    readings: Readings
    now: float
    draw: float


class Router:
    """A snapshot made ready to decide. Build it once per snapshot: it does the policy's share of the work."""

    __slots__ = ("_bounds", "_concerned", "_table", "room", "snapshot")

    def __init__(self, snapshot: Snapshot, room: Room = IN_FLIGHT_THRESHOLD) -> None:
        self.snapshot = snapshot
        self.room = room
        self._table = compile_table(snapshot)
        self._bounds = Bounds(snapshot.budgets)
        self._concerned = concerned(snapshot)

    def decide(
        self,
        facts: Facts,
        readings: Readings,
        now: float,
        draw: float,
        rates: Rates = NO_RATES,
        funds: Funds = NO_FUNDS,
    ) -> Decision:
        """The attempts for one request in order, or why there are none.

        `now` is in seconds on the clock of the readings; `draw` in [0, 1) breaks ties between replicas.
        """
        lawful = self.lawful_set(facts)
        if isinstance(lawful, Refusal):
            return lawful
        moment = Moment(readings, now, draw)
        bound = self._bounds.of(facts, lawful.route.name, lawful.held)
        if bound is None:
            return self._choose(lawful, facts, moment)
        verdict = limits.NOTHING_OVER
        if bound.held:
            verdict = limits.judge(bound.held, facts, rates, bound.buckets)
        if verdict.refused is not None:
            return refusals.rate_limited(lawful.route, verdict.refused)
        decision = self._afford(lawful, facts, moment, funds, bound)
        return decision if verdict is limits.NOTHING_OVER else _recorded(decision, verdict)

    def concerned(self, model: str) -> tuple[Candidate, ...]:
        """The candidates whose readings a decision for the public model may need."""
        return self._concerned.get(model, ())

    def budgets_of(self, facts: Facts, route: str) -> tuple[Budget, ...]:
        """The budgets that a request on `route` falls under, whatever its target."""
        return self._bounds.covering(facts, route)

    def rows(self, facts: Facts) -> tuple[Row, ...]:
        """The routes that can match requests for the model of `facts`, in their order; none if it may not be used."""
        if not gates.tenant_may_use(facts.tenant, facts.model):
            return ()
        return self._table.get(facts.model, ())

    def evaluated(self) -> Iterator[Lawful]:
        """The lawful sets that requests have asked for so far, without those for a choice of their caller's own."""
        for row in chain.from_iterable(self._table.values()):
            for (_, lane, pinned), lawful in tuple(row.lawful.items()):
                if lane is None and pinned is None:
                    yield lawful

    def lawful_set(self, facts: Facts) -> Lawful | Refusal:
        """The targets that the policy allows this request, whatever their state; or why it allows none."""
        rows = self.rows(facts)
        if not rows:
            return refusals.model_not_found(facts.model)
        row = first_match(rows, facts)
        if row is None:
            return refusals.no_route(facts)
        pinned = facts.target_override
        if pinned is not None and pinned not in row.names:
            route = row.lawful[facts.endpoint, facts.lane_override, None].route
            allowed = route.target_override
            return refusals.target_not_found(route, facts) if allowed else refusals.target_override_not_allowed(route)
        lawful = row.lawful[facts.endpoint, facts.lane_override, pinned]
        return lawful if lawful.refusal is None else lawful.refusal

    def _afford(self, lawful: Lawful, facts: Facts, moment: Moment, funds: Funds, bound: Bound) -> Decision:
        """Choose among what the request's budgets leave; another model's targets, if one of them says so."""
        covering = bound.covering
        if covering is None:
            covering = self._bounds.covering(facts, lawful.route.name)
        if not covering:
            plan = self._choose(lawful, facts, moment)
            return bound.planned(plan, (), keep=plan is lawful.ready) if isinstance(plan, Plan) else plan
        if lawful.counted and isinstance(funds, LeasedFunds) and funds.is_ample(covering):
            standing = budgets.NOTHING_SPENT
        else:
            standing = budgets.judge(covering, [entry.target for entry in lawful.entries], facts, funds)
        rejecting = budgets.rejecting(standing)
        if rejecting is not None:
            return refusals.over_budget(lawful.route, rejecting, standing, funds)
        decision = self._choose(lawful, facts, moment, standing.left_out)
        if isinstance(decision, Plan):
            planned = bound.planned(decision, covering, keep=decision is lawful.ready)
            return (
                msgspec.structs.replace(planned, shadow=planned.shadow + standing.shadow)
                if standing.shadow
                else planned
            )
        if not standing.left_out:
            return decision
        instead = budgets.downgrade(standing)
        if instead is not None:
            served = self._downgraded(lawful, facts, moment, funds, instead, decision.excluded, standing)
            if served is not None:
                return msgspec.structs.replace(served, scopes=bound.buckets)
        frees_up = any(
            entry.target.name not in standing.left_out
            and not (entry.picky and gates.unfit(entry.target, lawful.route.require, facts))
            for entry in lawful.entries
        )
        return refusals.unaffordable(lawful.route, decision, standing, funds, frees_up=frees_up)

    def _downgraded(
        self,
        above: Lawful,
        facts: Facts,
        moment: Moment,
        funds: Funds,
        model: str,
        excluded: tuple[Exclusion, ...],
        standing: budgets.Standing,
    ) -> Plan | None:
        """The plan for another model, with no target that the gates of the request's own route would not let pass.

        `excluded` are the targets of the model that was asked for, and why none of them is tried.
        """
        instead = msgspec.structs.replace(facts, model=model, target_override=None)
        lawful = self.lawful_set(instead)
        if facts.target_override is not None or isinstance(lawful, Refusal):
            return None
        covering = self._bounds.covering(instead, lawful.route.name)
        barred = _barred_above(above.route.require, lawful, facts, moment.readings)
        left = [entry.target for entry in lawful.entries if entry.target.name not in barred]
        again = budgets.judge(covering, left, instead, funds)
        decision = self._choose(lawful, instead, moment, {**again.left_out, **barred})
        if isinstance(decision, Refusal) or budgets.rejecting(again) is not None:
            return None
        return msgspec.structs.replace(
            decision,
            attempts=_because_of(decision.attempts, standing),
            excluded=excluded + tuple([one for one in decision.excluded if one not in excluded]),
            shadow=decision.shadow + again.shadow,
            budgets=covering,
            served_as=model,
        )

    def _choose(
        self,
        lawful: Lawful,
        facts: Facts,
        moment: Moment,
        poor: Mapping[str, Exclusion] = NONE_POOR,
    ) -> Decision:
        """Order what is able among the lawful; `poor` are left out beforehand."""
        readings, now, draw = moment
        route, room = lawful.route, self.room
        if lawful.ready is not None and not poor and _all_able(lawful, facts, readings, now, room):
            return lawful.ready
        firsts: list[Option] = []
        spares: list[Option] = []
        left_out: list[Exclusion] = []
        spilled: Exclusion | None = None
        for entry in lawful.entries:
            target = entry.target
            if target.name in poor:
                left_out.append(poor[target.name])
                continue
            seen = readings.get(target.name) or entry.unseen
            unfit = gates.unfit(target, route.require, facts) if entry.picky else None
            if unfit is not None:
                left_out.append(unfit)
                continue
            usable = able(target, seen, facts, now, room)
            kept = _uncondemned(route.require, usable) if lawful.gated else usable
            if kept:
                best = kept[0] if len(kept) == 1 else least_loaded(kept, draw)
                firsts.append((entry, best))
                if len(kept) > 1:
                    spares.append((entry, least_loaded([one for one in kept if one is not best], draw)))
                continue
            if usable:
                left_out.append(gates.recorded(target, missed_by_reading(route.require, usable[0]))[0])
            else:
                left_out.append(shortage(target, seen, facts, now, room))
            if entry.dedicated and spilled is None:
                spilled = left_out[-1]
        if not firsts:
            return refusals.none_able(route, facts, lawful.barred, left_out, _soonest_s(lawful, readings, now))
        shadow = lawful.shadow + _shadow_now(route, firsts, facts) if lawful.shadowed else lawful.shadow
        relaxed = bool(firsts[0][0].missed)
        if lawful.varies:
            misses = [wants.missed_now(entry.target, route.want, facts, reading) for entry, reading in firsts]
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
            shadow=shadow,
        )


def _barred_above(require: Rules, lawful: Lawful, facts: Facts, readings: Readings) -> dict[str, Exclusion]:
    """The targets of another model's lawful set that the gates of the route that was asked for keep out."""
    asked = gates.Asked(require=require, endpoint=facts.endpoint, lane_override=facts.lane_override)
    barred: dict[str, Exclusion] = {}
    for target in (entry.target for entry in lawful.entries):
        barrier = gates.barrier(target, asked) or gates.unfit(target, require, facts)
        measured = [miss for reading in readings.get(target.name, ()) for miss in missed_by_reading(require, reading)]
        if barrier is not None or measured:
            barred[target.name] = barrier or gates.recorded(target, tuple(measured))[0]
    return barred


def _because_of(attempts: tuple[Attempt, ...], standing: budgets.Standing) -> tuple[Attempt, ...]:
    """The attempts, the first saying which budget has put another model in the place of the one asked for."""
    spent = next(iter(standing.left_out.values()))
    reason = f"downgraded: {spent.rule} {spent.observed} of {spent.limit}"
    return (msgspec.structs.replace(attempts[0], reason=reason), *attempts[1:])


def _all_able(lawful: Lawful, facts: Facts, readings: Readings, now: float, room: Room) -> bool:
    route = lawful.route
    for entry in lawful.entries:
        target = entry.target
        (reading,) = readings.get(target.name) or entry.unseen
        if reading.breaker is Breaker.OPEN or reading.full_until > now or reading.paced_until > now:
            return False
        if not room.has_room(target, reading, facts):
            return False
        if entry.picky and gates.unfit(target, route.require, facts):
            return False
        if lawful.gated and missed_by_reading(route.require, reading):
            return False
        if lawful.varies and wants.missed_now(target, route.want, facts, reading):
            return False
    return True


def _uncondemned(require: Rules, usable: list[Reading]) -> list[Reading]:
    """The replicas that are not measured to break a rule under `require`."""
    return [reading for reading in usable if not missed_by_reading(require, reading)]


def _shadow_now(route: Route, options: list[Option], facts: Facts) -> tuple[Exclusion, ...]:
    """What shadow rules find in the request and the readings; what the policy alone settles is known beforehand."""
    found: list[Exclusion] = []
    for entry, reading in options:
        target, rules = entry.target, route.shadow_require
        hard = missed_by_reading(rules, reading)
        too_dear = missed_by_request(target, rules, facts, strict=True)
        found += gates.recorded(target, hard if too_dear is None else (*hard, too_dear))
        found += wants.missed_now(target, route.shadow_want, facts, reading)
    return tuple(found)


def _recorded(decision: Decision, verdict: limits.Verdict) -> Decision:
    """A plan that says which rates it is over that do not refuse."""
    if isinstance(decision, Refusal):
        return decision
    return msgspec.structs.replace(
        decision,
        excluded=decision.excluded + verdict.wanted,
        relaxed=decision.relaxed or bool(verdict.wanted),
        shadow=decision.shadow + verdict.shadow,
    )


def decide(
    snapshot: Snapshot,
    facts: Facts,
    readings: Readings,
    now: float,
    draw: float,
    rates: Rates = NO_RATES,
    funds: Funds = NO_FUNDS,
) -> Decision:
    """`Router.decide` for a single decision, for tests: it prepares the snapshot each time."""
    return Router(snapshot).decide(facts, readings, now, draw, rates, funds)


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
        ttft_s = reading.latency.ttft_p99_s if by_latency else 0.0
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
