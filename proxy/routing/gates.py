"""The hard rules: which targets a request may reach at all.

Theory of operation
-------------------
A gate is asked about one target and answers with the `Exclusion` that keeps it out, or None. What passes every gate is
the *lawful set*; nothing outside it is ever put into a plan, so nothing outside it is ever called. A gate fails closed:
a value nobody declared satisfies nothing, and no gate is relaxed because too little is left.

What the policy settles is asked once per snapshot (`barrier`); what depends on the request's size and content
(`unfit`), or has to be measured, is asked of the targets that passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy import promises
from proxy.policy.model import NEEDED, Capability, Endpoint, Lane, Rules, Target, Tenant
from proxy.routing import rules
from proxy.routing.facts import Facts
from proxy.routing.plan import Exclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks of a target, apart from its content: its route's gates, its endpoint, its caller's choice."""

    require: Rules
    endpoint: Endpoint
    lane_override: Lane | None = None
    target_override: str | None = None


def tenant_may_use(tenant: Tenant, model: str) -> bool:
    """Whether the tenant may use the model.

    What it does: holds a tenant to the public model names that its policy lists.
    Reads: `Tenant.models`.
    When unknown: None lists nothing and allows every model; an empty set allows none.
    """
    return tenant.models is None or model in tenant.models


def endpoint(target: Target, asked: Asked) -> Exclusion | None:
    """Keep a request from targets that cannot speak its endpoint.

    What it does: passes a target that serves the endpoint natively or through translation.
    Reads: `Target.native`, `Target.translated`.
    When unknown: a target that declares no endpoint serves none.
    """
    if target.serves(asked.endpoint):
        return None
    served = ", ".join(sorted(target.native | target.translated)) or "none"
    return Exclusion(target.name, "endpoint", asked.endpoint.value, served, True)


def required(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a request to the static rules under its route's `require`; see `rules`."""
    for rule in promises.STATIC:
        miss = rule(target, asked.require, True)
        if miss is not None:
            return recorded(target, (miss,))[0]
    return None


def lane_override(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a request to the lane that its caller asked for.

    What it does: passes targets of the lane in `x-spillway-lane`. It only ever narrows the route's lawful set. Whether
    the route lets callers choose at all is decided before (`refusals.lane_override_not_allowed`).
    Reads: `Target.lane`, the header.
    When unknown: without the header, or with `auto`, both lanes pass.
    """
    if asked.lane_override is None or target.lane is asked.lane_override:
        return None
    return Exclusion(target.name, "lane_override", target.lane.value, asked.lane_override.value, True)


def target_override(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a request to the one target that its caller asked for, for evals: no other may stand in for it.

    What it does: passes the target in `x-spillway-target`, if the gates before it do. Whether the route lets callers
    choose at all is decided before (`refusals.target_override_not_allowed`).
    Reads: `Target.name`, the header.
    When unknown: without the header all pass.
    """
    if asked.target_override is None or target.name == asked.target_override:
        return None
    return Exclusion(target.name, "target_override", target.name, asked.target_override, True)


GATES = (endpoint, required, lane_override, target_override)
"""In the order in which they are asked; a target is excluded by the first that does not pass it."""

RULES: tuple[str, ...] = (
    "target_override",
    "endpoint",
    *(f"require.{rule.__name__}" for rule in promises.STATIC),
    "lane_override",
    "supports",
    "context_window",
    "require.max_usd_per_request",
)
"""The names under which targets are barred whatever is measured, by how far a target has come then."""


def barrier(target: Target, asked: Asked) -> Exclusion | None:
    """The first gate that the target does not pass, or None when it is lawful."""
    for gate in GATES:
        exclusion = gate(target, asked)
        if exclusion is not None:
            return exclusion
    return None


def depends_on_request(target: Target, require: Rules) -> bool:
    """Whether `unfit` can bar the target from any request."""
    makes_claims = target.supports is not None or target.context_window is not None
    return makes_claims or require.max_nano_usd_per_request is not None


def unfit(target: Target, require: Rules, facts: Facts) -> Exclusion | None:
    """Keep a request from targets that lack what it needs, or that would charge too much for it.

    What it does: passes a target that supports the request's tools and modalities, whose context window holds its input
    and the output it asks for, and whose estimated price is within the route's limit.
    Reads: `Target.supports`, `Target.context_window`, `Target.price`, the request's content and size.
    When unknown: a target that states no abilities or no window is taken to have them; an unknown price does not pass.
    """
    if target.supports is not None:
        lacking = needs(facts) - target.supports
        if lacking:
            return Exclusion(
                target.name, "supports", ", ".join(sorted(lacking)), ", ".join(sorted(target.supports)) or "text", True
            )
    if target.context_window is not None:
        needed = facts.input_tokens + (facts.max_output_tokens or 0)
        if needed > target.context_window:
            return Exclusion(
                target.name, "context_window", f"about {needed} tokens", f"{target.context_window} tokens", True
            )
    miss = rules.missed_by_request(target, require, facts, strict=True)
    return None if miss is None else recorded(target, (miss,))[0]


def needs(facts: Facts) -> frozenset[Capability]:
    """What a model must be able to do to answer the request."""
    if not facts.tools and not facts.modalities:
        return frozenset()
    found = {NEEDED[modality] for modality in facts.modalities}
    return frozenset(found | {Capability.TOOLS} if facts.tools else found)


def furthest(barred: tuple[Exclusion, ...]) -> str:
    """The rule that stopped the target which came furthest: the one to name when a single gate must be named."""
    return max((exclusion.rule for exclusion in barred), key=RULES.index)


def recorded(target: Target, misses: tuple[promises.Miss, ...]) -> tuple[Exclusion, ...]:
    """Misses of what a route requires, in the terms of a plan."""
    return tuple([Exclusion(target.name, f"require.{one.rule}", one.observed, one.limit, True) for one in misses])
