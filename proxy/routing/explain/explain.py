"""Why a request goes where it goes: the decision, and everything that it rests on.

Theory of operation
-------------------
The decision is taken by `Router.decide()`, like any other, and only told here: which route, which target where and why
comes from it. What the decision had no need to say is asked of the functions that it is made of: every further
requirement that a target does not meet, so that whoever mends one knows what would bar it next; what each replica was
seen to be like; what the request would cost there. Nothing is judged by a rule of this module's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from proxy.policy import promises
from proxy.policy.model import Candidate, Enforce, Lane, Limits, Route, Target
from proxy.routing import budgets, capacity, gates, limits, uptime
from proxy.routing.choose import Moment
from proxy.routing.decide import Router
from proxy.routing.explain import conditions, ruled
from proxy.routing.explain.explained import (
    Allowance,
    Applied,
    Asked,
    Cost,
    Explanation,
    Observed,
    PassedOver,
    Place,
    Scope,
    Standing,
    Told,
    Work,
)
from proxy.routing.explain.headline import headline
from proxy.routing.explain.paid import purses
from proxy.routing.facts import Facts
from proxy.routing.place import predicted
from proxy.routing.plan import Decision, Exclusion, Plan, Refusal
from proxy.routing.predict import Steps
from proxy.routing.readings import (
    NO_FUNDS,
    NO_OUTLOOK,
    NO_RATES,
    Breaker,
    Funds,
    Outlook,
    Quota,
    Rate,
    Rates,
    Reading,
    Readings,
)
from proxy.routing.rules import estimated_nano_usd, missed_by_reading

_WITHOUT: Mapping[str, dict[str, Any]] = {
    "supports": {"supports": None},
    "context_window": {"context_window": None},
}
"""By the rule under which a request does not fit a target, the target's claim that says so, taken back."""


def explain(
    router: Router,
    facts: Facts,
    readings: Readings,
    now: float,
    draw: float,
    rates: Rates = NO_RATES,
    funds: Funds = NO_FUNDS,
    outlook: Outlook = NO_OUTLOOK,
) -> Explanation:
    """Decide as `Router.decide` does with the same arguments, and say why."""
    decision = router.decide(facts, readings, now, draw, rates, funds, outlook)
    moment = Moment(readings, now, draw, outlook)
    lawful = router.lawful_set(facts)
    # A plan for another model has that model's route; what is explained is what became of the request's own.
    name = lawful.route if isinstance(lawful, Refusal) else lawful.route.name
    route = next((one for one in router.snapshot.routes if one.name == name), None)
    found = Explanation(
        policy=router.snapshot.revision,
        request=_asked(facts),
        refusal=_told(decision) if isinstance(decision, Refusal) else None,
        passed_over=_passed_over(router, facts, name),
        route=None if route is None else _applied(route),
        targets=() if route is None else _Field(router, route, facts, moment, funds).standings(decision),
        relaxed=isinstance(decision, Plan) and decision.relaxed,
        shadow=decision.shadow,
        rates=() if isinstance(lawful, Refusal) else _scopes(lawful.held + limits.of_caller(facts), facts, rates),
        budgets=() if isinstance(lawful, Refusal) else purses(router, facts, name, moment, rates, funds),
        served_as=decision.served_as if isinstance(decision, Plan) else None,
        uptime=None if isinstance(lawful, Refusal) else uptime.of_lawful(lawful, readings),
        output_tokens=limits.estimated_tokens(facts) - facts.input_tokens,
        output_assumed=facts.max_output_tokens is None,
        summary="",
    )
    return msgspec.structs.replace(found, summary=headline(found, facts.tenant))


def _asked(facts: Facts) -> Asked:
    return Asked(
        model=facts.model,
        tenant=facts.tenant.name,
        key=facts.key.name,
        tags=tuple(sorted(facts.tags | facts.tenant.tags)),
        endpoint=facts.endpoint,
        traffic=facts.traffic,
        stream=facts.stream,
        modalities=tuple(sorted(facts.modalities)),
        tools=facts.tools,
        input_tokens=facts.input_tokens,
        max_output_tokens=facts.max_output_tokens,
        lane=facts.lane_override,
        target=facts.target_override,
        at_s=facts.at_s,
        priority=facts.priority.name.lower(),
    )


def _told(refusal: Refusal) -> Told:
    return Told(
        status=refusal.status,
        code=refusal.code,
        type=refusal.type,
        message=refusal.message,
        rule=refusal.rule,
        retry_after_s=refusal.retry_after_s,
        retryable=refusal.retryable,
    )


