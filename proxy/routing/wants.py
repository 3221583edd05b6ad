"""The soft rules: what a route would like of its targets. They order a plan; they never remove a target from it.

Theory of operation
-------------------
The rules are those of `rules`, asked as wishes. What the policy alone settles is judged once per snapshot, the rest for
each request and its readings. Misses are recorded as exclusions with `hard=False`, although the target stays in the
plan.
"""

from __future__ import annotations

from proxy.policy import promises
from proxy.policy.model import Rules, Target
from proxy.routing import rules
from proxy.routing.facts import Facts
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Reading


def vary(want: Rules) -> bool:
    """Whether anything in `want` depends on the request or on a measurement."""
    return rules.is_measured(want) or want.max_nano_usd_per_request is not None


def missed_by_policy(target: Target, want: Rules) -> tuple[Exclusion, ...]:
    """The wants that the target misses whatever happens."""
    return recorded(target, promises.missed_by_policy(target, want, strict=False))


def missed_now(target: Target, want: Rules, facts: Facts, reading: Reading) -> tuple[Exclusion, ...]:
    """The wants that the replica of `reading` misses for this request; unmeasured is not missed."""
    misses = rules.missed_by_reading(want, reading)
    too_dear = rules.missed_by_request(target, want, facts, strict=False)
    if too_dear is not None:
        misses += (too_dear,)
    return recorded(target, misses) if misses else ()


def recorded(target: Target, misses: tuple[promises.Miss, ...]) -> tuple[Exclusion, ...]:
    """Misses of what a route wants, in the terms of a plan."""
    return tuple([Exclusion(target.name, f"want.{one.rule}", one.observed, one.limit, False) for one in misses])
