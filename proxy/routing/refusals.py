"""Every refusal that routing can give, in one place, because callers read their words and programs their codes.

    status  code                         rule             when
    404     model_not_found              model            no such public model, or not for this tenant
    403     no_route                     match            no route of the policy matches the request
    404     endpoint_not_supported       endpoint         no target of the model speaks the endpoint
    403     lane_override_not_allowed    lane_override    the route does not let callers choose a lane
    403     target_override_not_allowed  target_override  the route does not let callers choose a target
    404     target_not_found             target_override  the model has no such target
    403     residency_unsatisfiable      the gate         no target ever satisfies require.region, retention or training
    403     policy_unsatisfiable         the gate         no target ever satisfies another gate
    400     unsupported_by_model         supports         no lawful target takes tools, or images and the like
    400     context_length_exceeded      context_window   no lawful target's window holds the request
    429     rate_limit_exceeded          the scope's      the tenant, key or route has used up its minute
    429     budget_exceeded              the budget's     every target that could serve is covered by a spent budget
    429     budget_unavailable           the budget's     the same, while the store cannot be asked, or has more to lend
    503     no_lawful_target_available   the gate         every lawful target is out of rotation, or measured to break a
                                                          rule under require; gates bar the rest
    503     no_target_available          breaker          every target is out of rotation, or has no replica
    429     dedicated_at_capacity        capacity         the caller insisted on dedicated, and it is full
    503     at_capacity                  capacity         everything lawful is full, or its provider's quota used up

Down to `context_length_exceeded` the same request is answered the same for as long as the policy stands, so clients
are told not to retry; the others carry a `Retry-After`. When every lawful target is ejected the request is refused
rather than thrown at the least bad one (Envoy's panic threshold): each ejected replica admits a probe when its time is
up, or after two seconds once somebody was refused for want of it (`signals/breaker.py`), so service resumes with the
first request after that, and a failing upstream is not stampeded.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.policy.model import Budget, Lane, Route
from proxy.routing import gates
from proxy.routing.budgets import Standing, name_of
from proxy.routing.capacity import MIN_RETRY_AFTER_S
from proxy.routing.facts import Facts
from proxy.routing.limits import Over
from proxy.routing.plan import Attempt, Exclusion, Refusal
from proxy.routing.readings import Fund, Funds
from proxy.routing.shortages import NOBODY_THERE

MODEL_NAME_SHOWN = 200
"""Characters of a caller's model name that are repeated to it, and to the log."""

STORE_RETRY_AFTER_S = 1.0
"""When to ask again for money that has to come from the store: it is tried several times a second."""

RESIDENCY = frozenset({"require.region", "require.retention", "require.training"})
UNFIT = {
    "supports": (400, "unsupported_by_model"),
    "context_window": (400, "context_length_exceeded"),
    "require.max_usd_per_request": (403, "policy_unsatisfiable"),
}
"""What a request of this size and content meets on no target; the last one named is what the client is told."""


def model_not_found(model: str) -> Refusal:
    """OpenAI's answer; the same whether the model is unknown or not for this tenant, so that names cannot be probed."""
    return Refusal(
        status=404,
        code="model_not_found",
        message=f"the model `{model[:MODEL_NAME_SHOWN]}` does not exist or you do not have access to it",
        rule="model",
        param="model",
        retryable=False,
    )


def no_route(facts: Facts) -> Refusal:
    """The policy's routes leave this request out; only a policy without a catch-all route can do that."""
    return Refusal(
        status=403,
        code="no_route",
        message=f"no route of the policy matches this request for model `{facts.model}`",
        rule="match",
        type="permission_error",
        retryable=False,
    )


def lane_override_not_allowed(route: Route, lane: Lane) -> Refusal:
    """The caller sent `x-spillway-lane` on a route that keeps the choice to itself."""
    return Refusal(
        status=403,
        code="lane_override_not_allowed",
        message=f"route `{route.name}` does not let callers choose a lane: drop the header `x-spillway-lane: {lane}`",
        rule="lane_override",
        type="permission_error",
        route=route.name,
        retryable=False,
    )


