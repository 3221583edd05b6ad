"""Compiles `routes`, and finds the ones that cannot work: never reached, or with no lawful target.

Theory of operation
-------------------
Routes are first-match, so a route is dead when an earlier one takes everything it would match; and the last one must
match everything, so that no request is left without a rule. A route whose gates leave no target for any of its models
can only refuse, which is a mistake when the policy is written and an outage when it is served.

`require: {retention: 30d}` means *at most* thirty days. That is resolved here, to the retentions of the policy's own
targets that satisfy it, so the gate on the request path stays a comparison of words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Candidate, Match, Require, Route, Target, Tenant, Want, matches_any
from proxy.policy.schema import MatchSpec, RequireSpec, RouteSpec, WantSpec
from proxy.policy.units import duration_s
from proxy.policy.words import did_you_mean

Models = Mapping[str, tuple[Candidate, ...]]


def compile_routes(specs: Iterable[tuple[int, RouteSpec]], offered: frozenset[str]) -> list[tuple[int, Route]]:
    """The routes in order, each with its index in the file; `offered` are the retentions that the targets have."""
    return [(index, _route(spec, offered)) for index, spec in specs]


def check_names(
    routes: list[tuple[int, Route]], models: frozenset[str], tenants: frozenset[str], findings: Findings
) -> None:
    """Every model and tenant that a route matches must exist, and route names must differ."""
    seen: dict[str, int] = {}
    for index, route in routes:
        loc: Loc = ("routes", index)
        if route.name in seen:
            findings.problem((*loc, "name"), f"a second route named `{route.name}`", "rename one")
        seen.setdefault(route.name, index)
        for model in sorted((route.match.models or frozenset()) - models):
            findings.unknown((*loc, "match", "model"), "model", model, models)
        for tenant in sorted((route.match.tenants or frozenset()) - tenants):
            findings.unknown((*loc, "match", "tenant"), "tenant", tenant, tenants)


def check_order(routes: list[tuple[int, Route]], count: int, findings: Findings) -> None:
    """The last of the file's `count` routes catches all, and none stands behind one that takes all it would match."""
    for position, (index, route) in enumerate(routes):
        earlier = next((one for _, one in routes[:position] if covers(one.match, route.match)), None)
        if earlier is not None:
            message = f"route `{route.name}` is never reached: `{earlier.name}` before it takes all its requests"
            findings.problem(("routes", index), message, "put the narrower route first")
    if routes and routes[-1][0] == count - 1 and not routes[-1][1].match.catches_all:
        hint = "end with a route without `match`, such as `- name: default`"
        findings.problem(("routes", count - 1), "the last route does not match every request", hint)


def check_lawful(route: Route, loc: Loc, models: Models, findings: Findings) -> None:
    """At least one target must pass the gates of `route` for at least one model that it takes."""
    taken = [name for name in models if route.match.models is None or name in route.match.models]
    candidates = [candidate.target for name in taken for candidate in models[name]]
    if not candidates:
        return
    lawful = {target.name for target in candidates if is_lawful(target, route.require)}
    if not lawful:
        key, message = _narrowest(route.require, candidates)
        findings.problem((*loc, "require", *key), message, "it could only refuse; widen the gate or add a target")
        return
    for name in taken:
        if not any(candidate.target.name in lawful for candidate in models[name]):
            hint = "add a lawful target to it, or narrow the route's `match`"
            findings.warning(loc, f"route `{route.name}` refuses model `{name}`: it has no lawful target", hint)


def is_lawful(target: Target, require: Require) -> bool:
    """Whether `target` passes every gate that does not depend on the request. Unknown is never good enough."""
    return (
        (not require.regions or (target.region != "unknown" and matches_any(target.region, require.regions)))
        and (not require.retention or target.retention in require.retention)
        and require.lane in (None, target.lane)
        and require.tags <= target.tags
    )


def check_tags(routes: list[tuple[int, Route]], tenants: Mapping[str, Tenant], findings: Findings) -> None:
    """A tag that no tenant has is probably misspelt, and a gate behind it would never close."""
    known = frozenset(tag for tenant in tenants.values() for tag in tenant.tags)
    for index, route in routes:
        for tag in sorted(route.match.tags - known) if tenants else ():
            hint = did_you_mean(tag, known) or "give it to a tenant"
            findings.warning(("routes", index, "match", "tags"), f"no tenant has the tag `{tag}`", hint)


def _route(spec: RouteSpec, offered: frozenset[str]) -> Route:
    return Route(
        name=spec.name,
        match=_match(spec.match),
        require=_require(spec.require, offered),
        want=_want(spec.want, offered),
        prefer=spec.prefer,
        lane_override=spec.lane_override,
        max_failovers=spec.max_failovers,
    )


def _match(spec: MatchSpec) -> Match:
    models = [*(spec.model or ()), *(spec.models or ())]
    return Match(
        models=frozenset(models) if models else None,
        endpoints=frozenset(spec.endpoint) if spec.endpoint else None,
        tenants=frozenset(spec.tenant) if spec.tenant else None,
        tags=frozenset(spec.tags),
        traffic=spec.traffic,
        stream=spec.stream,
    )


def _require(spec: RequireSpec, offered: frozenset[str]) -> Require:
    return Require(
        regions=tuple(spec.region),
        retention=_at_most(spec.retention, offered),
        lane=spec.lane,
        tags=frozenset(spec.tags),
    )


def _want(spec: WantSpec, offered: frozenset[str]) -> Want:
    return Want(
        regions=tuple(spec.region),
        retention=_at_most(spec.retention, offered),
        lane=spec.lane,
        ttft_p99_s=spec.ttft_p99,
        itl_p99_s=spec.itl_p99,
        uptime=spec.uptime,
        nano_usd_per_mtok=spec.usd_per_mtok,
    )


def _at_most(wanted: tuple[str, ...], offered: frozenset[str]) -> tuple[str, ...]:
    """The wanted retentions, and every offered one that is shorter than one of them."""
    limits = [seconds for seconds in map(_retention_s, wanted) if seconds is not None]
    shorter = {one for one in offered for s in [_retention_s(one)] if s is not None and limits and s <= max(limits)}
    return (*wanted, *sorted(shorter - set(wanted)))


def _retention_s(retention: str) -> float | None:
    if retention == "unknown":
        return None
    return 0.0 if retention == "zero" else duration_s(retention)


def covers(wide: Match, narrow: Match) -> bool:
    """Whether every request that `narrow` matches is matched by `wide` too."""
    sets = ((wide.models, narrow.models), (wide.endpoints, narrow.endpoints), (wide.tenants, narrow.tenants))
    return (
        all(outer is None or (inner is not None and inner <= outer) for outer, inner in sets)
        and wide.tags <= narrow.tags
        and wide.traffic in (None, narrow.traffic)
        and wide.stream in (None, narrow.stream)
    )


def _narrowest(require: Require, candidates: list[Target]) -> tuple[Loc, str]:
    """The loc below `require` and the words for the gate that shuts everything out, or for all of them together."""
    for key, gate, spelled in (
        ("region", Require(regions=require.regions), " or ".join(f"`{glob}`" for glob in require.regions)),
        ("retention", Require(retention=require.retention), " or ".join(f"`{one}`" for one in require.retention)),
        ("lane", Require(lane=require.lane), f"`{require.lane}`"),
        ("tags", Require(tags=require.tags), " and ".join(f"`{tag}`" for tag in sorted(require.tags))),
    ):
        if not any(is_lawful(target, gate) for target in candidates):
            return (key,), f"no target of this route's models has {key} {spelled}"
    return (), "no target of this route's models passes all its gates together"
