"""Everything about choosing that the policy alone settles, worked out at most once per snapshot.

Theory of operation
-------------------
For each public model and each route that can match it, the gates and the static wants give the same answer to every
request of the same endpoint and caller's choice. `Row.lawful` holds those answers: the lawful targets in the route's
order of preference, and every other target with the gate that bars it. A request then costs one look-up and a walk over
its lawful targets. A target that is not in `Lawful.entries` cannot get into a plan: plans have no other source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from proxy.policy import promises
from proxy.policy.model import Candidate, Endpoint, Lane, Match, Modality, Prefer, Route, Snapshot, Target
from proxy.routing import gates, limits, predict, refusals, rules, wants
from proxy.routing.budgets import countable
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Cause, Exclusion, Plan, Refusal
from proxy.routing.predict import Aims, Steps
from proxy.routing.readings import Reading

FALLBACK_REASON = "fallback: next lawful target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One lawful target, with what is known about it beforehand.

    `missed` are the wants that it misses whatever its readings. `unseen` stands in for absent readings: a replica
    nobody has observed is taken to be idle and healthy, or a new target would never get its first request. `picky`
    says that some requests may be unfit for it. `steps` predict what a dedicated replica makes of a request.
    """

    target: Target
    model: str
    dedicated: bool
    missed: tuple[Exclusion, ...]
    unseen: tuple[Reading, ...]
    picky: bool
    steps: Steps | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lawful:
    """The lawful set of one (model, route, endpoint, caller's choice), best first.

    `barred` are the targets that a gate keeps out; `excluded` adds the static wants that lawful targets miss. `refusal`
    is set when nothing is lawful. `gated` says that gates have to be measured, `varies` that the order depends on
    the request or on readings too. `held` are the route's rates. `shadow` is what its static shadow rules find, and
    `shadowed` says that others have to be asked each time. `counted` says that all of it has a price. `ready` is the
    plan while every target is able and misses nothing, made once; None where it depends on the moment anyway. `aims`
    are what the route wants of the times that are predicted.
    """

    route: Route
    entries: tuple[Entry, ...]
    barred: tuple[Exclusion, ...]
    excluded: tuple[Exclusion, ...]
    refusal: Refusal | None
    reason: str
    gated: bool
    varies: bool
    held: tuple[limits.Held, ...]
    shadow: tuple[Exclusion, ...]
    shadowed: bool
    counted: bool
    ready: Plan | None
    aims: Aims


Choice = tuple[Endpoint, Lane | None, str | None]
"""What a caller chooses: the endpoint, and perhaps a lane or one target."""


class LawfulSets(dict[Choice, Lawful]):
    """By caller's choice. Each set is worked out when it is first asked for, and never changes.

    Most routes see one or two of all the choices; computing every one would make a reload of a large policy stall the
    event loop. What is kept depends on the snapshot alone, so no request can tell whether it came first. Nobody can
    make it grow without bounds: only a target of the model is ever looked up.
    """

    __slots__ = ("_evaluate",)

    def __init__(self, evaluate: Callable[[Endpoint, Lane | None, str | None], Lawful]) -> None:
        super().__init__()
        self._evaluate = evaluate

    def __missing__(self, asked: Choice) -> Lawful:
        lawful = self[asked] = self._evaluate(*asked)
        return lawful


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One route as it applies to one public model. `particular` says that its match asks for more than most do."""

    match: Match
    particular: bool
    names: frozenset[str]
    lawful: LawfulSets


Table = Mapping[str, tuple[Row, ...]]
"""By public model name, the routes that can match it, in first-match order."""


def concerned(snapshot: Snapshot) -> Mapping[str, tuple[Candidate, ...]]:
    """By public model, its candidates and those of the models that budgets may put in its place."""
    instead = [budget for budget in snapshot.budgets if budget.downgrade is not None]
    concerned = dict(snapshot.models)
    for model in snapshot.models:
        more = {one.downgrade for one in instead if one.models is None or model in one.models} - {model, None}
        for other in sorted(filter(None, more)):
            known = {candidate.target.name for candidate in concerned[model]}
            concerned[model] += tuple(one for one in snapshot.models.get(other, ()) if one.target.name not in known)
    return concerned


def compile_table(snapshot: Snapshot) -> Table:
    """Evaluate the static part of every decision that `snapshot` can lead to."""
    return {
        model: tuple(_row(model, candidates, route) for route in snapshot.routes if _concerns(route.match, model))
        for model, candidates in snapshot.models.items()
    }


def applies(row: Row, facts: Facts) -> bool:
    """Whether a route of the request's model matches the rest of its facts."""
    return first_match((row,), facts) is not None