def target_override_not_allowed(route: Route) -> Refusal:
    """The caller sent `x-spillway-target` on a route that keeps the choice to itself."""
    return Refusal(
        status=403,
        code="target_override_not_allowed",
        message=f"route `{route.name}` does not let callers choose a target: drop the header `x-spillway-target`, "
        "or set `target_override: true` on the route",
        rule="target_override",
        type="permission_error",
        route=route.name,
        retryable=False,
    )


def target_not_found(route: Route, facts: Facts) -> Refusal:
    """The caller pinned a target that the model does not have."""
    return Refusal(
        status=404,
        code="target_not_found",
        message=f"the model `{facts.model}` has no target `{(facts.target_override or '')[:MODEL_NAME_SHOWN]}`",
        rule="target_override",
        route=route.name,
        param="x-spillway-target",
        retryable=False,
    )


def rate_limited(route: Route, over: Over) -> Refusal:
    """A tenant, a key or the route has no room in its minute for one more request."""
    kind, _, name = over.held.scope.partition(":")
    count = over.used - over.elsewhere
    used = {
        "rpm": f"used {count} of its {over.allowed} requests a minute",
        "tpm": f"used {count} of its {over.allowed} tokens a minute",
        "concurrency": f"{count} of its {over.allowed} requests in flight",
    }[over.limit]
    held = f", and other proxies hold {over.elsewhere} for the moment" if over.elsewhere else ""
    return Refusal(
        status=429,
        code="rate_limit_exceeded",
        message=f"{kind} `{name}` has {used}{held}",
        rule=over.exclusion.rule,
        type="rate_limit_error",
        route=route.name,
        retry_after_s=max(over.retry_after_s, MIN_RETRY_AFTER_S),
        retryable=True,
        excluded=(over.exclusion,),
        scopes=over.among,
    )


def over_budget(route: Route, budget: Budget, standing: Standing, funds: Funds) -> Refusal:
    """A spent budget that refuses all that it covers; or that nothing else is left under.

    It may not be spent at all: what this process lacks the store may still have, and lends it before the next try.
    """
    fund = funds.get(budget.name, Fund(free_nano_usd=0))
    coming = fund.unlent_nano_usd >= max(standing.least_nano_usd, 1)
    final = fund.known and not coming
    exclusion = next(one for one in standing.left_out.values() if name_of(one) == budget.name)
    lacks = "has yet to lend this proxy money" if coming and fund.known else "has no money left"
    return Refusal(
        status=429,
        code="budget_exceeded" if final else "budget_unavailable",
        message=f"budget `{budget.name}` {lacks} for this request: {exclusion.observed} of {exclusion.limit}",
        rule=exclusion.rule,
        type="insufficient_quota" if final else "rate_limit_error",
        route=route.name,
        retry_after_s=fund.resets_in_s if final else STORE_RETRY_AFTER_S,
        retryable=not final,
        excluded=tuple(standing.left_out.values()),
    )


def cut_off(attempt: Attempt) -> Refusal:
    """A stream has used up all that its budgets had left while it was running."""
    return Refusal(
        status=429,
        code="budget_exceeded",
        message=f"target `{attempt.target.name}`: cut off, because a budget of this request is used up",
        rule="budget",
        type="insufficient_quota",
        retryable=False,
    )


def unaffordable(route: Route, otherwise: Refusal, standing: Standing, funds: Funds, *, frees_up: bool) -> Refusal:
    """Nothing can serve, for want of money at least in part; `otherwise` is the refusal if money were no matter.

    `frees_up` says that some target is under no spent budget and may have room again: then it is worth another try.
    """
    refusal = over_budget(route, standing.spent[0], standing, funds)
    if not frees_up:
        return msgspec.structs.replace(refusal, excluded=otherwise.excluded)
    wait_s = otherwise.retry_after_s
    return msgspec.structs.replace(refusal, excluded=otherwise.excluded, retry_after_s=wait_s, retryable=True)


