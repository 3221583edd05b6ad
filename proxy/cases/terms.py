"""What two policies state differently of one thing: a route's rules, a tenant's rates, a budget, where a target is.

Theory of operation
-------------------
Not every difference shows in a decision about an idle or a full target: an objective binds when latency has been
measured, a rate when it is used up, and a new URL changes no name. So the statements themselves are compared, thing by
thing and under the same name in both policies. What is new or gone altogether is left to the decisions; but budgets are
not, since a decision shows one only when its money is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.policy.model import Budget, Limits, Mode, Route, Snapshot, Target, Tenant, Wake
from proxy.policy.price import Rates, Tariff
from proxy.policy.units import spell_duration
from proxy.policy.wake import KubernetesWake
from proxy.routing.explain.ruled import stated
from proxy.routing.wording import usd_per, usd_per_mtok

_KINDS = ("cached_input", "cache_write", "cache_write_1h", "audio_input", "audio_output", "reasoning")

NOTHING = "none"
MOST_NAMES = 20

Terms = Mapping[str, str]
"""By what is stated, how much of it, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One statement about `subject` (`route eu`) that differs."""

    subject: str
    term: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.subject} {self.term}: {self.before} -> {self.after}"


def changed_terms(before: Snapshot, after: Snapshot) -> tuple[Changed, ...]:
    """Every statement that differs about a thing that both policies have, or about a budget of one of them."""
    then, now = _terms(before), _terms(after)
    either = dict.fromkeys([*_budgets(before), *_budgets(after)])
    both = (subject for subject in then if subject in now and subject not in either)
    return tuple(
        Changed(subject=subject, term=term, before=was.get(term, NOTHING), after=told.get(term, NOTHING))
        for subject in (*both, *either)
        for was, told in [(then.get(subject, {}), now.get(subject, {}))]
        for term in dict.fromkeys([*was, *told])
        if was.get(term, NOTHING) != told.get(term, NOTHING)
    )


def _terms(snapshot: Snapshot) -> dict[str, Terms]:
    found: dict[str, Terms] = {}
    found |= {f"route {route.name}": dict(_route(route)) for route in snapshot.routes}
    found |= {f"tenant {tenant.name}": dict(_tenant(tenant)) for tenant in snapshot.tenants.values()}
    found |= {f"key {one.name}": dict(_limits(one.limits)) for one in snapshot.keys.values() if one.name}
    found |= {f"target {target.name}": dict(_target(target)) for target in snapshot.targets.values()}
    return found | _budgets(snapshot)


def _budgets(snapshot: Snapshot) -> dict[str, Terms]:
    """Those that `each` made of one stand together: there may be thousands, and they state the same."""
    grouped: dict[str, list[Budget]] = {}
    for budget in snapshot.budgets:
        grouped.setdefault(f"budget {budget.group or budget.name}", []).append(budget)
    return {subject: dict(_budget(budgets)) for subject, budgets in grouped.items()}


def _budget(budgets: Sequence[Budget]) -> Iterator[tuple[str, str]]:
    one = budgets[0]
    yield "limit", ", ".join(usd_per(cap.nano_usd, cap.per) for cap in one.caps)
    yield "enforce", one.enforce.value
    yield "exhausted", f"downgrade: {one.downgrade}" if one.downgrade else one.exhausted.value
    yield "lane", one.lane.value
    yield "alerts", ", ".join(f"{percent}%" for percent in one.alerts) or NOTHING
    if one.group:
        yield "of them", str(len(budgets))
    for name in ("tenants", "keys", "tags", "routes", "targets", "models"):
        matched = sorted({word for budget in budgets for word in getattr(budget, name) or ()})
        if matched:
            yield name, ", ".join(matched) if len(matched) <= MOST_NAMES else f"{len(matched)} of them"


def _route(route: Route) -> Iterator[tuple[str, str]]:
    for rule in stated(route):
        yield f"shadow {rule.rule}" if rule.shadow else rule.rule, rule.limit
    yield "prefer", route.prefer.value
    yield "lane_override", str(route.lane_override).lower()
    yield "target_override", str(route.target_override).lower()
    yield "max_failovers", str(route.max_failovers)
    yield "wait", spell_duration(route.wait_s) if route.wait_s else NOTHING
    yield "deadline", NOTHING if route.deadline_s is None else spell_duration(route.deadline_s)
    hedge = route.hedge
    yield "hedge", NOTHING if hedge is None else f"{hedge.after}, {100 * hedge.budget_share:.6g}% of requests"


def _tenant(tenant: Tenant) -> Iterator[tuple[str, str]]:
    yield "priority", tenant.priority.name.lower()
    yield from _limits(tenant.limits)


def _limits(limits: Limits) -> Iterator[tuple[str, str]]:
    for name in ("rpm", "tpm", "concurrency"):
        allowed: int | None = getattr(limits, name)
        if allowed is not None:
            yield f"shadow {name}" if limits.mode is Mode.SHADOW else name, f"{allowed:,}"


def _target(target: Target) -> Iterator[tuple[str, str]]:
    yield "lane", target.lane.value
    yield "model", target.model
    yield "region", target.region
    yield "retention", target.retention
    yield "training", {None: "unknown", True: "true", False: "false"}[target.trains]
    yield "quantization", target.quantization
    yield "upstream", _address(target)
    yield "parameters", ", ".join(f"{name}={value}" for name, value in sorted(target.parameters.items())) or NOTHING
    if target.price is not None:
        yield from _tariff("price", target.price)
        for tier, tariff in sorted(target.price.tiers.items()):
            yield from _tariff(f"price.{tier}", tariff)
    if target.max_in_flight is not None:
        yield "max_in_flight", str(target.max_in_flight)
    if target.wake is not None:
        yield "wake", _hook(target.wake)
    if target.context_window is not None:
        yield "context_window", f"{target.context_window:,}"
    if target.supports is not None:
        yield "supports", ", ".join(sorted(target.supports)) or "text"
    for name, allowed in _limits(target.limits):
        yield f"limits.{name}", allowed
    for name in ("connect_s", "first_token_s", "idle_s", "total_s"):
        yield f"timeouts.{name.removesuffix('_s')}", f"{getattr(target.timeouts, name):g} s"


def _tariff(name: str, tariff: Tariff) -> Iterator[tuple[str, str]]:
    yield from _rates(name, tariff)
    for longer in tariff.above:
        yield from _rates(f"{name}.above {longer.above_tokens:,}", longer)


def _rates(name: str, rates: Rates) -> Iterator[tuple[str, str]]:
    paid = rates.input_nano_usd_per_mtok, rates.output_nano_usd_per_mtok
    yield name, " in, ".join(map(usd_per_mtok, paid)) + " out"
    for kind in _KINDS:
        rate: int | None = getattr(rates, f"{kind}_nano_usd_per_mtok")
        if rate is not None:
            yield f"{name}.{kind}", usd_per_mtok(rate)


def _hook(wake: Wake) -> str:
    if isinstance(wake, KubernetesWake):
        return f"{wake.workload} {wake.namespace}/{wake.name} to {wake.replicas}"
    return f"{wake.method} {wake.url}"


def _address(target: Target) -> str:
    """Where it is, by a digest: an address may hold what came out of the environment, so it is not repeated."""
    address = repr((target.provider, target.engine, target.urls, target.discovery))
    return f"{target.replicas} at #{hashlib.sha256(address.encode()).hexdigest()[:8]}"
