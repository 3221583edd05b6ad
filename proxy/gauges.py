"""What Prometheus is told of the state of things: replicas, this process, the policy. Read at each scrape.

Theory of operation
-------------------
Nothing is counted here and nothing kept: each function is given what its owners know at that moment, and says it in
Prometheus's terms. Every label is a name of the policy, or one of a fixed set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import Metric

from proxy.policy.status import PolicyStatus
from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Breaker, Load, Reading, Readings
from proxy.telemetry.metrics import count, gauge

_STATES = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}


def replica_gauges(survey: Readings) -> Iterator[Metric]:
    """Of every replica of every target, how it stands."""
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


def policy_gauges(policy: PolicyStatus, uptimes: Mapping[str, Uptime]) -> Iterator[Metric]:
    """What is served, since when, and how often each route could be."""
    yield gauge("policy_info", "The policy being served", ({"revision": policy.revision}, 1.0))
    yield gauge("policy_generation", "Policies adopted so far", ({}, policy.generation))
    yield gauge("policy_loaded_timestamp_seconds", "When it was adopted", ({}, policy.loaded_at))
    yield count("policy_reload_failures", "Texts that were not adopted", ({}, policy.reload_failures))
    shares = [({"route": name}, found.share) for name, found in uptimes.items()]
    yield gauge("route_uptime", "At least one target answers, if they fail independently", *shares)


def process_gauges(*, waiting: int, lag_s: float, lines_dropped: int, decisions_dropped: int) -> Iterator[Metric]:
    """How this process does."""
    yield gauge("waiting_requests", "Requests that wait for room", ({}, waiting))
    yield gauge("event_loop_lag_seconds", "How late the last sweep was", ({}, lag_s))
    yield count("log_lines_dropped", "Request log lines nobody read", ({}, lines_dropped))
    yield count("decision_log_lines_dropped", "Lines the decision log lost", ({}, decisions_dropped))