def nothing_lawful(route: Route, model: str, barred: tuple[Exclusion, ...]) -> Refusal:
    """No target of the model ever passes the gates."""
    rule = gates.furthest(barred)
    if rule == "endpoint":
        return _endpoint_not_supported(route, model, barred)
    return Refusal(
        status=403,
        code="residency_unsatisfiable" if rule in RESIDENCY else "policy_unsatisfiable",
        message=f"{rule} on route `{route.name}` leaves no target for model `{model}`: {_listed(barred)}",
        rule=rule,
        type="permission_error",
        route=route.name,
        retryable=False,
        excluded=barred,
    )


def none_able(
    route: Route, facts: Facts, barred: tuple[Exclusion, ...], left_out: Sequence[Exclusion], retry_after_s: float
) -> Refusal:
    """There are lawful targets, and none of them can serve now. `left_out` holds one exclusion for each of them."""
    rules = {exclusion.rule for exclusion in left_out}
    if rules <= UNFIT.keys():
        return _unfit(route, facts, barred, left_out)
    condemned = [exclusion.rule for exclusion in left_out if exclusion.hard and exclusion.rule not in UNFIT]
    if any(not exclusion.hard and exclusion.rule not in NOBODY_THERE for exclusion in left_out):
        status, code, rule = _when_full(facts)
    elif condemned:
        status, code, rule = 503, "no_lawful_target_available", condemned[0]
    else:
        status, code, rule = _when_ejected(barred)
    return Refusal(
        status=status,
        code=code,
        message=f"no target that route `{route.name}` allows for model `{facts.model}` can serve now: "
        f"{_listed(left_out)}{_kept_from(barred)}",
        rule=rule,
        type="rate_limit_error" if status == 429 else "server_error",
        route=route.name,
        retry_after_s=retry_after_s,
        retryable=True,
        excluded=barred + tuple(left_out),
    )


def turned_away(facts: Facts, route: str, by_upstream: Refusal) -> Refusal:
    """The engine itself said that it was full, and nothing else is left to try; `by_upstream` is its refusal.

    A caller that insisted on dedicated reads the same as when the router turns it away.
    """
    if facts.lane_override is not Lane.DEDICATED:
        return by_upstream
    status, code, rule = _when_full(facts)
    return msgspec.structs.replace(
        by_upstream, status=status, code=code, rule=rule, type="rate_limit_error", route=route, retryable=True
    )


def _unfit(route: Route, facts: Facts, barred: tuple[Exclusion, ...], left_out: Sequence[Exclusion]) -> Refusal:
    """No lawful target can take a request of this size and content, at any time."""
    rule = next(rule for rule in reversed(UNFIT) if any(exclusion.rule == rule for exclusion in left_out))
    status, code = UNFIT[rule]
    return Refusal(
        status=status,
        code=code,
        message=f"no target that route `{route.name}` allows for model `{facts.model}` can take this request: "
        f"{_listed(left_out)}{_kept_from(barred)}",
        rule=rule,
        type="invalid_request_error" if status == 400 else "permission_error",
        route=route.name,
        retryable=False,
        excluded=barred + tuple(left_out),
    )


def _when_full(facts: Facts) -> tuple[int, str, str]:
    if facts.lane_override is Lane.DEDICATED:
        return 429, "dedicated_at_capacity", "capacity"
    return 503, "at_capacity", "capacity"


def _when_ejected(barred: tuple[Exclusion, ...]) -> tuple[int, str, str]:
    if barred:
        return 503, "no_lawful_target_available", gates.furthest(barred)
    return 503, "no_target_available", "breaker"


def _endpoint_not_supported(route: Route, model: str, barred: tuple[Exclusion, ...]) -> Refusal:
    return Refusal(
        status=404,
        code="endpoint_not_supported",
        message=f"the model `{model}` does not serve the `{barred[0].observed}` endpoint",
        rule="endpoint",
        param="model",
        route=route.name,
        retryable=False,
        excluded=barred,
    )


def _kept_from(barred: tuple[Exclusion, ...]) -> str:
    if not barred:
        return ""
    names = ", ".join(f"`{exclusion.target}` ({exclusion.rule})" for exclusion in barred)
    return f"; the policy keeps it from {names}"


def _listed(exclusions: Sequence[Exclusion]) -> str:
    return ", ".join(
        f"`{exclusion.target}` {exclusion.rule} {exclusion.observed} (wanted {exclusion.limit})"
        for exclusion in exclusions
    )
