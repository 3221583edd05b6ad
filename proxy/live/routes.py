"""The routes of a policy as the live view tells them: what each wants, what it got, and where its requests went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from proxy.live.recent import Latencies, Recent
from proxy.live.view import LatencyHere, ObjectiveHere, RouteView, Spread
from proxy.policy.model import Lane, Objective, Route
from proxy.routing.explain.explained import Uptime
from proxy.signals.windows import QUANTILES, Durations

_AT = {f"p{round(100 * quantile)}": place for place, quantile in enumerate(QUANTILES)}


def routes_of(
    routes: tuple[Route, ...],
    recent: Recent,
    uptimes: Mapping[str, Uptime],
    now: float,
    *,
    rate_ticks: int,
    share_ticks: int,
) -> tuple[RouteView, ...]:
    """Every route of the policy, in its order. `rate_ticks` are those of a rate, `share_ticks` those of a share."""
    rate_s = recent.span_s(rate_ticks, now)
    counted = _counted(recent, rate_ticks, share_ticks)
    spilled, refused = _by_rule(recent, "spilled", share_ticks), _by_rule(recent, "refused", share_ticks)
    return tuple(
        _route(one, counted[one.name], spilled[one.name], refused[one.name], recent, uptimes, rate_s, now)
        for one in routes
    )


class _Counted:
    """What one route counted: requests lately, and by lane and failed in the longer span."""

    __slots__ = ("by_lane", "failed", "lately")

    def __init__(self) -> None:
        self.lately = self.failed = 0
        self.by_lane: Counter[Lane] = Counter()


def _counted(recent: Recent, rate_ticks: int, share_ticks: int) -> defaultdict[str, _Counted]:
    found: defaultdict[str, _Counted] = defaultdict(_Counted)
    for route, _, cell in recent.cells():
        counted, longer = found[route], cell.since(share_ticks)
        counted.lately += cell.since(rate_ticks).requests
        counted.by_lane[cell.lane] += longer.requests
        counted.failed += longer.failed
    return found


def _by_rule(recent: Recent, kind: str, ticks: int) -> defaultdict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for route, rule, count in sorted(recent.tallies(kind, ticks), key=lambda one: -one[2]):
        found[route][rule] = count
    return found


def _route(
    route: Route,
    counted: _Counted,
    spilled: dict[str, int],
    refused: dict[str, int],
    recent: Recent,
    uptimes: Mapping[str, Uptime],
    rate_s: float,
    now: float,
) -> RouteView:
    latencies, uptime = recent.route(route.name), uptimes.get(route.name)
    requests = counted.by_lane.total()
    return RouteView(
        name=route.name,
        prefer=route.prefer,
        objectives=objectives_of(route, latencies, now),
        latency_here=latency_of(latencies, now),
        uptime_here=None if uptime is None else uptime.share,
        requests_per_s_here=counted.lately / rate_s if rate_s else 0.0,
        requests_here=requests,
        failed_here=counted.failed,
        refused_here=sum(refused.values()),
        dedicated_share_here=_share(counted.by_lane[Lane.DEDICATED], requests),
        shared_share_here=_share(counted.by_lane[Lane.SHARED], requests),
        spill_share_here=_share(sum(spilled.values()), requests),
        spilled_by_here=spilled,
        refused_by_here=refused,
    )


def objectives_of(route: Route, latencies: Latencies | None, now: float) -> tuple[ObjectiveHere, ...]:
    """What the route requires and wants of latencies, in force, beside what was observed."""
    required = [_objective(one, latencies, now, required=True) for one in route.require.objectives]
    return (*required, *[_objective(one, latencies, now, required=False) for one in route.want.objectives])


def _objective(objective: Objective, latencies: Latencies | None, now: float, *, required: bool) -> ObjectiveHere:
    of, quantile, _ = objective.field.split("_")
    if latencies is None:
        return ObjectiveHere(rule=objective.rule, limit_s=objective.limit_s, required=required)
    durations: Durations = getattr(latencies, of)
    observed_s = durations.quantiles(now)[_AT[quantile]]
    return ObjectiveHere(
        rule=objective.rule,
        limit_s=objective.limit_s,
        observed_s=observed_s,
        met=None if observed_s is None else observed_s <= objective.limit_s,
        required=required,
        samples=durations.count,
    )


def latency_of(latencies: Latencies | None, now: float) -> LatencyHere:
    """All the percentiles that are shown."""
    if latencies is None:
        return LatencyHere()
    return LatencyHere(
        ttft=_spread(latencies.ttft, now), itl=_spread(latencies.itl, now), e2e=_spread(latencies.e2e, now)
    )


def _spread(durations: Durations, now: float) -> Spread:
    quantiles = durations.quantiles(now)
    return Spread(
        samples=durations.count,
        p50_s=quantiles[_AT["p50"]],
        p95_s=quantiles[_AT["p95"]],
        p99_s=quantiles[_AT["p99"]],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
