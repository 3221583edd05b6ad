"""What a policy amounts to, in a screen of text: its targets, models, routes and callers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.policy.discovery import Discovery, DnsService
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Gpus, Lane, Limits, Match, Mode, Objective, Route, Rules, Schedule, Snapshot, Target
from proxy.policy.profile_terms import spell_profile
from proxy.policy.times import DAYS
from proxy.policy.units import spell_duration
from proxy.routing.wording import usd_per

NANO = 10**9


def summary(snapshot: Snapshot) -> Iterator[str]:
    """What the policy amounts to, line by line."""
    yield f"{snapshot.source} is fine: policy {snapshot.revision}, digest sha256:{snapshot.digest}"
    yield "targets"
    yield from _table(_target(target) for target in snapshot.targets.values())
    own = [target for target in snapshot.targets.values() if target.lane is Lane.DEDICATED]
    if own:
        yield "engine profiles"
        yield from _table(_profile(target) for target in own)
    yield "models"
    yield from _table(
        (name, ", ".join(_candidate(one.target, one.model) for one in candidates))
        for name, candidates in snapshot.models.items()
    )
    yield "routes, the first that matches"
    yield from _table(_route(route) for route in snapshot.routes)
    if snapshot.budgets:
        yield "budgets"
        yield from _table(_budgets(snapshot))
    yield f"callers: {_callers(snapshot)}"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The rows with their columns aligned."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _target(target: Target) -> tuple[str, ...]:
    vendor = target.engine or target.provider or "openai-compatible"
    place = f"region {target.region}, retention {target.retention}"
    several = target.replicas > 1 or target.discovery is not None
    most = target.max_in_flight
    full = "" if most is None else f"full at {most} in flight{' each' if several else ''}"
    bounds = filter(None, (_found(target.discovery), full, _limits(target.limits)))
    return target.name, target.lane, vendor, target.model, place, _cost(target), "; ".join(bounds)


def _found(discovery: Discovery | None) -> str:
    """Where replicas are looked for, if they are."""
    if discovery is None:
        return ""
    if isinstance(discovery, DnsService):
        return f"a replica at each address of {discovery.host}"
    return f"a replica for each ready pod of {discovery.namespace}/{discovery.service}"


def _profile(target: Target) -> tuple[str, ...]:
    profile = target.profile
    source = "assumed: neither `engine_profile` nor `gpus` and `model` tell" if profile is None else profile.source
    return target.name, (profile or ASSUMED).name, source, spell_profile(profile or ASSUMED)


def _cost(target: Target) -> str:
    if target.gpus is not None:
        return _gpus(target.gpus, target.replicas)
    if target.price is None:
        return "cost unknown"
    price = target.price
    paid = f"{_usd(price.input_nano_usd_per_mtok)} in, {_usd(price.output_nano_usd_per_mtok)} out per M tokens"
    return f"{paid} ({price.source})"


def _gpus(gpus: Gpus, urls: int) -> str:
    hourly = _usd(gpus.replica_nano_usd_per_hour)
    replicas = gpus.behind(urls)
    counted = (
        "replicas as counted, each " if replicas is None else f"{replicas} replicas, each " if replicas > 1 else ""
    )
    terms = (
        f"{gpus.reserved.replicas} reserved at {_usd(gpus.count * gpus.reserved.nano_usd_per_hour)}/h"
        if gpus.reserved
        else "",
        f"{gpus.spot.replicas} on spot at {_usd(gpus.count * gpus.spot.nano_usd_per_hour)}/h" if gpus.spot else "",
        *(f"{_usd(gpus.count * one.nano_usd_per_hour)}/h {_schedule(one.schedule)}" for one in gpus.schedule),
    )
    return ", ".join(filter(None, (f"{counted}{gpus.count} {gpus.type} at {hourly}/h", *terms)))


def _usd(nano_usd: int) -> str:
    dollars, rest = divmod(nano_usd, NANO)
    return f"${dollars}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


def _candidate(target: Target, model: str) -> str:
    return target.name if model == target.model else f"{target.name} as {model}"


def _route(route: Route) -> tuple[str, ...]:
    gates, wants = _rules(route.require), _rules(route.want)
    shadows = "; ".join(part for part in (_rules(route.shadow_require), _rules(route.shadow_want)) if part)
    return (
        route.name,
        _match(route.match),
        f"require {gates}" if gates else "no gates",
        f"want {wants}" if wants else "",
        f"in shadow {shadows}" if shadows else "",
        f"prefer {route.prefer}",
    )


def _match(match: Match) -> str:
    parts = (
        _one_of("model", match.models),
        _one_of("endpoint", match.endpoints),
        _one_of("tenant", match.tenants),
        _one_of("key", match.keys),
        f"tags {', '.join(sorted(match.tags))}" if match.tags else "",
        match.traffic or "",
        "" if match.stream is None else "streamed" if match.stream else "not streamed",
        _one_of("with", match.modalities),
        "" if match.tools is None else "with tools" if match.tools else "without tools",
        _span(match.min_input_tokens, match.max_input_tokens),
        _schedule(match.schedule) if match.schedule else "",
    )
    return "; ".join(part for part in parts if part) or "everything"


def _budgets(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    """One line for all that `each` made of one."""
    count: dict[str, int] = {}
    for budget in snapshot.budgets:
        count[budget.group] = count.get(budget.group, 0) + 1
    grouped = {budget.group or budget.name: budget for budget in reversed(snapshot.budgets)}
    for name, budget in reversed(grouped.items()):
        caps = " and ".join(usd_per(cap.nano_usd, cap.per) for cap in budget.caps)
        many = f" for each of {count[budget.group]}" if budget.group else ""
        out = f"downgrade to {budget.downgrade}" if budget.downgrade else budget.exhausted
        yield name, f"{caps}{many}", f"{budget.lane} money", budget.enforce, f"then {out}"


def _span(least: int | None, most: int | None) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"from {least} input tokens"
    return f"up to {most} input tokens" if least is None else f"{least} to {most} input tokens"


def _schedule(schedule: Schedule) -> str:
    days = "" if len(schedule.days) == len(DAYS) else f"{', '.join(DAYS[day] for day in sorted(schedule.days))} "
    return f"{days}{_clock(schedule.from_minute)}-{_clock(schedule.to_minute)} {schedule.zone}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _rules(rules: Rules) -> str:
    request = rules.max_nano_usd_per_request
    parts = (
        _one_of("region", rules.regions),
        _one_of("retention", rules.retention),
        f"lane {rules.lane}" if rules.lane else "",
        f"tags {', '.join(sorted(rules.tags))}" if rules.tags else "",
        "no training" if rules.no_training else "",
        _one_of("quantization", rules.quantization),
        *(f"{objective.rule} {_objective(objective)}" for objective in rules.objectives),
        f"uptime {rules.uptime:.10g}" if rules.uptime is not None else "",
        f"{_usd(rules.nano_usd_per_mtok)} per M tokens" if rules.nano_usd_per_mtok is not None else "",
        f"{_usd(request)} per request" if request is not None else "",
        _limits(rules.limits),
    )
    return "; ".join(part for part in parts if part)


def _objective(objective: Objective) -> str:
    if objective.rule.startswith("perceived_tps"):
        return f"{1 / objective.limit_s:.6g}"
    return spell_duration(objective.limit_s)


def _limits(limits: Limits) -> str:
    given = ("rpm", limits.rpm), ("tpm", limits.tpm), ("concurrency", limits.concurrency)
    spelled = ", ".join(f"{name} {value}" for name, value in given if value is not None)
    return f"{spelled} (shadow)" if spelled and limits.mode is Mode.SHADOW else spelled


def _one_of(what: str, values: Iterable[str] | None) -> str:
    return f"{what} {' or '.join(sorted(values))}" if values else ""


def _callers(snapshot: Snapshot) -> str:
    if snapshot.open_to_all:
        return "everybody who reaches the port (auth: none)"
    if not snapshot.tenants:
        return "this machine only, since there are no tenants"
    keys = f"{len(snapshot.keys)} {'key' if len(snapshot.keys) == 1 else 'keys'}"
    return f"{keys} of {', '.join(sorted(snapshot.tenants))}"