def _passed_over(router: Router, facts: Facts, name: str) -> tuple[PassedOver, ...]:
    """The routes before the one that applies; all of them if none does, and none if there is no such model."""
    rows = {id(row.match): row for row in router.rows(facts)}
    if not rows:
        return ()
    found = []
    for route in router.snapshot.routes:
        if route.name == name:
            break
        unmet = conditions.unmet(route.match, rows.get(id(route.match)), facts)
        assert unmet is not None, f"route {route.name} matches, and {name} applies"
        found.append(PassedOver(route=route.name, needs=unmet[0], has=unmet[1]))
    return tuple(found)


def _applied(route: Route) -> Applied:
    return Applied(
        name=route.name,
        match=conditions.stated(route.match),
        rules=ruled.stated(route),
        prefer=route.prefer,
        lane_override=route.lane_override,
        target_override=route.target_override,
        max_failovers=route.max_failovers,
    )


def _scopes(held: tuple[limits.Held, ...], facts: Facts, rates: Rates) -> tuple[Scope, ...]:
    """Every limit by itself, with what has been used of it."""
    found = []
    for one in held:
        rate, mode = limits.used(one, rates), one.manner.name.lower()
        for name, used, allowed, alone in _each(one.limits, rate):
            verdict = limits.judge((limits.Held(one.scope, one.rule, alone, one.manner, one.bucket),), facts, rates)
            over = verdict.refused is not None or bool(verdict.wanted or verdict.shadow)
            rule = f"{one.rule}.{name}"
            found.append(Scope(scope=one.scope, rule=rule, used=used, allowed=allowed, mode=mode, over=over))
    return tuple(found)


def _each(given: Limits, rate: Rate) -> Iterator[tuple[str, int, int, Limits]]:
    """The limits that are set: name, what is used, what is allowed, and the limit alone."""
    if given.rpm is not None:
        yield "rpm", rate.requests, given.rpm, Limits(rpm=given.rpm)
    if given.tpm is not None:
        yield "tpm", rate.tokens, given.tpm, Limits(tpm=given.tpm)
    if given.concurrency is not None:
        yield "concurrency", rate.in_flight, given.concurrency, Limits(concurrency=given.concurrency)


