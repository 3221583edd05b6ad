"""Lints of targets and models: what nobody can use, and what a missing price or region keeps them from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.lint.scope import Scope
from proxy.policy.model import Lane, Route, Snapshot, Target
from proxy.policy.promises import missed_by_policy

_PRICE_RULES = ("usd_per_mtok", "max_usd_per_request")


def lint_targets(snapshot: Snapshot, routes: Sequence[Scope], findings: Findings) -> None:
    """All that can be said of the targets and the models."""
    listed = {candidate.target.name for candidates in snapshot.models.values() for candidate in candidates}
    used = {target.name for scope in routes for target in scope.targets}
    unpriced, nowhere = _barred_by_price(routes), _barred_by_region(routes)
    for name, target in snapshot.targets.items():
        loc: Loc = ("targets", name)
        if name not in listed:
            findings.warning(Check.UNUSED_TARGET, loc, f"no model lists the target `{name}`", "add it to a model")
        elif name in unpriced:
            route = unpriced[name]
            rules = " and ".join(f"`{rule}`" for rule in _money_rules(route))
            message = f"no price is known for `{name}`: route `{route.name}` requires {rules}, and never uses it"
            hint = "add `price: {input: 0.88, output: 0.88}`, in $ per million tokens"
            findings.warning(Check.PRICE_NEEDED, loc, message, hint)
        elif name not in used:
            message = f"no route ever uses the target `{name}`: it passes the gates of none"
            hint = "state its `region`" if name in nowhere else "remove it, or give it what a route requires"
            findings.warning(Check.UNUSED_TARGET, loc, message, hint)
        elif name in nowhere and target.lane is Lane.SHARED:
            message = f"the region of `{name}` is not stated: route `{nowhere[name].name}` never uses it"
            findings.warning(Check.UNKNOWN_REGION, loc, message, "state `region:` if the provider promises one")
    _unused_models(snapshot, findings)


def _barred_by_price(routes: Iterable[Scope]) -> dict[str, Route]:
    """The targets that some route would use if their price were known, with that route."""
    barred: dict[str, Route] = {}
    for scope in routes:
        for target in scope.all_targets if _money_rules(scope.route) else ():
            unpriced = target.lane is Lane.SHARED and target.price is None
            if unpriced and _missed(target, scope) <= {"usd_per_mtok"}:
                barred.setdefault(target.name, scope.route)
    return barred


def _barred_by_region(routes: Iterable[Scope]) -> dict[str, Route]:
    """The targets that some route would use if their region were stated, with that route."""
    barred: dict[str, Route] = {}
    for scope in routes:
        for target in scope.all_targets if scope.route.require.regions else ():
            if target.region == "unknown" and _missed(target, scope) == {"region"}:
                barred.setdefault(target.name, scope.route)
    return barred


def _missed(target: Target, scope: Scope) -> set[str]:
    return {miss.rule for miss in missed_by_policy(target, scope.route.require, strict=True)}


def _money_rules(route: Route) -> tuple[str, ...]:
    given = route.require.nano_usd_per_mtok, route.require.max_nano_usd_per_request
    return tuple(rule for rule, limit in zip(_PRICE_RULES, given, strict=True) if limit is not None)


def _unused_models(snapshot: Snapshot, findings: Findings) -> None:
    lists = [tenant.models for tenant in snapshot.tenants.values()]
    allowed = frozenset(model for models in lists for model in models or ())
    for model in sorted(snapshot.models.keys() - allowed) if lists and None not in lists else ():
        message = f"no tenant may ask for the model `{model}`"
        findings.warning(Check.UNUSED_MODEL, ("models", model), message, "add it to a tenant's `models`, or remove it")
