"""What Prometheus is told of the state of things: replicas, this process, the policy. Read at each scrape.

Theory of operation
-------------------
Nothing is counted here: each function is given what its owners know at that moment, and says it in Prometheus's terms.
What is not known has no sample, never 0. Every label is a name of the policy, or one of a fixed set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf

from prometheus_client.core import Metric

from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.money import NANO_PER_USD
from proxy.meters.report import Period
from proxy.policy.model import Lane, Route
from proxy.policy.status import PolicyStatus
from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Breaker, Load, Reading, Readings
from proxy.telemetry.metrics import count, gauge

DEGRADABLE = ("meters", "journal", "replicas")
"""What may not work as it should while everything is served that can be: the rules that `Metering.degraded` names."""

_STATES = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}
_GPU_KINDS = ("provisioned", "attributed", "idle")
_HOUR_S = 3600.0


def replica_gauges(survey: Readings, transitions: Mapping[tuple[str, Breaker], int]) -> Iterator[Metric]:
    """Of every replica of every target, how it stands; and how often breakers came to a phase, by target."""
    readings = [one for pool in survey.values() for one in pool]

    def per_replica(name: str, help: str, read: Callable[[Reading], float]) -> Metric:  # noqa: A002
        labelled = [({"target": one.target, "replica": str(one.replica)}, float(read(one))) for one in readings]
        return gauge(name, help, *labelled)

    yield per_replica("inflight_requests", "In flight, all workers as last heard", lambda one: one.in_flight)
    yield per_replica("upstream_state", "0 serves, 1 half-open, 2 open", lambda one: _STATES[one.breaker])
    worked = [(one, one.load) for one in readings if one.load is not None]

    def of_work(name: str, help: str, read: Callable[[Load], float]) -> Metric:  # noqa: A002
        labelled = [({"target": one.target, "replica": str(one.replica)}, read(load)) for one, load in worked]
        return gauge(name, help, *labelled)

    yield of_work("queued_prompt_tokens", "Sent, without a first token yet", lambda load: load.queued_tokens)
    yield of_work("decoding_streams", "Past their first token", lambda load: load.decoding)
    yield of_work("ttft_factor", "P90 of observed by predicted", lambda load: load.ttft_factor)
    yield of_work("itl_factor", "P90 of observed by predicted", lambda load: load.itl_factor)
    yield gauge("replicas", "How many there are, of which breakers let so many serve", *_replicas(survey))
    phases = [({"target": name, "to": to}, transitions.get((name, to), 0)) for name in survey for to in Breaker]
    yield count("breaker_transitions", "Breakers that came to this phase", *phases)


def _replicas(survey: Readings) -> Iterator[tuple[dict[str, str], float]]:
    for name, pool in survey.items():
        serving = sum(one.breaker is Breaker.CLOSED for one in pool)
        for state, replicas in (("ready", len(pool)), ("serving", serving), ("ejected", len(pool) - serving)):
            yield {"target": name, "state": state}, replicas


def policy_gauges(policy: PolicyStatus, routes: tuple[Route, ...], uptimes: Mapping[str, Uptime]) -> Iterator[Metric]:
    """What is served, since when, how fast each route is to be, and how often it could be served at all."""
    yield gauge("policy_info", "The policy being served", ({"revision": policy.revision}, 1.0))
    yield gauge("policy_generation", "Policies adopted so far", ({}, policy.generation))
    yield gauge("policy_loaded_timestamp_seconds", "When it was adopted", ({}, policy.loaded_at))
    yield count("policy_reload_failures", "Texts that were not adopted", ({}, policy.reload_failures))
    success = float(policy.error is None)
    yield gauge("policy_last_reload_success", "Whether the text on the disk is what is served", ({}, success))
    limits = [sample for route in routes for sample in _objectives(route)]
    yield gauge("objective_seconds", "What the route asks of this quantile, at most", *limits)
    shares = [({"route": name}, found.share) for name, found in uptimes.items()]
    yield gauge("route_uptime", "At least one target answers, if they fail independently", *shares)


def _objectives(route: Route) -> Iterator[tuple[dict[str, str], float]]:
    """The tightest of each that is required or wanted; a speed that is wanted is a gap between tokens."""
    limits: dict[str, float] = {}
    for one in (*route.require.objectives, *route.want.objectives):
        name = one.field.removesuffix("_s")
        limits[name] = min(one.limit_s, limits.get(name, inf))
    for name, limit_s in limits.items():
        yield {"route": route.name, "objective": name}, limit_s


def process_gauges(
    *,
    waiting: int,
    lag_s: float,
    draining: bool,
    degraded: Mapping[str, str],
    lines_dropped: int,
    decisions_dropped: int,
) -> Iterator[Metric]:
    """How this process does."""
    yield gauge("draining", "Whether it ends, and takes no more requests", ({}, float(draining)))
    rules = [({"rule": rule}, float(rule in degraded)) for rule in dict.fromkeys((*DEGRADABLE, *degraded))]
    yield gauge("degraded", "Whether this part does not work as it should", *rules)
    yield gauge("waiting_requests", "Requests that wait for room", ({}, waiting))
    yield gauge("event_loop_lag_seconds", "How late the last sweep was", ({}, lag_s))
    yield count("log_lines_dropped", "Request log lines nobody read", ({}, lines_dropped))
    yield count("decision_log_lines_dropped", "Lines the decision log lost", ({}, decisions_dropped))


class GpuCounters:
    """What the GPUs of the whole cluster have cost, in time and money.

    How much of their time was busy follows from the average number of GPUs in a replica, so that a policy which changes
    that number can take from one part what it gives to the other; and of money, rounding moves a nano-dollar now and
    then. A counter that falls reads as one that began anew, its whole sum spent a second time, so what was shown once
    stays until it is reached again.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str, str], int] = {}

    def families(self, totals: Mapping[str, GpuTotals]) -> Iterator[Metric]:
        """By target and kind; a target whose policy names no `gpus` has neither."""
        known = {name: sums for name, sums in totals.items() if sums.priced}
        times = [
            ({"target": name, "kind": kind}, self._risen("ms", name, kind, ms) / 1000)
            for name, sums in known.items()
            for kind, ms in zip(_GPU_KINDS, (sums.gpu_ms, sums.busy_gpu_ms, sums.idle_gpu_ms), strict=True)
        ]
        yield count("gpu_seconds", "GPU time of the whole cluster, as last heard", *times)
        costs = [
            ({"target": name, "kind": kind}, self._risen("nano_usd", name, kind, nano_usd) / NANO_PER_USD)
            for name, sums in known.items()
            for kind, nano_usd in zip(_GPU_KINDS, (sums.nano_usd, sums.busy_nano_usd, sums.idle_nano_usd), strict=True)
        ]
        yield count("gpu_cost_usd", "What that GPU time has cost", *costs)

    def _risen(self, unit: str, target: str, kind: str, total: int) -> int:
        key = unit, target, kind
        shown = self._shown[key] = max(total, self._shown.get(key, 0))
        return shown


def price_gauges(recent: Period | None) -> Iterator[Metric]:
    """What tokens of dedicated targets have lately cost, and what others would have asked; None is not known."""
    rows = [] if recent is None else [row for row in recent.targets if row.lane is Lane.DEDICATED]
    prices = [
        ({"target": row.target, "kind": kind}, nano_usd / NANO_PER_USD)
        for row in rows
        for kind, nano_usd in (
            ("effective", row.nano_usd_per_mtok),
            ("shared", row.shared_nano_usd_per_mtok),
        )
        if nano_usd is not None
    ]
    yield gauge("usd_per_mtok", "Lately, of a million tokens: by GPUs, and at shared prices", *prices)
    savings = [
        ({"target": row.target}, row.saving_nano_usd / NANO_PER_USD * _HOUR_S / recent.seconds)
        for row in rows
        if recent is not None and recent.seconds and row.saving_nano_usd is not None
    ]
    yield gauge("saving_usd_per_hour", "Lately, by GPUs instead of shared targets; below zero, a loss", *savings)