class _Field:
    """The targets of one model under one route, as one request meets them."""

    def __init__(self, router: Router, route: Route, facts: Facts, moment: Moment, funds: Funds) -> None:
        self._router, self._route = router, route
        self._facts, self._readings, self._now, self._outlook = facts, moment.readings, moment.now, moment.outlook
        self._funds = funds
        self._asked = gates.Asked(
            require=route.require,
            endpoint=facts.endpoint,
            lane_override=facts.lane_override,
            target_override=facts.target_override,
        )

    def standings(self, decision: Decision) -> tuple[Standing, ...]:
        """Each target once: those of the plan in its order, then the others in the model's.

        The targets of a model that is served instead come before those of the model that was asked for.
        """
        models, served_as = self._router.snapshot.models, decision.served_as if isinstance(decision, Plan) else None
        candidates = models[served_as] + models[self._facts.model] if served_as else models[self._facts.model]
        once = {candidate.target.name: candidate for candidate in reversed(candidates)}
        found = [self._standing(candidate, decision) for candidate in reversed(once.values())]
        last = len(found)
        return tuple(sorted(found, key=lambda one: one.places[0].ordinal if one.places else last))

    def _standing(self, candidate: Candidate, decision: Decision) -> Standing:
        target = candidate.target
        places = _places(target, decision)
        excluded = [one for one in decision.excluded if one.target == target.name]
        bars = [one for one in excluded if not one.rule.startswith("want.")]
        out = bars[0] if bars and not places else None
        others = [] if places else [one for one in dict.fromkeys(self._bars(target)) if one != out]
        return Standing(
            target=target.name,
            lane=target.lane,
            region=target.region,
            places=places,
            out=out,
            others=tuple(others),
            wants=tuple(one for one in excluded if one.rule.startswith("want.")),
            despite=tuple(bars) if places else (),
            observed=tuple(self._observed(target)),
            cost=_cost(target, self._facts),
        )

    def _bars(self, target: Target) -> Iterator[Exclusion]:
        """Everything that keeps the request from the target, in the order in which the decision would meet it."""
        static = promises.missed_by_policy(target, self._route.require, strict=True)
        found = gates.endpoint(target, self._asked)
        if found is not None:
            yield found
        yield from gates.recorded(target, static)
        for gate in (gates.lane_override, gates.target_override):
            found = gate(target, self._asked)
            if found is not None:
                yield found
        yield from self._unaffordable(target)
        yield from self._unfit(target)
        seen, room = self._seen(target), self._router.room
        usable = capacity.able(target, seen, self._facts, self._now, room)
        if not usable:
            yield capacity.shortage(target, seen, self._facts, self._now, room)
        misses = [missed_by_reading(self._route.require, reading) for reading in usable or seen]
        if all(misses):
            yield from gates.recorded(target, misses[0])

    def _unaffordable(self, target: Target) -> Iterator[Exclusion]:
        """Every budget that cannot pay for the target."""
        for budget in self._router.budgets_of(self._facts, self._route.name):
            if budget.enforce is not Enforce.SHADOW:
                yield from budgets.judge((budget,), (target,), self._facts, self._funds).left_out.values()

    def _unfit(self, target: Target) -> Iterator[Exclusion]:
        """Every way in which the request does not fit: asked again without the claim that was found wanting."""
        found = gates.unfit(target, self._route.require, self._facts)
        while found is not None:
            yield found
            if found.rule not in _WITHOUT:
                return
            target = replace(target, **_WITHOUT[found.rule])
            found = gates.unfit(target, self._route.require, self._facts)

    def _seen(self, target: Target) -> tuple[Reading, ...]:
        unseen = (Reading(target=target.name, replica=index, as_of=0.0) for index in range(target.replicas))
        return self._readings.get(target.name) or tuple(unseen)

    def _observed(self, target: Target) -> Iterator[Observed]:
        now, known = self._now, target.name in self._readings
        steps = Steps(target) if target.lane is Lane.DEDICATED else None
        for reading in self._seen(target):
            quota = reading.quota
            yield Observed(
                replica=reading.replica,
                seen=known,
                in_flight=reading.in_flight,
                max_in_flight=capacity.max_in_flight(target),
                breaker=reading.breaker,
                probe_in_s=max(0.0, reading.open_until - now) if reading.breaker is Breaker.OPEN else None,
                full_for_s=_until(reading.full_until, now),
                paced_for_s=_until(reading.paced_until, now),
                latency=reading.latency,
                uptime=reading.uptime,
                failures=reading.failures,
                quota=None if quota is None else _allowance(quota, now),
                work=None if steps is None else self._work(steps, reading),
            )

    def _work(self, steps: Steps, reading: Reading) -> Work | None:
        load = reading.load
        if load is None:
            return None
        found = predicted(steps, reading, self._facts, self._outlook)
        return Work(
            waiting=load.waiting,
            queued_tokens=load.queued_tokens,
            decoding=load.decoding,
            context_tokens=load.context_tokens,
            ttft_factor=load.ttft_factor,
            itl_factor=load.itl_factor,
            samples=load.samples,
            ttft_s=found.ttft_s,
            itl_s=found.itl_s,
            hit_tokens=found.hit_tokens,
        )


def _places(target: Target, decision: Decision) -> tuple[Place, ...]:
    attempts = decision.attempts if isinstance(decision, Plan) else ()
    return tuple(
        Place(ordinal=one.ordinal, replica=one.replica, model=one.model, cause=one.cause, reason=one.reason)
        for one in attempts
        if one.target is target
    )


def _cost(target: Target, facts: Facts) -> Cost:
    gpus, price = target.gpus, target.price
    if target.lane is not Lane.DEDICATED:
        source = "unknown" if price is None else price.source
        return Cost(nano_usd=estimated_nano_usd(target, facts), price_source=source)
    if gpus is None:
        return Cost(nano_usd=0, price_source="gpu-hours")
    replicas = gpus.behind(target.replicas) or target.replicas
    return Cost(
        nano_usd=0,
        price_source="gpu-hours",
        gpus=f"{gpus.count * replicas} {gpus.type}",
        gpu_nano_usd_per_hour=gpus.rate(replicas, facts.at_s),
    )


def _allowance(quota: Quota, now: float) -> Allowance:
    resets_in_s = max(0.0, quota.reset_at - now)
    return Allowance(unit=quota.unit, limit=quota.limit, remaining=quota.remaining, resets_in_s=resets_in_s)


def _until(time: float, now: float) -> float | None:
    return time - now if time > now else None
