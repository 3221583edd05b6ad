"""One request put to two policies: what each decides, how the decisions differ, and where the data may newly go.

Theory of operation
-------------------
What is compared is what callers and their auditors would notice: whether the request is served, by which route, which
target first, which ones behind it, and what it is estimated to cost.

Where the data may go is not asked of a plan, which depends on the moment, but of the *lawful set*: every target that
the route's gates allow this request, whatever its state. A request *widens* when its lawful set under the new policy
has a region, a retention or a use for training that none of its targets had before. A model that the old policy did not
know widens what the caller could reach with any of its models; a caller whom the old policy did not know widens
nothing, since nothing of theirs was there to be moved.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from proxy.cases.expect import planned
from proxy.cases.observed import NOW_S
from proxy.cases.request import Callers, Request, facts_under, tags_misfits
from proxy.policy.model import NO_KEY, Enforce, Key, Lane, Rules, Snapshot, Target
from proxy.policy.units import duration_s
from proxy.routing import gates
from proxy.routing.capacity import max_in_flight
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.plan import Plan, Refusal
from proxy.routing.readings import NO_FUNDS, NO_RATES, Fund, Funds, Reading, Readings
from proxy.routing.rules import estimated_nano_usd

UNKNOWN_KEY = "401 invalid_api_key"
TAG_REFUSED = "403 tag_not_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one policy makes of a request: `refused` is empty, or the status and the code.

    `nano_usd` is the estimate for the first target, None where its price is unknown; a dedicated target costs nothing
    more than it does anyway.
    """

    route: str = ""
    refused: str = ""
    targets: tuple[str, ...] = ()
    lane: Lane | None = None
    nano_usd: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Widening:
    """One target that the request may newly reach, and what that is news of: a `kind` and its `value`."""

    kind: str
    value: str
    target: str


def full_readings(snapshot: Snapshot) -> Readings:
    """Every dedicated replica has as many requests as it takes."""
    return {
        name: tuple(
            Reading(target=name, replica=index, as_of=NOW_S, in_flight=max_in_flight(target) or 0)
            for index in range(target.replicas)
        )
        for name, target in snapshot.targets.items()
        if target.lane is Lane.DEDICATED
    }


def spent_funds(snapshot: Snapshot) -> Funds:
    """Every budget is used up."""
    return {
        one.name: Fund(
            free_nano_usd=0,
            spent_nano_usd=one.caps[0].nano_usd,
            limit_nano_usd=one.caps[0].nano_usd,
            per=one.caps[0].per,
        )
        for one in snapshot.budgets
    }


