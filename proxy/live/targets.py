"""The targets of a policy as the live view tells them: what they do, how full they are, and what they cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import urlsplit

from proxy.discovery.discovery import Found
from proxy.engines import ReplicaReport
from proxy.live.cell import Counts
from proxy.live.recent import Recent
from proxy.live.routes import latency_of
from proxy.live.saturation import Usual, saturation
from proxy.live.view import FoundView, ReplicaView, TargetMoney, TargetView
from proxy.policy.model import Lane, Route, Snapshot, Target
from proxy.routing.predict import aims
from proxy.routing.readings import Breaker, Reading, Readings
from proxy.routing.uptime import of_target

Told = Mapping[tuple[str, str], ReplicaReport]
"""By target and URL, what engines say of themselves."""


def targets_of(
    snapshot: Snapshot,
    readings: Readings,
    told: Told,
    money: Mapping[str, TargetMoney],
    recent: Recent,
    now: float,
    *,
    rate_ticks: int,
    share_ticks: int,
    found: Mapping[str, Found | str] = MappingProxyType({}),
) -> tuple[TargetView, ...]:
    """Every target of the policy, in its order."""
    rate_s = recent.span_s(rate_ticks, now)
    counted = _counted(recent, rate_ticks)
    usual = _usual(snapshot.routes, recent, share_ticks)
    return tuple(
        _target(
            target,
            readings.get(target.name, ()),
            told,
            usual.get(target.name, Usual()),
            money.get(target.name),
            counted.get(target.name, ()),
            _found(found.get(target.name), now),
            recent,
            rate_s,
            now,
        )
        for target in snapshot.targets.values()
    )


def _counted(recent: Recent, ticks: int) -> Mapping[str, list[Counts]]:
    found: defaultdict[str, list[Counts]] = defaultdict(list)
    for _, target, cell in recent.cells():
        found[target].append(cell.since(ticks))
    return found


def _usual(routes: tuple[Route, ...], recent: Recent, ticks: int) -> dict[str, Usual]:
    """The usual request at each target that had any, by the route that sends it most."""
    by_target: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sums: dict[tuple[str, str], Counts] = {}
    for name, target, cell in recent.cells():
        counts = sums[name, target] = cell.since(ticks)
        by_target[target][name] += counts.requests
    named = {route.name: route for route in routes}
    found = {}
    for target, by_route in by_target.items():
        name, requests = by_route.most_common(1)[0]
        if requests and name in named:
            counts, route = sums[name, target], named[name]
            found[target] = Usual(
                input_tokens=counts.input_tokens / requests,
                output_tokens=counts.output_tokens / requests,
                aims=aims(route.require, route.want),
            )
    return found


def _target(
    target: Target,
    seen: tuple[Reading, ...],
    told: Told,
    usual: Usual,
    money: TargetMoney | None,
    counted: Iterable[Counts],
    found: FoundView | None,
    recent: Recent,
    rate_s: float,
    now: float,
) -> TargetView:
    urls = target.addresses
    replicas = tuple(
        _replica(target, reading, url, told.get((target.name, url)), usual, now)
        for reading, url in zip(seen, urls, strict=False)
    )
    requests, failed, tokens_in, tokens_out = (
        (sum(column) for column in zip(*counted, strict=True)) if counted else (0,) * 4
    )
    per_s = 1.0 / rate_s if rate_s else 0.0
    serving = [one for one in replicas if one.breaker is not Breaker.OPEN]
    waits = [one.waiting for one in replicas if one.waiting is not None]
    filled = [one.saturation for one in serving if one.saturation is not None]
    return TargetView(
        name=target.name,
        lane=target.lane,
        model=target.model,
        region=target.region,
        runs_on=(target.engine.value if target.engine is not None else target.provider) or "",
        gpus="" if target.gpus is None else f"{target.gpus.count} x {target.gpus.type}",
        max_in_flight=target.max_in_flight,
        in_flight=sum(one.in_flight for one in replicas),
        waiting=sum(waits) if waits else None,
        saturation=min(filled, default=None),
        breaker=_breaker(replicas),
        replicas_serving=len(serving),
        replicas=replicas,
        uptime_here=of_target(seen),
        latency_here=latency_of(recent.target(target.name), now),
        requests_per_s_here=requests * per_s,
        input_tokens_per_s_here=tokens_in * per_s,
        output_tokens_per_s_here=tokens_out * per_s,
        failures_per_s_here=failed * per_s,
        quota=_quota(seen, now),
        money=money,
        found=found,
    )


def _found(one: Found | str | None, now: float) -> FoundView | None:
    """How it stands with its pods; of a source that never answered, only what is wrong."""
    if one is None:
        return None
    if isinstance(one, str):
        return FoundView(up=False, trouble=one)
    return FoundView(
        up=one.up,
        age_s=max(0.0, now - one.as_of),
        unready=one.unready,
        terminating=one.terminating,
        trouble=one.trouble,
    )


def _replica(
    target: Target, reading: Reading, url: str, told: ReplicaReport | None, usual: Usual, now: float
) -> ReplicaView:
    load, kv_use = reading.load, None if told is None else told.kv_use
    share, by = saturation(target, reading, usual, kv_use) if target.lane is Lane.DEDICATED else (None, "")
    shut = reading.breaker is Breaker.OPEN
    return ReplicaView(
        replica=reading.replica,
        host=host_of(url),
        in_flight=reading.in_flight,
        breaker=reading.breaker,
        open_for_s=max(0.0, reading.open_until - now) if shut else None,
        full_for_s=reading.full_until - now if reading.full_until > now else None,
        saturation=share,
        saturated_by=by,
        waiting=None if load is None else load.waiting,
        queued_prompt_tokens=None if load is None else load.queued_tokens,
        decoding=None if load is None else load.decoding,
        context_tokens=None if load is None else load.context_tokens,
        ttft_factor=None if load is None else load.ttft_factor,
        itl_factor=None if load is None else load.itl_factor,
        samples=None if load is None else load.samples,
        warmth=None if load is None else load.warmth,
        kv_use=kv_use,
        engine_running=None if told is None else told.running,
        engine_waiting=None if told is None else told.waiting,
        engine_age_s=None if told is None else told.age_s,
        trouble="" if told is None else told.trouble,
        uptime_here=reading.uptime,
    )


@lru_cache(maxsize=1024)
def host_of(url: str) -> str:
    """The host and port of a URL, without whatever else it holds: it may hold credentials."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _breaker(replicas: tuple[ReplicaView, ...]) -> Breaker | None:
    """The best of them."""
    found = {one.breaker for one in replicas}
    return next((one for one in (Breaker.CLOSED, Breaker.HALF_OPEN, Breaker.OPEN) if one in found), None)


def _quota(seen: tuple[Reading, ...], now: float) -> str:
    """What a provider said last of the tightest of its limits, in words."""
    quota = next((one.quota for one in seen if one.quota is not None), None)
    if quota is None or quota.reset_at <= now:
        return ""
    return f"{quota.remaining} of {quota.limit} {quota.unit} left for {quota.reset_at - now:.0f} s"
