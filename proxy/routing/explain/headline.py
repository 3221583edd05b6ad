"""An explanation in one sentence, for somebody who has not read anything else."""

from __future__ import annotations

from proxy.policy.model import Prefer, Tenant
from proxy.routing.budgets import name_of
from proxy.routing.choose import spill_reason
from proxy.routing.explain import clauses
from proxy.routing.explain.explained import Explanation, Standing, Told
from proxy.routing.plan import Cause

_ORDERS = {
    Prefer.COST: "which fills GPUs that are paid for first, then takes the cheapest",
    Prefer.LATENCY: "which takes the fastest to the first token first",
    Prefer.DEDICATED: "which takes dedicated targets first",
    Prefer.SHARED: "which takes shared targets first",
}


def headline(found: Explanation, tenant: Tenant) -> str:
    """Where the request of `tenant` goes and why, or why it goes nowhere."""
    if found.refusal is not None:
        why = _why_refused(found, found.refusal, tenant)
        return f"Refused with {found.refusal.status} `{found.refusal.code}`: {why}."
    first = found.first
    assert first is not None
    instead = "" if found.served_as is None else f", as model `{found.served_as}`"
    return f"Goes to `{first.target}` ({first.lane}){instead}: {_why_there(found, first)}."


def _why_there(found: Explanation, first: Standing) -> str:
    assert found.route is not None
    route, place = found.route, first.places[0]
    allowed = [one for one in found.targets if one.places or (one.out and not clauses.is_for_good(one.out))]
    unpaid = _unpaid(found, allowed)
    if unpaid:
        why = unpaid
    elif place.cause is Cause.SPILLOVER:
        why = _why_spilled(found, place.reason)
    elif len(found.targets) == 1:
        why = f"it is the only target of model `{found.request.model}`"
    elif len(allowed) == 1:
        why = f"it is the only target that route `{route.name}` allows"
    else:
        why = f"it comes first on route `{route.name}`, {_ORDERS[route.prefer]}"
    if not found.relaxed:
        return why
    missed = (
        " and ".join(clauses.barred(one) for one in (*first.wants, *first.despite))
        or "a rate that the route wants to keep is used up"
    )
    return f"{why}, although {missed}"


def _unpaid(found: Explanation, allowed: list[Standing]) -> str:
    """The clause for a target that cannot be paid, where that has left only one, or another model's."""
    others = [one.out for one in allowed if one.out is not None]
    spent = [one for one in allowed if one.out is not None and name_of(one.out) is not None]
    left = len(allowed) - len(others)
    if not spent or not (found.served_as or (left == 1 and len(spent) == len(others))):
        return ""
    out = spent[0].out
    assert out is not None
    return f"`{spent[0].target}` ({spent[0].lane}) is out, since {clauses.barred(out)}"


def _why_spilled(found: Explanation, reason: str) -> str:
    """The clause for the exclusion that the decision gives as its reason."""
    for standing in found.targets:
        for one in (standing.out, *standing.wants, *standing.despite):
            if one is not None and spill_reason(one) == reason:
                return f"`{standing.target}` ({standing.lane}) would come first, but {clauses.barred(one)}"
    return reason


def _why_refused(found: Explanation, told: Told, tenant: Tenant) -> str:
    if told.rule == "model" and tenant.models is not None:
        # The client is not told whether there is such a model; whoever reads explanations may know.
        models = ", ".join(f"`{model}`" for model in sorted(tenant.models)) or "none"
        return f"tenant `{tenant.name}` may not ask for model `{found.request.model}`; its models: {models}"
    outs = [one for one in found.targets if one.out is not None]
    if found.route is None or not outs or told.rule.startswith("budget:"):
        return told.message
    if len(outs) == 1:
        out = outs[0].out
        assert out is not None
        return f"model `{found.request.model}` has no target but `{outs[0].target}`, and {clauses.barred(out)}"
    what = "can take it now" if told.retryable else "may take it"
    return f"none of the {len(outs)} targets of model `{found.request.model}` {what} on route `{found.route.name}`"
