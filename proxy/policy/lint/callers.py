"""Lints of tenants, keys and limits: who can never be served, and which limits nobody can reach.

Theory of operation
-------------------
A tenant's request reaches a route that names the tenant, or none, and only tags that the tenant has or may bring. The
walk stops at a route that takes whatever is left of it for certain. Tenants that no route can tell apart are judged
once: there may be thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.lint.scope import Scope
from proxy.policy.model import Lane, Limits, Match, Mode, Snapshot, Target, Tenant

_DIMENSIONS = ("rpm", "tpm", "concurrency")


@dataclass(frozen=True, slots=True)
class _Caller:
    """What routes can see of a tenant and one of its keys; empty where no route asks."""

    tenant: str
    key: str
    tags: frozenset[str]
    may_add: frozenset[str]


def lint_callers(snapshot: Snapshot, routes: Sequence[Scope], findings: Findings) -> None:
    """All that can be said of the tenants, their keys and the limits."""
    for scope in routes:
        _route_limits(scope, findings)
    served: dict[frozenset[_Caller], dict[str, frozenset[str]]] = {}
    targets = {target.name: target for scope in routes for target in scope.targets}
    callers = _callers(snapshot, routes)
    for name, tenant in snapshot.tenants.items():
        seen = callers[name]
        if seen not in served:
            served[seen] = _served(seen, snapshot, routes)
        _unservable(tenant, served[seen], snapshot, findings)
        if tenant.limits:
            allowed = snapshot.models.keys() if tenant.models is None else tenant.models
            reached = {target for model in allowed for target in served[seen].get(model, ())}
            above = [targets[target] for target in sorted(reached)]
            _out_of_reach(("tenants", name), f"tenant `{name}`", tenant.limits, above, findings)
    _key_limits(snapshot, findings)


def _key_limits(snapshot: Snapshot, findings: Findings) -> None:
    for key in snapshot.keys.values():
        for dimension in _DIMENSIONS if key.limits else ():
            own, around = getattr(key.limits, dimension), getattr(key.tenant.limits, dimension)
            if own is not None and around is not None and own > around and key.tenant.limits.mode is Mode.ENFORCE:
                message = f"key `{key.name}` may have {dimension} {own}, and its tenant only {around}"
                loc = ("tenants", key.tenant.name, "keys")
                findings.warning(Check.LIMIT_OUT_OF_REACH, loc, message, "lower it, or raise the tenant's")


def _callers(snapshot: Snapshot, routes: Iterable[Scope]) -> dict[str, frozenset[_Caller]]:
    matches = [scope.route.match for scope in routes]
    tenants = frozenset(name for match in matches for name in match.tenants or ())
    keys = frozenset(name for match in matches for name in match.keys or ())
    tags = frozenset(tag for match in matches for tag in match.tags)
    found: dict[str, set[_Caller]] = {name: set() for name in snapshot.tenants}
    for key in snapshot.keys.values():
        tenant = key.tenant
        may_add = tags if tenant.request_tags is None else tenant.request_tags & tags
        name = tenant.name if tenant.name in tenants else ""
        found[tenant.name].add(_Caller(name, key.name if key.name in keys else "", key.tags & tags, may_add))
    return {name: frozenset(callers) for name, callers in found.items()}


def _served(callers: Iterable[_Caller], snapshot: Snapshot, routes: Sequence[Scope]) -> dict[str, frozenset[str]]:
    """By model, the names of the targets that may answer the callers; models without any are left out."""
    found: dict[str, set[str]] = {}
    for caller in callers:
        reached = [scope for scope in routes if _may_match(scope.route.match, caller)]
        for model in snapshot.models:
            for scope in reached:
                if model in scope.lawful:
                    found.setdefault(model, set()).update(target.name for target in scope.lawful[model])
                    if _takes_all(scope.route.match, caller):
                        break
    return {model: frozenset(names) for model, names in found.items() if names}


def _may_match(match: Match, caller: _Caller) -> bool:
    return (
        (match.tenants is None or caller.tenant in match.tenants)
        and (match.keys is None or caller.key in match.keys)
        and match.tags <= caller.tags | caller.may_add
    )


def _takes_all(match: Match, caller: _Caller) -> bool:
    """Whether the match, which may apply, applies to every request of the caller for one of its models."""
    asked = Match(models=match.models, tenants=match.tenants, keys=match.keys, tags=match.tags)
    return match == asked and match.tags <= caller.tags


def _unservable(tenant: Tenant, served: dict[str, frozenset[str]], snapshot: Snapshot, findings: Findings) -> None:
    asked = snapshot.models.keys() if tenant.models is None else tenant.models
    refused = sorted(asked - served.keys())
    loc: Loc = ("tenants", tenant.name)
    hint = "add a lawful target, or widen the gates of a route that it reaches"
    if refused and len(refused) == len(asked):
        message = f"tenant `{tenant.name}` can never be served: its routes have no lawful target for its models"
        findings.warning(Check.UNSERVABLE_TENANT, loc, message, hint)
    elif tenant.models is not None:
        for model in refused:
            message = f"tenant `{tenant.name}` can never be served `{model}`: its routes have no lawful target for it"
            findings.warning(Check.UNSERVABLE_TENANT, (*loc, "models"), message, hint)


def _route_limits(scope: Scope, findings: Findings) -> None:
    loc, name = (*scope.loc, "require"), f"route `{scope.route.name}`"
    _out_of_reach(loc, name, scope.route.require.limits, scope.targets, findings)


def _out_of_reach(loc: Loc, who: str, limits: Limits, targets: Sequence[Target], findings: Findings) -> None:
    for dimension in _DIMENSIONS if limits and limits.mode is Mode.ENFORCE and targets else ():
        own, ceiling = getattr(limits, dimension), _ceiling(targets, dimension)
        if own is not None and ceiling is not None and own > ceiling:
            message = f"{who} may have {dimension} {own}, and all its targets together only {ceiling}"
            hint = "lower it, add a target, or raise the targets' `limits`"
            findings.warning(Check.LIMIT_OUT_OF_REACH, (*loc, dimension), message, hint)


def _ceiling(targets: Iterable[Target], dimension: str) -> int | None:
    """What the targets allow together; None when one of them states no limit."""
    stated = [_stated(target, dimension) for target in targets]
    known = [limit for limit in stated if limit is not None]
    return sum(known) if len(known) == len(stated) else None


def _stated(target: Target, dimension: str) -> int | None:
    if dimension == "concurrency":
        return None if target.max_in_flight is None else target.max_in_flight * target.replicas
    limit: int | None = getattr(target.limits, dimension) if target.lane is Lane.SHARED else None
    return limit
