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
from dataclasses import fields
from typing import Any

from proxy.policy import promises, times
from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import (
    UNLIMITED,
    Candidate,
    Hedge,
    Key,
    Limits,
    Match,
    Mode,
    Objective,
    Route,
    Rules,
    Target,
    Tenant,
)
from proxy.policy.reach import unreachable
from proxy.policy.schema import MatchSpec, RouteSpec, RulesSpec
from proxy.policy.shape import Ruled
from proxy.policy.units import duration_s
from proxy.policy.words import did_you_mean

Models = Mapping[str, tuple[Candidate, ...]]


def compile_routes(specs: Iterable[tuple[int, RouteSpec]], offered: frozenset[str]) -> list[tuple[int, Route]]:
    """The routes in order, each with its index in the file; `offered` are the retentions that the targets have."""
    return [(index, _route(spec, offered)) for index, spec in specs]


def check_names(
    routes: list[tuple[int, Route]],
    models: frozenset[str],
    tenants: frozenset[str],
    keys: frozenset[str],
    findings: Findings,
) -> None:
    """Every model, tenant and key that a route matches must exist, and route names must differ."""
    seen: dict[str, int] = {}
    for index, route in routes:
        loc: Loc = ("routes", index)
        if route.name in seen:
            findings.problem(
                (*loc, "name"), f"a second route named `{route.name}`", "rename one", check=Check.DUPLICATE
            )
        seen.setdefault(route.name, index)
        for model in sorted((route.match.models or frozenset()) - models):
            findings.unknown((*loc, "match", "model"), "model", model, models)
        for tenant in sorted((route.match.tenants or frozenset()) - tenants):
            findings.unknown((*loc, "match", "tenant"), "tenant", tenant, tenants)
        for key in sorted((route.match.keys or frozenset()) - keys):
            hint = did_you_mean(key, keys) or "name one as `tenant/key`, with `name:` beside its digest"
            if not findings.has_dropped("tenants"):
                findings.problem((*loc, "match", "key"), f"unknown key `{key}`", hint, check=Check.UNKNOWN_NAME)


def check_spans(routes: list[tuple[int, Route]], findings: Findings) -> None:
    """A span of token counts that ends before it begins matches nothing."""
    for index, route in routes:
        least, most = route.match.min_input_tokens, route.match.max_input_tokens
        if least is not None and most is not None and least > most:
            message = f"no prompt has at least {least} and at most {most} tokens"
            findings.problem(("routes", index, "match", "input_tokens"), message, "`min` is the smaller of the two")


def check_order(routes: list[tuple[int, Route]], count: int, models: frozenset[str], findings: Findings) -> None:
    """The last of the file's `count` routes catches all, and none stands behind others that take all it would match."""
    for position, earlier in unreachable([route for _, route in routes], models):
        index, route = routes[position]
        taken = " and ".join(f"`{name}`" for name in earlier)
        verb = "takes" if len(earlier) == 1 else "take"
        message = f"route `{route.name}` is never reached: {taken} before it {verb} all its requests"
        hint = "put the narrower route first"
        findings.problem(("routes", index), message, hint, check=Check.UNREACHABLE_ROUTE)
    if routes and routes[-1][0] == count - 1 and not routes[-1][1].match.catches_all:
        hint = "end with a route without `match`, such as `- name: default`"
        message = "the last route does not match every request"
        findings.problem(("routes", count - 1), message, hint, check=Check.NO_CATCH_ALL)


def check_lawful(routes: Iterable[tuple[int, Route]], models: Models, findings: Findings) -> None:
    """At least one target must pass the gates of a route for at least one model that it takes."""
    targets = {id(one.target): one.target for candidates in models.values() for one in candidates}
    lawful_under: dict[Rules, frozenset[int]] = {}
    for index, route in routes:
        require = route.require
        if require not in lawful_under:
            lawful_under[require] = frozenset(key for key, one in targets.items() if _is_lawful(one, require))
        lawful = lawful_under[require]
        if len(lawful) < len(targets):
            _check_lawful(route, ("routes", index), models, lawful, findings)


def _check_lawful(route: Route, loc: Loc, models: Models, lawful: frozenset[int], findings: Findings) -> None:
    taken = [name for name in models if route.match.models is None or name in route.match.models]
    refused = [name for name in taken if all(id(one.target) not in lawful for one in models[name])]
    if len(refused) < len(taken):
        for name in refused:
            hint = "add a lawful target to it, or narrow the route's `match`"
            message = f"route `{route.name}` refuses model `{name}`: it has no lawful target"
            findings.warning(Check.REFUSED_MODEL, loc, message, hint)
        return
    candidates = [candidate.target for name in taken for candidate in models[name]]
    if candidates:
        key, message = _narrowest(route.require, candidates)
        hint = "it could only refuse; widen the gate or add a target"
        findings.problem((*loc, "require", *key), message, hint, check=Check.NO_LAWFUL_TARGET)


def check_tags(
    routes: list[tuple[int, Route]], tenants: Mapping[str, Tenant], keys: Iterable[Key], findings: Findings
) -> None:
    """A tag that no tenant or key has, and no request may bring, is probably misspelt: its gates would never close."""
    brought = frozenset(tag for tenant in tenants.values() for tag in tenant.request_tags or ())
    known = brought | frozenset(tag for key in keys for tag in key.tags)
    for index, route in routes:
        for tag in sorted(route.match.tags - known) if tenants else ():
            hint = did_you_mean(tag, known) or "give it to a tenant, or to its `request_tags`"
            message = f"no tenant has the tag `{tag}`"
            findings.warning(Check.UNKNOWN_TAG, ("routes", index, "match", "tags"), message, hint)