def first_match(rows: tuple[Row, ...], facts: Facts) -> Row | None:
    """The first of the model's routes that matches the rest of the request's facts. A tenant's own tags always count.

    Ordered by what most often tells routes apart; a policy may have hundreds of them.
    """
    tags = facts.tags | facts.tenant.tags
    tenant, endpoint, traffic, stream = facts.tenant.name, facts.endpoint, facts.traffic, facts.stream
    for row in rows:
        match = row.match
        if match.tags and not match.tags <= tags:
            continue
        if match.tenants is not None and tenant not in match.tenants:
            continue
        if match.endpoints is not None and endpoint not in match.endpoints:
            continue
        if match.traffic is not None and traffic is not match.traffic:
            continue
        if match.stream is not None and stream is not match.stream:
            continue
        if not row.particular or _applies_in_particular(match, facts):
            return row
    return None


def _applies_in_particular(match: Match, facts: Facts) -> bool:
    return (
        (match.keys is None or facts.key.name in match.keys)
        and (match.tools is None or facts.tools is match.tools)
        and (match.modalities is None or bool(match.modalities & (facts.modalities or _TEXT_ONLY)))
        and (match.min_input_tokens is None or facts.input_tokens >= match.min_input_tokens)
        and (match.max_input_tokens is None or facts.input_tokens <= match.max_input_tokens)
        and (match.schedule is None or match.schedule.covers(facts.at_s))
    )


_TEXT_ONLY = frozenset({Modality.TEXT})


def _is_particular(match: Match) -> bool:
    plain = Match(
        models=match.models,
        endpoints=match.endpoints,
        tenants=match.tenants,
        tags=match.tags,
        traffic=match.traffic,
        stream=match.stream,
    )
    return match != plain


def _concerns(match: Match, model: str) -> bool:
    return match.models is None or model in match.models


def _row(model: str, candidates: tuple[Candidate, ...], route: Route) -> Row:
    return Row(
        match=route.match,
        particular=_is_particular(route.match),
        names=frozenset(candidate.target.name for candidate in candidates),
        lawful=LawfulSets(partial(_lawful, model, route, candidates)),
    )


def _in_order(candidates: tuple[Candidate, ...], route: Route) -> list[Entry]:
    rank = _RANKS[route.prefer]
    entries = [_entry(candidate, route) for candidate in candidates]
    entries.sort(key=lambda entry: (len(entry.missed), rank(entry.target)))
    return entries


def _entry(candidate: Candidate, route: Route) -> Entry:
    target = candidate.target
    return Entry(
        target=target,
        model=candidate.model,
        dedicated=target.lane is Lane.DEDICATED,
        missed=wants.missed_by_policy(target, route.want),
        unseen=tuple(Reading(target=target.name, replica=index, as_of=0.0) for index in range(target.replicas)),
        picky=gates.depends_on_request(target, route.require),
        steps=Steps(target) if target.lane is Lane.DEDICATED else None,
    )