class Side:
    """One of the two policies, with the readings of each state in which it is asked.

    In the states of `penniless` its budgets are used up; in the others they have all their money.
    """

    def __init__(
        self, snapshot: Snapshot, states: Mapping[str, Readings], penniless: Container[str] = frozenset()
    ) -> None:
        self.snapshot = snapshot
        self._states = states
        self._penniless = penniless
        self._spent = spent_funds(snapshot)
        self._router = Router(snapshot)
        self._callers = Callers(snapshot)

    def knows(self, request: Request) -> bool:
        """Whether the policy lets the caller in at all."""
        return self.caller(request) is not None

    def caller(self, request: Request) -> Key | None:
        """The key under which the request comes; a policy without tenants asks for none."""
        return self._callers.key_of(request) if self.snapshot.tenants else NO_KEY

    def view(self, request: Request, state: str) -> View:
        """What is decided in one of the states."""
        facts = self._facts(request)
        if not isinstance(facts, Facts):
            return View(refused=facts)
        funds = self._spent if state in self._penniless else NO_FUNDS
        decision = self._router.decide(facts, self._states[state], NOW_S, request.draw or 0.0, NO_RATES, funds)
        if isinstance(decision, Refusal):
            return View(route=decision.route, refused=f"{decision.status} {decision.code}")
        return _view(decision, facts)

    def route_of(self, request: Request) -> str:
        """The route that takes the request, empty when none does."""
        facts = self._facts(request)
        lawful = self._router.lawful_set(facts) if isinstance(facts, Facts) else None
        if lawful is None:
            return ""
        return lawful.route if isinstance(lawful, Refusal) else lawful.route.name

    def reach(self, request: Request) -> tuple[Target, ...]:
        """The targets that the request may ever be sent to, those of a model that a budget has served instead too."""
        facts = self._facts(request)
        if not isinstance(facts, Facts):
            return ()
        lawful = self._router.lawful_set(facts)
        if isinstance(lawful, Refusal):
            return ()
        require = lawful.route.require
        found = [one.target for one in lawful.entries if gates.unfit(one.target, require, facts) is None]
        for budget in self._router.budgets_of(facts, lawful.route.name):
            if budget.downgrade is not None and budget.enforce is not Enforce.SHADOW:
                found += self._instead(facts, require, budget.downgrade)
        return tuple(dict.fromkeys(found))

    def _instead(self, facts: Facts, require: Rules, model: str) -> Iterator[Target]:
        """The targets of another model, as far as the gates of the request's own route let them pass."""
        instead = msgspec.structs.replace(facts, model=model, target_override=None)
        lawful = self._router.lawful_set(instead)
        if facts.target_override is not None or isinstance(lawful, Refusal):
            return
        asked = gates.Asked(require=require, endpoint=facts.endpoint, lane_override=facts.lane_override)
        for target in (one.target for one in lawful.entries):
            barriers = (
                gates.barrier(target, asked),
                gates.unfit(target, require, facts),
                gates.unfit(target, lawful.route.require, instead),
            )
            if not any(barriers):
                yield target

    def reach_of_caller(self, request: Request) -> tuple[Target, ...]:
        """The targets that such a request may ever be sent to, whichever model it asks for."""
        return tuple(one for model in self.snapshot.models for one in self.reach(replace(request, model=model)))

    def _facts(self, request: Request) -> Facts | str:
        """The facts, or what the caller is told instead."""
        caller = self.caller(request)
        if caller is None:
            return UNKNOWN_KEY
        if any(tags_misfits(request, caller)):
            return TAG_REFUSED
        return facts_under(request, caller)


def _view(plan: Plan, facts: Facts) -> View:
    first = plan.attempts[0].target
    cost = estimated_nano_usd(first, facts)
    return View(route=plan.route, targets=planned(plan), lane=first.lane, nano_usd=cost)


def own_tags(request: Request, recorded_by: Side) -> Request:
    """A recorded request without the tags that its key had under the policy that was in force."""
    caller = recorded_by.caller(request)
    if caller is None or not request.tags:
        return request
    return replace(request, tags=tuple(tag for tag in request.tags if tag not in caller.tags))


def changes(before: View, after: View) -> Iterator[tuple[str, str]]:
    """What becomes of the request that did not before, by its kind and in words."""
    if before.refused != after.refused:
        yield "refusal", f"{before.refused or 'served'} -> {after.refused or 'served'}"
    if before.refused or after.refused:
        return
    if before.targets[0] != after.targets[0]:
        yield "first target", f"{before.targets[0]} -> {after.targets[0]}"
    elif before.targets != after.targets:
        yield "fallbacks", f"{_listed(before.targets[1:])} -> {_listed(after.targets[1:])}"
    elif before.nano_usd != after.nano_usd:
        yield "cost", before.targets[0]


def widenings(request: Request, before: Side, after: Side) -> Iterator[Widening]:
    """Where the request's data may go under `after` and might not under `before`."""
    if not before.knows(request):
        return
    is_known = request.model in before.snapshot.models
    now = after.reach(request)
    then = before.reach(request) if is_known or not now else before.reach_of_caller(request)
    regions = {target.region for target in then}
    longest_s = max((_retention_s(target) for target in then), default=0.0)
    kept_out = all(target.trains is False for target in then)
    for target in now:
        if target.region not in regions:
            yield Widening(kind="region", value=target.region, target=target.name)
        if _retention_s(target) > longest_s:
            yield Widening(kind="retention", value=target.retention, target=target.name)
        if kept_out and target.trains is not False:
            value = "unknown" if target.trains is None else "true"
            yield Widening(kind="training", value=value, target=target.name)


def _retention_s(target: Target) -> float:
    match target.retention:
        case "zero":
            return 0.0
        case "unknown" | "":
            return math.inf
        case stated:
            return duration_s(stated)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
