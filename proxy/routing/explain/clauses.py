"""Exclusions as clauses of a sentence about the target that they concern: `its region is us, and the route ...`."""

from __future__ import annotations

from proxy.routing.budgets import name_of
from proxy.routing.plan import Exclusion

PRICE_UNKNOWN = "price unknown"
"""What a hard budget observes of a target that it cannot count."""

_STATES = {
    "breaker": "it is out of rotation after failures",
    "asleep": "it is asleep",
    "engine_full": "its engine is full",
    "quota": "its provider's limit is nearly used up",
}


def is_for_good(one: Exclusion) -> bool:
    """Whether the policy keeps the target out, whatever the moment: money comes back with the next window."""
    return one.hard and name_of(one) is None


def barred(one: Exclusion) -> str:
    """What keeps a target out, or what it misses."""
    seen, limit = one.observed, one.limit
    match one.rule:
        case "capacity":
            return f"it is full, with {seen}"
        case "breaker" | "asleep" | "engine_full" | "quota" as state:
            return f"{_STATES[state]} ({seen})"
        case "endpoint":
            return f"it does not serve the endpoint `{seen}`, only: {limit}"
        case "lane_override":
            return f"it is {seen}, and the caller asked for {limit}"
        case "target_override":
            return f"the caller asked for `{limit}` and no other"
        case "supports":
            return f"the request needs {seen}, and it supports: {limit}"
        case "context_window":
            return f"the request takes {seen}, and its context window is only {limit}"
        case "require.training":
            return "it trains on prompts" if seen == "true" else "it does not say that it never trains on prompts"
        case "ttft" | "itl" | "kv" | "bid" as rule:
            return _predicted(rule, seen, limit)
        case rule:
            return _unpaid(one) if name_of(one) is not None else _ruled(rule, seen, limit)


def _predicted(rule: str, seen: str, limit: str) -> str:
    """What its work would do to the request."""
    if rule == "kv":
        return f"its memory would not hold the request, with {seen} of {limit}"
    if rule == "bid":
        return f"others pay more for its time: the request is {seen}, and they {limit}"
    return f"the request's {rule} would be too long there: {seen}, to stay below {limit}"


def _unpaid(one: Exclusion) -> str:
    if one.observed == PRICE_UNKNOWN:
        return f"its price is unknown, and hard budget `{name_of(one)}` cannot count it"
    return f"budget `{name_of(one)}` has no money left for it ({one.observed}, of {one.limit})"


def _ruled(rule: str, seen: str, limit: str) -> str:
    block, _, name = rule.partition(".")
    return f"its {name} is {seen}, and the route {block}s {limit}"