def _route(spec: RouteSpec, offered: frozenset[str]) -> Route:
    require, shadow_require = _rules(spec.require, spec.mode, offered)
    want, shadow_want = _rules(spec.want, spec.mode, offered)
    return Route(
        name=spec.name,
        match=_match(spec.match),
        require=require,
        want=want,
        shadow_require=shadow_require,
        shadow_want=shadow_want,
        prefer=spec.prefer,
        lane_override=spec.lane_override,
        target_override=spec.target_override,
        max_failovers=spec.max_failovers,
        wait_s=spec.wait,
        deadline_s=spec.deadline,
        hedge=None if spec.hedge is None else Hedge(after=spec.hedge.after, budget_share=spec.hedge.budget),
    )


def _match(spec: MatchSpec) -> Match:
    models = [*(spec.model or ()), *(spec.models or ())]
    return Match(
        models=frozenset(models) if models else None,
        endpoints=frozenset(spec.endpoint) if spec.endpoint else None,
        tenants=frozenset(spec.tenant) if spec.tenant else None,
        keys=frozenset(spec.key) if spec.key else None,
        tags=frozenset(spec.tags),
        traffic=spec.traffic,
        stream=spec.stream,
        modalities=frozenset(spec.modality) if spec.modality else None,
        tools=spec.tools,
        min_input_tokens=spec.input_tokens.min if spec.input_tokens else None,
        max_input_tokens=spec.input_tokens.max if spec.input_tokens else None,
        schedule=times.schedule(spec.time.days, spec.time.hours, spec.time.zone) if spec.time else None,
    )


def _rules(spec: RulesSpec, mode: Mode | None, offered: frozenset[str]) -> tuple[Rules, Rules]:
    """(rules in force, rules in shadow): the nearest `mode` counts, the rule's own before the block's, the route's."""
    around = spec.mode or mode or Mode.ENFORCE
    given = {one.name: getattr(spec, one.name) for one in fields(spec) if one.name != "mode"}
    rules = {name: rule for name, rule in given.items() if isinstance(rule, Ruled)}
    shadows = {name for name, rule in rules.items() if (rule.mode or around) is Mode.SHADOW}
    enforced = {name: rule.value for name, rule in rules.items() if name not in shadows}
    return _frozen(enforced, offered), _frozen({name: rules[name].value for name in shadows}, offered)


def _frozen(given: Mapping[str, Any], offered: frozenset[str]) -> Rules:
    limits = {name: given[name] for name in ("rpm", "tpm", "concurrency") if name in given}
    return Rules(
        regions=given.get("region", ()),
        retention=_at_most(given.get("retention", ()), offered),
        lane=given.get("lane"),
        tags=frozenset(given.get("tags", ())),
        no_training=given.get("training", False),
        quantization=frozenset(given.get("quantization", ())),
        nano_usd_per_mtok=given.get("usd_per_mtok"),
        max_nano_usd_per_request=given.get("max_usd_per_request"),
        uptime=given.get("uptime"),
        objectives=tuple(_objective(name, given[name]) for name in sorted(given) if _is_objective(name)),
        limits=Limits(**limits) if limits else UNLIMITED,
    )


def _is_objective(name: str) -> bool:
    return name.startswith(("ttft_", "itl_", "e2e_", "perceived_tps"))


def _objective(rule: str, value: float) -> Objective:
    if not rule.startswith("perceived_tps"):
        return Objective(rule=rule, field=f"{rule}_s", limit_s=value)
    quantile = rule.removeprefix("perceived_tps").removeprefix("_") or "p99"
    return Objective(rule=rule, field=f"itl_{quantile}_s", limit_s=1 / value)


def _at_most(wanted: tuple[str, ...], offered: frozenset[str]) -> tuple[str, ...]:
    """The wanted retentions, and every offered one that is shorter than one of them."""
    limits = [seconds for seconds in map(_retention_s, wanted) if seconds is not None]
    shorter = {one for one in offered for s in [_retention_s(one)] if s is not None and limits and s <= max(limits)}
    return (*wanted, *sorted(shorter - set(wanted)))


def _retention_s(retention: str) -> float | None:
    if retention == "unknown":
        return None
    return 0.0 if retention == "zero" else duration_s(retention)


def _is_lawful(target: Target, require: Rules) -> bool:
    return not any(rule(target, require, True) for rule in promises.STATIC)


def _narrowest(require: Rules, candidates: list[Target]) -> tuple[Loc, str]:
    """The loc below `require` and the words for the gate that shuts everything out, or for all of them together."""
    for rule in promises.STATIC:
        misses = [rule(target, require, True) for target in candidates]
        first = misses[0]
        if first is not None and all(miss is not None for miss in misses):
            seen = ", ".join(sorted({f"`{miss.observed}`" for miss in misses if miss is not None}))
            return (first.rule,), f"no target of this route's models has {first.rule} `{first.limit}`: they have {seen}"
    return (), "no target of this route's models passes all its gates together"
