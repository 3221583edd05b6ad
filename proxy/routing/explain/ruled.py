"""What a route requires and wants, in words: the limits are spelled as the reasons of a decision spell them."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.policy.model import Objective, Route, Rules
from proxy.routing import wording
from proxy.routing.explain.explained import Stated


def stated(route: Route) -> tuple[Stated, ...]:
    """The rules of a route by the names that exclusions have, those in force first."""
    blocks = (
        ("require", route.require, False),
        ("want", route.want, False),
        ("require", route.shadow_require, True),
        ("want", route.shadow_want, True),
    )
    return tuple(
        Stated(rule=f"{block}.{name}", limit=limit, shadow=shadow)
        for block, rules, shadow in blocks
        for name, limit in _spelled(rules)
    )


def _spelled(rules: Rules) -> Iterator[tuple[str, str]]:
    if rules.lane is not None:
        yield "lane", rules.lane.value
    if rules.tags:
        yield "tags", wording.listed(rules.tags)
    if rules.regions:
        yield "region", ", ".join(rules.regions)
    if rules.retention:
        yield "retention", ", ".join(rules.retention)
    if rules.no_training:
        yield "training", "false"
    if rules.quantization:
        yield "quantization", wording.listed(rules.quantization)
    if rules.nano_usd_per_mtok is not None:
        yield "usd_per_mtok", wording.usd_per_mtok(rules.nano_usd_per_mtok)
    if rules.max_nano_usd_per_request is not None:
        yield "max_usd_per_request", wording.usd(rules.max_nano_usd_per_request)
    for objective in rules.objectives:
        yield objective.rule, _objective(objective)
    if rules.uptime is not None:
        yield "uptime", wording.percent(rules.uptime)
    for name in ("rpm", "tpm", "concurrency"):
        allowed: int | None = getattr(rules.limits, name)
        if allowed is not None:
            yield name, f"{allowed:,}"


def _objective(objective: Objective) -> str:
    spell = wording.tokens_per_s if objective.rule.startswith("perceived_tps") else wording.seconds
    return spell(objective.limit_s)
