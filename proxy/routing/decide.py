"""`decide()`: from (policy, facts, readings) to a plan or a refusal. Serve, explain, test and replay all call it.

Theory of operation
-------------------
1. The public model must exist for the tenant, and the first route that matches is the request's route.
2. The route's gates have given the lawful set beforehand (`table.py`). Nothing below can add to it.
3. The rates of the tenant, the key and the route must have room (`limits.py`).
4. A lawful target that a spent budget covers, that is unfit for this very request, or measured to break a rule under
   `require`, is left out. When that leaves nothing, a budget may have the request served as another model, by targets
   that the gates of its own route let pass too.
5. Of the others, those that are able are put in order (`choose.py`); what they are predicted to make of the request
   decides whether it stays on dedicated GPUs (`place.py`, `predict.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec

from proxy.policy.model import Budget, Candidate, Lane, Rules, Snapshot
from proxy.routing import budgets, gates, limits, refusals
from proxy.routing.bounds import Bound, Bounds
from proxy.routing.capacity import InFlightThreshold, Room
from proxy.routing.choose import NONE_POOR, Moment, choose
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Decision, Exclusion, Plan, Refusal
from proxy.routing.readings import NO_FUNDS, NO_OUTLOOK, NO_RATES, Funds, LeasedFunds, Outlook, Rates, Readings
from proxy.routing.rules import missed_by_reading
from proxy.routing.table import Lawful, Row, compile_table, concerned, first_match
from proxy.routing.wanted import Wanted, wanted

IN_FLIGHT_THRESHOLD = InFlightThreshold()


class Router:
    """A snapshot made ready to decide. Build it once per snapshot: it does the policy's share of the work.

    `cached_models` are those of which a dedicated replica may have a prompt's beginning in its cache.
    """

    __slots__ = ("_bids", "_bounds", "_concerned", "_table", "cached_models", "room", "snapshot")

    def __init__(self, snapshot: Snapshot, room: Room = IN_FLIGHT_THRESHOLD) -> None:
        self.snapshot = snapshot
        self.room = room
        self._table = compile_table(snapshot)
        self._bounds = Bounds(snapshot.budgets)
        self._concerned = concerned(snapshot)
        self._bids = _may_differ(snapshot)
        self.cached_models = frozenset(
            model
            for model, candidates in snapshot.models.items()
            if any(candidate.target.lane is Lane.DEDICATED for candidate in candidates)
        )

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
        """The attempts for one request in order, or why there are none.

        `now` is in seconds on the clock of the readings; `draw` in [0, 1) breaks ties between replicas.
        """
        lawful = self.lawful_set(facts)
        if isinstance(lawful, Refusal):
            return lawful
        moment = Moment(readings, now, draw, outlook)
        bound = self._bounds.of(facts, lawful.route.name, lawful.held)
        if bound is None:
            return choose(lawful, facts, moment, self.room, NONE_POOR)
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

    def wanted(self, facts: Facts, outlook: Outlook) -> Wanted | None:
        """What the request asks of dedicated engines, for the bid; None where no bid is ever made."""
        if not self._bids:
            return None
        lawful = self.lawful_set(facts)
        return None if isinstance(lawful, Refusal) else wanted(lawful, facts, outlook)

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
            plan = choose(lawful, facts, moment, self.room, NONE_POOR)
            return bound.planned(plan, (), keep=plan is lawful.ready) if isinstance(plan, Plan) else plan
        if lawful.counted and isinstance(funds, LeasedFunds) and funds.is_ample(covering):
            standing = budgets.NOTHING_SPENT
        else:
            standing = budgets.judge(covering, [entry.target for entry in lawful.entries], facts, funds)
        rejecting = budgets.rejecting(standing)
        if rejecting is not None:
            return refusals.over_budget(lawful.route, rejecting, standing, funds)
        decision = choose(lawful, facts, moment, self.room, standing.left_out)
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
        decision = choose(lawful, instead, moment, self.room, {**again.left_out, **barred})
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


def _may_differ(snapshot: Snapshot) -> bool:
    """Whether requests may differ in what a second of engine time saves: not where all tokens have one price."""
    prices = {target.price for target in snapshot.targets.values() if target.price is not None}
    return len(prices) > 1 or any(one.input_nano_usd_per_mtok != one.output_nano_usd_per_mtok for one in prices)


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
    outlook: Outlook = NO_OUTLOOK,
) -> Decision:
    """`Router.decide` for a single decision, for tests: it prepares the snapshot each time."""
    return Router(snapshot).decide(facts, readings, now, draw, rates, funds, outlook)
