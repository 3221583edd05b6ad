"""Whether a policy asks what prompts hold or how long they are; prompts are decoded only then.

Theory of operation
-------------------
Looking into a prompt of a kilobyte takes two microseconds, half as long as all else that is read of a request. A policy
that asks for no modality, ability, window or price per request decides the same without. So does one without a hard
budget of shared money: that sets aside what a prompt costs before it is sent, its images included. Rates in tokens do
not count as asking: they are settled by what a reply says it used, and an estimate of text is the same either way.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.policy.model import Budget, Enforce, Lane, Match, Route, Target


def reads_content(targets: Iterable[Target], routes: Iterable[Route], budgets: Iterable[Budget] = ()) -> bool:
    """Whether any decision under the policy can depend on a prompt."""
    return (
        any(map(_claims, targets))
        or any(_asks(route.match) or _limits_price(route) for route in routes)
        or any(budget.enforce is Enforce.HARD and budget.lane is Lane.SHARED for budget in budgets)
    )


def _claims(target: Target) -> bool:
    return target.supports is not None or target.context_window is not None


def _asks(match: Match) -> bool:
    return (match.modalities, match.min_input_tokens, match.max_input_tokens) != (None, None, None)


def _limits_price(route: Route) -> bool:
    blocks = (route.require, route.want, route.shadow_require, route.shadow_want)
    return any(rules.max_nano_usd_per_request is not None for rules in blocks)
