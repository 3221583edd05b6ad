"""The hard rules: each one says of one target whether this kind of request may ever reach it.

Theory of operation
-------------------
A gate looks at the policy and at what was asked, never at how the targets are doing, so its answer is the same for the
first attempt, for every retry and in every outage; that is why the gates are evaluated once per snapshot (`table.py`)
and nothing that happens later can widen the lawful set. Every gate fails closed: unknown is never good enough. Globs
are shell-style and case-sensitive. A gate answers None when the target may pass, else the exclusion to record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.policy.model import Endpoint, Lane, Require, Target, Tenant, matches_any
from proxy.routing.plan import Exclusion

UNKNOWN = frozenset({"", "unknown"})
"""Values of a region or a retention that promise nothing, and so satisfy no requirement, not even `*`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks of a target, apart from its content: its route's gates, its endpoint, its caller's lane."""

    require: Require
    endpoint: Endpoint
    lane_override: Lane | None = None


Gate = Callable[[Target, Asked], Exclusion | None]


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
    return _barred(target, "endpoint", asked.endpoint, _listed(target.native | target.translated))


def lane(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a route to one lane.

    What it does: passes targets of the route's required lane.
    Reads: `Target.lane`, `require.lane`.
    When unknown: a target always has a lane; a route without the requirement passes both.
    """
    required = asked.require.lane
    if required is None or target.lane is required:
        return None
    return _barred(target, "require.lane", target.lane, required)


def tags(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a route to targets that carry all of its tags.

    What it does: passes targets whose tags include every required one.
    Reads: `Target.tags`, `require.tags`.
    When unknown: an untagged target satisfies no requirement.
    """
    if asked.require.tags <= target.tags:
        return None
    return _barred(target, "require.tags", _listed(target.tags), _listed(asked.require.tags))


def region(target: Target, asked: Asked) -> Exclusion | None:
    """Keep the bytes of a request inside the regions that its route requires.

    What it does: passes targets whose region matches one of the globs.
    Reads: `Target.region`, `require.region`.
    When unknown: a target without a known region satisfies no requirement, `*` included.
    """
    return _held_to(target, "require.region", target.region, asked.require.regions)


def retention(target: Target, asked: Asked) -> Exclusion | None:
    """Keep a request from targets that store it for longer than its route allows.

    What it does: passes targets whose retention matches one of the globs.
    Reads: `Target.retention`, `require.retention`.
    When unknown: a target without a known retention satisfies no requirement, `*` included.
    """
    return _held_to(target, "require.retention", target.retention, asked.require.retention)


def lane_override(target: Target, asked: Asked) -> Exclusion | None:
    """Hold a request to the lane that its caller asked for.

    What it does: passes targets of the lane in `x-spillway-lane`. It only ever narrows the route's lawful set. Whether
    the route lets callers choose at all is decided before (`refusals.lane_override_not_allowed`).
    Reads: `Target.lane`, the header.
    When unknown: without the header, or with `auto`, both lanes pass.
    """
    if asked.lane_override is None or target.lane is asked.lane_override:
        return None
    return _barred(target, "lane_override", target.lane, asked.lane_override)


GATES: tuple[Gate, ...] = (endpoint, lane, tags, region, retention, lane_override)
"""In the order in which they are asked; a target is excluded by the first that does not pass it."""

RULES: tuple[str, ...] = (
    "endpoint",
    "require.lane",
    "require.tags",
    "require.region",
    "require.retention",
    "lane_override",
)
"""The names under which `GATES` exclude, in the same order."""


def barrier(target: Target, asked: Asked) -> Exclusion | None:
    """The first gate that the target does not pass, or None when it is lawful."""
    for gate in GATES:
        exclusion = gate(target, asked)
        if exclusion is not None:
            return exclusion
    return None


def furthest(barred: tuple[Exclusion, ...]) -> str:
    """The rule that stopped the target which came furthest: the one to name when a single gate must be named."""
    return max((exclusion.rule for exclusion in barred), key=RULES.index)


def _held_to(target: Target, rule: str, observed: str, globs: tuple[str, ...]) -> Exclusion | None:
    if not globs or (observed not in UNKNOWN and matches_any(observed, globs)):
        return None
    return _barred(target, rule, observed or "unknown", ", ".join(globs))


def _barred(target: Target, rule: str, observed: str, limit: str) -> Exclusion:
    return Exclusion(target.name, rule, str(observed), str(limit), True)


def _listed(names: frozenset[str] | frozenset[Endpoint]) -> str:
    return ", ".join(sorted(names)) or "none"