def _lawful(
    model: str,
    route: Route,
    candidates: tuple[Candidate, ...],
    endpoint: Endpoint,
    lane: Lane | None,
    pinned: str | None,
) -> Lawful:
    entries = _in_order(candidates, route)
    asked = gates.Asked(require=route.require, endpoint=endpoint, lane_override=lane, target_override=pinned)
    barriers = [gates.barrier(entry.target, asked) for entry in entries]
    passed = tuple(entry for entry, barrier in zip(entries, barriers, strict=True) if barrier is None)
    barred = tuple(barrier for barrier in barriers if barrier is not None)
    excluded = barred + tuple(miss for entry in passed for miss in entry.missed)
    by_latency = route.prefer is Prefer.LATENCY
    shadow = tuple(miss for entry in passed for miss in _static_shadow(entry.target, route))
    shadowed = any(wants.vary(shadows) for shadows in (route.shadow_require, route.shadow_want))
    at_once = not by_latency and not shadowed and all(entry.target.replicas == 1 for entry in passed)
    return Lawful(
        route=route,
        entries=passed,
        barred=barred,
        excluded=excluded,
        refusal=_never(model, route, asked, passed, barred),
        reason=f"preferred: {route.prefer}",
        gated=rules.is_measured(route.require),
        varies=wants.vary(route.want) or by_latency,
        held=limits.of_route(route),
        shadow=shadow,
        shadowed=shadowed,
        counted=all(countable(entry.target) for entry in passed),
        ready=_ready(route, passed, excluded, shadow) if passed and at_once else None,
        aims=predict.aims(route.require, route.want),
    )


def _never(
    model: str, route: Route, asked: gates.Asked, passed: tuple[Entry, ...], barred: tuple[Exclusion, ...]
) -> Refusal | None:
    """Why no request of this kind is ever served, if none is."""
    if asked.lane_override is not None and not route.lane_override:
        return refusals.lane_override_not_allowed(route, asked.lane_override)
    if asked.target_override is not None and not route.target_override:
        return refusals.target_override_not_allowed(route)
    if passed:
        return None
    return refusals.nothing_lawful(route, model, barred) if barred else refusals.model_not_found(model)


def _static_shadow(target: Target, route: Route) -> tuple[Exclusion, ...]:
    hard = promises.missed_by_policy(target, route.shadow_require, strict=True)
    soft = promises.missed_by_policy(target, route.shadow_want, strict=False)
    return (*gates.recorded(target, hard), *wants.recorded(target, soft))


def _ready(
    route: Route, entries: tuple[Entry, ...], excluded: tuple[Exclusion, ...], shadow: tuple[Exclusion, ...]
) -> Plan:
    first = [(Cause.PREFERRED, f"preferred: {route.prefer}")]
    causes = first + [(Cause.FALLBACK, FALLBACK_REASON)] * (len(entries) - 1)
    return Plan(
        route=route.name,
        attempts=tuple(
            Attempt(target=entry.target, replica=0, model=entry.model, ordinal=ordinal, cause=cause, reason=reason)
            for ordinal, (entry, (cause, reason)) in enumerate(zip(entries, causes, strict=True))
        ),
        excluded=excluded,
        relaxed=bool(entries[0].missed),
        max_failovers=route.max_failovers,
        shadow=shadow,
    )


Rank = tuple[int, int, int]


def _by_cost(target: Target) -> Rank:
    """Dedicated slots are paid for already; then the cheapest blended price; unknown prices last."""
    if target.lane is Lane.DEDICATED:
        return (0, 0, 0)
    return (1, 1, 0) if target.price is None else (1, 0, promises.blended_nano_usd_per_mtok(target.price))


def _dedicated_first(target: Target) -> Rank:
    return (int(target.lane is not Lane.DEDICATED), 0, 0)


def _shared_first(target: Target) -> Rank:
    return (int(target.lane is Lane.DEDICATED), 0, 0)


def _as_listed(target: Target) -> Rank:
    return (0, 0, 0)


_RANKS: Mapping[Prefer, Callable[[Target], Rank]] = {
    Prefer.COST: _by_cost,
    Prefer.DEDICATED: _dedicated_first,
    Prefer.SHARED: _shared_first,
    Prefer.LATENCY: _as_listed,
}
"""Sorting is stable, so equals keep the model's own order; latency is ordered from readings, request by request."""
