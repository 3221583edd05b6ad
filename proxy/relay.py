"""One request from top to bottom: the only module that knows the order of events.

Theory of operation
-------------------
Read what is known, decide once, then walk the plan: send, forward, settle, and stop at the first attempt that reached
the client or that no other target could mend. The plan is the retry policy. An engine that says *full* costs nothing
and is simply spilled from; a failure is tried elsewhere at most `Plan.max_failovers` times and only while the retry
budget lasts. Where a route hedges, the first attempt may have a copy elsewhere in the plan beside it (`hedge.py`).
Where it lets requests wait for room, they do so before all of this (`waiting.py`), and are decided again. Nothing here
waits on anything else but the upstream: readings, meters and telemetry are memory.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import ChainMap
from collections.abc import MutableMapping
from functools import partial
from typing import Any, NamedTuple, cast

import msgspec

from proxy.caller import Client
from proxy.deadlines import Deadlines
from proxy.edges import Meters, Purse, RateLimits, RetryBudget, Signals, Telemetry, Unmet, Upstreams
from proxy.forward import Ending, Forward
from proxy.hedge import Race, as_copy, copies
from proxy.meters.hold import Hold, Spent
from proxy.policy.model import Hedge, Lane, Route, Snapshot, Traffic
from proxy.reply_headers import ReplyHeaders
from proxy.routing.budgets import name_of, used_nano_usd
from proxy.routing.charge import Charge
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.idle import only_idle, service_s
from proxy.routing.limits import estimated_tokens
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt, Decision, Plan, Refusal
from proxy.routing.readings import Fund, Funds, Outlook, Readings
from proxy.routing.refusals import turned_away
from proxy.signals.hedging import Hedging
from proxy.telemetry.records import Record
from proxy.upstream.base import Call, Head
from proxy.upstream.parameters import bounded
from proxy.upstream.reckoning import TokensPerEvent
from proxy.waiting import Patience, WaitingRoom, lacks_room, patience_of
from proxy.walk import walk


class _Request(NamedTuple):
    """What all attempts of one request have in common; `endings` grows."""

    snapshot: Snapshot
    plan: Plan
    facts: Facts
    call: Call
    client: Client
    endings: list[Ending]


class Relay:
    """The pipeline, with its edges plugged in; built on the running loop that it serves on."""

    def __init__(
        self,
        *,
        signals: Signals,
        rates: RateLimits,
        budget: RetryBudget,
        meters: Meters,
        purse: Purse,
        upstreams: Upstreams,
        per_event: TokensPerEvent,
        telemetry: Telemetry,
        deadlines: Deadlines,
        unmet: Unmet | None = None,
    ) -> None:
        self._signals = signals
        self._unmet = unmet
        self._rates = rates
        self._budget = budget
        self._meters = meters
        self._purse = purse
        self._upstreams = upstreams
        self._per_event = per_event
        self._telemetry = telemetry
        self._cancelled = telemetry.cancelled
        self._deadlines = deadlines
        self.headers = ReplyHeaders()
        self._known_routes: dict[tuple[str, str], Route] = {}
        self._hedging = Hedging()
        # Asked for once: CPython 3.11 makes a system call of every `get_running_loop()`.
        self._loop = asyncio.get_running_loop()
        self.waiting = WaitingRoom(self._loop)
        deadlines.add(self.waiting)

    def adopt(self) -> None:
        """Another policy is served from now on: let go of what was made for those before it."""
        self.headers.forget()
        self._known_routes = {}

    async def serve(self, router: Router, facts: Facts, call: Call, client: Client, received_at: float) -> None:
        """Answer one request; whatever happens, the client is answered once and a record is left."""
        now = time.monotonic()
        snapshot, waited_s = router.snapshot, 0.0
        decision, hold, patience = self._at_once(router, facts, now)
        self._miss_room(decision, facts, now)
        if patience is not None:
            untold = decision is None
            ask = partial(self._again, router, facts)
            refused = isinstance(decision, Refusal)
            waited = await self.waiting.wait(patience, client, ask, stream=call.stream, refused=refused)
            (decision, hold, waited_s), now = waited, time.monotonic()
            if untold:
                self._miss_room(decision, facts, now)
        assert decision is not None
        admitted = None
        if isinstance(decision, Plan) and decision.scopes:
            # With nothing awaited since the decision, so that no two requests take the same last place.
            admitted = self._rates.admit(decision.scopes, estimated_tokens(facts), now)
        overhead_s = time.monotonic() - received_at - waited_s
        endings: list[Ending] = []
        refusal = None
        try:
            if isinstance(decision, Plan):
                self._budget.deposit(now)
                one = _Request(snapshot, decision, facts, call, client, endings)
                hedge = self._route(snapshot, decision.route).hedge if call.stream else None
                if hedge is None or len(decision.attempts) == 1:
                    await self._attempt(one, decision.attempts[0], hold)
                else:
                    await self._race(one, hedge, hold)
                further = walk(decision, endings, self._signals, self._budget) if endings[-1].refusal else ()
                for attempt in further:
                    await self._try(one, attempt)
                refusal = _left_with(endings[-1], decision, facts)
            else:
                self._signals.refused(decision, now)
                refusal = self._with_rates(decision, facts, now) if decision.scopes else decision
            if refusal is not None and not client.left:
                client.refuse(refusal)
        finally:
            outcomes = tuple([ending.outcome for ending in endings])
            if admitted is not None:
                self._rates.settle(admitted, _tokens(outcomes), time.monotonic())
            charges = tuple([ending.charge for ending in endings])
            duration_s = time.monotonic() - received_at
            record = Record(snapshot, facts, decision, outcomes, charges, refusal, overhead_s, duration_s, waited_s)
            self._telemetry.record(record)

    def refuse(self, snapshot: Snapshot, facts: Facts, refusal: Refusal, client: Client, received_at: float) -> None:
        """Answer a request that never got as far as a decision."""
        client.refuse(refusal)
        elapsed_s = time.monotonic() - received_at
        self._telemetry.record(Record(snapshot, facts, refusal, (), (), refusal, elapsed_s, elapsed_s))

    def _miss_room(self, decision: Decision | None, facts: Facts, now: float) -> None:
        """Say what a request had no room on, once: when it comes, though it may wait for it."""
        if decision is not None and decision.excluded and self._unmet is not None:
            self._unmet.left(decision, facts, now)

    def _at_once(
        self, router: Router, facts: Facts, now: float
    ) -> tuple[Decision | None, Hold | None, Patience | None]:
        """The decision, or how the request has to wait for one; a refusal that it may wait out comes with both."""
        readings, outlook = self._look(router, facts, now)
        if (wanted := router.wanted(facts, outlook)) is not None:
            # Once for each request, however often it is decided.
            self._signals.wanted(wanted, now)
        patience = None
        if self.waiting or facts.traffic is Traffic.OFFLINE:
            patience = self._patience(router, facts, readings, outlook, now)
            if patience is not None and (patience.idle_until is not None or self.waiting.is_behind(patience)):
                return None, None, patience
        decision, hold = self._decide(router, facts, readings, outlook, now)
        if not lacks_room(decision):
            return decision, hold, None
        return decision, hold, patience or patience_of(self._route(router.snapshot, decision.route), facts, now)

    def _again(self, router: Router, facts: Facts, now: float, idle_only: bool) -> tuple[Decision, Hold | None]:
        """The decision for a request that has waited."""
        readings, outlook = self._look(router, facts, now)
        return self._decide(router, facts, readings, outlook, now, idle_only=idle_only)

    def _look(self, router: Router, facts: Facts, now: float) -> tuple[Readings, Outlook]:
        candidates = router.concerned(facts.model)
        readings = self._signals.read(candidates, now)
        return readings, self._signals.outlook(facts, candidates, readings, now)

    def _patience(
        self, router: Router, facts: Facts, readings: Readings, outlook: Outlook, now: float
    ) -> Patience | None:
        lawful = router.lawful_set(facts)
        if isinstance(lawful, Refusal):
            return None
        predicted_s = None
        if lawful.route.deadline_s is not None and any(entry.dedicated for entry in lawful.entries):
            predicted_s = service_s(router.decide(facts, readings, now, 0.5, outlook=outlook))
        return patience_of(lawful.route, facts, now, predicted_s)

    def _decide(
        self,
        router: Router,
        facts: Facts,
        readings: Readings,
        outlook: Outlook,
        now: float,
        *,
        idle_only: bool = False,
    ) -> tuple[Decision, Hold | None]:
        """The decision, with what its first attempt needs set aside already."""
        draw, rates = random.random(), self._rates.rates(now)  # noqa: S311
        funds: Funds = self._purse.funds(now)
        while True:
            decision = router.decide(facts, readings, now, draw, rates, funds, outlook)
            if idle_only:
                decision = only_idle(decision, readings)
            if decision.excluded and router.snapshot.budgets:
                self._miss(router.snapshot, decision, facts)
            if isinstance(decision, Refusal) or not decision.budgets:
                return decision, None
            hold = self._purse.open(decision.budgets, decision.attempts[0], _served(facts, decision), now)
            if not isinstance(hold, Spent):
                return decision, hold
            # There is less than the attempt needs, though more than nothing: to this request that is the same.
            funds = ChainMap({hold.budget: _emptied(funds[hold.budget])}, cast(MutableMapping[str, Fund], funds))

    def _miss(self, snapshot: Snapshot, decision: Decision, facts: Facts) -> None:
        """What was lacking is asked for: a budget may have more than what this process holds of it."""
        for exclusion in decision.excluded:
            name = name_of(exclusion)
            if name is not None:
                self._purse.missed(name, snapshot.targets[exclusion.target], facts)

    def _with_rates(self, refusal: Refusal, facts: Facts, now: float) -> Refusal:
        """A refusal for a rate says what is left of it; and what was lacking is asked for."""
        tokens = estimated_tokens(facts)
        headers = self._rates.headers(refusal.scopes, now, refused_tokens=tokens)
        self._rates.missed(refusal.scopes, tokens, now)
        return msgspec.structs.replace(refusal, headers=headers)

    async def _try(self, one: _Request, attempt: Attempt) -> None:
        """A further try, unless there is no money for it: then the request is left with the ending that it has."""
        facts = _served(one.facts, one.plan)
        hold = self._purse.open(one.plan.budgets, attempt, facts, time.monotonic()) if one.plan.budgets else None
        if not isinstance(hold, Spent):
            await self._attempt(one, attempt, hold)

    async def _attempt(self, one: _Request, attempt: Attempt, hold: Hold | None) -> None:
        """One try; how it ended is appended to the request's endings, however this ends."""
        client, done = one.client, self._loop.create_future()
        forward = self._forward(one, attempt, hold, client, done)
        client.listener = forward
        self._deadlines.add(forward)
        try:
            forward.send(self._upstreams)
            await done
        finally:
            self._deadlines.discard(forward)
            client.listener = None
            forward.abandon()
            assert forward.ending is not None
            one.endings.append(forward.ending)

    async def _race(self, one: _Request, hedge: Hedge, hold: Hold | None) -> None:
        """The first try, and its copy if it is slow; like `_attempt` otherwise."""
        attempt, client, hedging = one.plan.attempts[0], one.client, self._hedging
        hedging.deposit(one.plan.route, hedge)
        due_s = hedging.due_s(attempt, hedge.after)
        race = Race(client, due_s, partial(self._copy, one), hedging.observe, self._loop)
        client.listener = race
        self._deadlines.add(race)
        try:
            self._enter(one, race, attempt, hold)
            await race.over
        finally:
            self._deadlines.discard(race)
            client.listener = None
            one.endings.extend(race.close())

    def _enter(self, one: _Request, race: Race, attempt: Attempt, hold: Hold | None) -> None:
        entrant = race.entrant(attempt)
        forward = self._forward(one, attempt, hold, entrant, entrant.done)
        race.run(entrant, forward)
        forward.send(self._upstreams)

    def _copy(self, one: _Request, race: Race, waited_s: float) -> None:
        """The first attempt has no content after so long: send a copy to another target of the plan, if one may be had.

        There is one only where the route's share of them, the retry budget and all hard budgets have room for it.
        """
        plan, now = one.plan, time.monotonic()
        if not self._hedging.affords(plan.route):
            return
        attempt = next((one for one in copies(plan) if self._signals.admits(one, now)), None)
        if attempt is None or not self._budget.withdraw(now):
            return
        hold = self._purse.open(plan.budgets, attempt, _served(one.facts, plan), now) if plan.budgets else None
        if not isinstance(hold, Spent):
            self._hedging.withdraw(plan.route)
            self._enter(one, race, as_copy(attempt, plan.attempts[0], waited_s), hold)

    def _forward(
        self, one: _Request, attempt: Attempt, hold: Hold | None, client: Client, done: asyncio.Future[None]
    ) -> Forward:
        """The forward of a try that is counted as begun from here on."""
        snapshot, plan, facts, call = one.snapshot, one.plan, one.facts, one.call
        now = time.monotonic()
        if plan.served_as is not None:
            facts = _served(facts, plan)
        if hold is not None and hold.bound is not None:
            call = bounded(call, attempt.target, hold.bound)
            facts = msgspec.structs.replace(facts, max_output_tokens=hold.bound)
        begun = self._signals.begin(attempt, facts, now)
        counted = self._meters.begin(facts, plan.route, attempt)
        headers = self.headers.of(snapshot, plan, attempt)
        return Forward(
            attempt,
            call,
            client,
            facts=facts,
            per_event=self._per_event,
            headers=headers + self._rates.headers(plan.scopes, now) if plan.scopes else headers,
            settle=partial(self._settle, facts, plan.route, begun, counted, hold),
            progress=None if counted < 0 else partial(self._meters.progress, counted),
            hear=partial(self._hear, begun) if self._signals.listens(begun) else None,
            first=partial(self._first, begun) if attempt.target.lane is Lane.DEDICATED else None,
            cancelled=self._cancelled,
            hold=hold,
            done=done,
            now=now,
        )

    def _route(self, snapshot: Snapshot, name: str) -> Route:
        key = (snapshot.digest, name)
        route = self._known_routes.get(key)
        if route is None:
            route = self._known_routes[key] = next(one for one in snapshot.routes if one.name == name)
        return route

    def _hear(self, begun: Any, head: Head) -> None:
        self._signals.hear(begun, head.status, head.headers, time.monotonic(), time.time())

    def _first(self, begun: Any, now: float) -> None:
        self._signals.first(begun, now)
        self.waiting.stir()

    def _settle(
        self, facts: Facts, route: str, begun: Any, counted: int, hold: Hold | None, outcome: Outcome
    ) -> Charge:
        now = time.monotonic()
        self._signals.feed(begun, outcome, now)
        if outcome.failure is not None and self._unmet is not None:
            self._unmet.failed(facts, outcome, now)
        self.waiting.stir()
        charge = self._meters.settle(facts, route, outcome, counted)
        if hold is not None:
            self._purse.observe(facts, outcome)
            target = outcome.attempt.target
            # What is charged by the token is what a budget counts; GPU time is charged by the hour.
            by_token = target.lane is Lane.SHARED
            hold.settle(charge.nano_usd if by_token else used_nano_usd(target, outcome.usage) or 0)
        return charge


def _served(facts: Facts, plan: Plan) -> Facts:
    """The facts as the plan has them: its model may stand in the place of the one asked for."""
    return facts if plan.served_as is None else msgspec.structs.replace(facts, model=plan.served_as)


def _emptied(fund: Fund) -> Fund:
    return msgspec.structs.replace(fund, free_nano_usd=0)


def _left_with(last: Ending, plan: Plan, facts: Facts) -> Refusal | None:
    """What the client is told once nothing else is tried; None when it has its reply."""
    if last.refusal is None or last.outcome.failure is not Failure.FULL:
        return last.refusal
    return turned_away(facts, plan.route, last.refusal)


def _tokens(outcomes: tuple[Outcome, ...]) -> int:
    """What all attempts of a request used together."""
    return sum([outcome.usage.input_tokens + outcome.usage.output_tokens for outcome in outcomes])
