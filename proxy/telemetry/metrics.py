"""Prometheus metrics, every label of which comes from the policy.

Theory of operation
-------------------
A request touches about eight series. Looking a series up by its labels costs more than counting, so all the series
that one kind of request touches are bound together once, in a `_Series`, and found by one dict look-up. Text is
made, and gauges read from their owners, when Prometheus asks. Names follow Prometheus: base units, `_total`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from proxy import __version__
from proxy.policy.model import Lane
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Cause, Plan, Refusal
from proxy.routing.refusals import RESIDENCY
from proxy.telemetry.exposition import family_text
from proxy.telemetry.records import Record
from proxy.telemetry.series import Counter, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5, 1)
_CANCEL_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_TOKENS_PER_SECOND = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)
_RATIOS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)
_NANO = 1_000_000_000
_RESIDENCY = RESIDENCY | {"geo_parameter"}
NONE = "none"
"""The label of what does not apply: the target of a refused request, say."""

Gauges = Callable[[], Iterator[Metric]]


class Metrics:
    """Everything counted per request. `gauges` are read at each scrape."""

    def __init__(self, *gauges: Gauges) -> None:
        self._gauges = (*gauges, _build_info)
        self._families: list[Counter | Histogram] = []
        by_request = ("endpoint", "route", "lane", "target")

        def counter(name: str, help: str, *labels: str, unit: int = 1) -> Counter:  # noqa: A002
            family = Counter(f"spillway_{name}", help, labels, unit=unit)
            self._families.append(family)
            return family

        def histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:  # noqa: A002
            family = Histogram(f"spillway_{name}", help, buckets, labels)
            self._families.append(family)
            return family

        self.requests = counter("requests", "Requests by how they ended", *by_request, "outcome", "reason")
        self.duration = histogram("request_duration_seconds", "From request to end of reply", _SECONDS, *by_request)
        self.ttft = histogram("time_to_first_token_seconds", "To the first content event", _SECONDS, "route", "target")
        self.itl = histogram("inter_token_seconds", "Mean gap between chunks", _TOKEN_SECONDS, "route", "target")
        self.speed = histogram(
            "perceived_tokens_per_second",
            "Output tokens after the first, by the time they took to stream",
            _TOKENS_PER_SECOND,
            "route",
            "target",
        )
        self.ratio = histogram("prediction_ratio", "Observed by predicted", _RATIOS, "target", "of")
        self.cancel = histogram(
            "upstream_cancel_seconds", "From a client leaving to its upstream closed", _CANCEL_SECONDS, "lane"
        )
        self.overhead = histogram("overhead_seconds", "The proxy's own time before it sends", _OVERHEAD_SECONDS)
        self.waits = histogram("wait_seconds", "Of those that waited for room, until its end", _SECONDS, "route")
        self.spill = counter("spill", "Requests that left dedicated before failure", "from", "to", "reason")
        self.retries = counter("retries", "Attempts that failed and were tried elsewhere", "target", "failure")
        self.hedges = counter("hedges", "Copies of requests that were slow to begin", "from", "to", "result")
        self.tokens = counter("tokens", "Tokens by direction", "target", "direction")
        self.estimated = counter("estimated_requests", "Attempts whose usage no upstream confirmed", "target")
        self.cost = counter("cost_usd", "Token dollars", "lane", "target", unit=_NANO)
        self.unpriced = counter("unpriced_requests", "Shared attempts without a known price", "target")
        self.disconnects = counter("client_disconnects", "Clients that left early", "phase")
        self.refusals = counter("refusals", "Requests answered by the proxy itself", "endpoint", "rule", "status")
        self.shadow = counter("shadow", "What rules in shadow mode would have left out", "route", "rule")
        self.residency = counter("residency_blocked", "Requests kept from leaving where data may be", "route")
        self._series: dict[tuple[str, ...], _Series] = {}

    def record(self, record: Record) -> None:
        """Count one request."""
        outcomes = record.outcomes
        last = outcomes[-1] if outcomes else None
        lane, target = (last.attempt.target.lane, last.attempt.target.name) if last else (NONE, NONE)
        key = (record.facts.endpoint, record.decision.route, lane, target, *_ended(record, last))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self, key)
        series.count(record)
        for exclusion in record.decision.shadow:
            self.shadow.labels(record.decision.route or NONE, exclusion.rule).value += 1
        if record.waited_s:
            self.waits.labels(record.decision.route or NONE).observe(record.waited_s)
        if record.refusal is not None:
            self._count_refusal(record.facts, record.refusal)
        if last is None:
            return
        if last.failure is Failure.CLIENT_LEFT:
            self.disconnects.labels("stream" if last.committed else "waiting").value += 1
        if len(outcomes) > 1 or last.attempt.cause is Cause.SPILLOVER:
            self._count_detours(record)
        for charge in record.charges:
            if charge.usage.estimated:
                self.estimated.labels(charge.target).value += 1
            if not charge.priced:
                self.unpriced.labels(charge.target).value += 1

    def exposition(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        """All of it as Prometheus reads it, a family at a time: others may run in between."""
        for family in self._families:
            yield family.text(openmetrics=openmetrics).encode()
        for gauges in self._gauges:
            for metric in gauges():
                yield family_text(metric, openmetrics=openmetrics).encode()
        if openmetrics:
            yield b"# EOF\n"

    def cancelled(self, lane: Lane, seconds: float) -> None:
        """Count how long it took to close an upstream whose answer nobody wants any more."""
        self.cancel.labels(lane).observe(seconds)

    def _count_refusal(self, facts: Facts, refusal: Refusal) -> None:
        if refusal.rule == Failure.CLIENT_LEFT.label:
            self.disconnects.labels("waiting").value += 1
            return
        self.refusals.labels(facts.endpoint, refusal.rule, str(refusal.status)).value += 1
        if refusal.rule in _RESIDENCY:
            self.residency.labels(refusal.route or NONE).value += 1

    def _count_detours(self, record: Record) -> None:
        for outcome, charge, following in zip(record.outcomes, record.charges, record.outcomes[1:], strict=False):
            assert outcome.failure is not None
            name = outcome.attempt.target.name
            self.tokens.labels(name, "input").value += charge.usage.input_tokens
            self.tokens.labels(name, "output").value += charge.usage.output_tokens
            self.cost.labels(charge.lane, name).value += charge.nano_usd
            if outcome.failure is Failure.FULL:
                self.spill.labels(name, following.attempt.target.name, "full").value += 1
            elif outcome.failure.retryable:
                self.retries.labels(name, outcome.failure.label).value += 1
        assert isinstance(record.decision, Plan)
        first = record.decision.attempts[0]
        for outcome in record.outcomes:
            if outcome.attempt.cause is Cause.HEDGE:
                self.hedges.labels(first.target.name, outcome.attempt.target.name, _result(outcome)).value += 1
        if first.cause is Cause.SPILLOVER:
            left = next((exclusion for exclusion in record.decision.excluded if not exclusion.hard), None)
            came_from, why = (left.target, left.rule) if left else (NONE, NONE)
            self.spill.labels(came_from, first.target.name, why).value += 1


class _Series:
    """Every series that one kind of request touches."""

    __slots__ = (
        "cost",
        "duration",
        "itl",
        "itl_ratio",
        "overhead",
        "requests",
        "speed",
        "tokens_in",
        "tokens_out",
        "ttft",
        "ttft_ratio",
    )

    def __init__(self, metrics: Metrics, key: tuple[str, ...]) -> None:
        endpoint, route, lane, target, ended, reason = key
        route = route or NONE
        self.requests = metrics.requests.labels(endpoint, route, lane, target, ended, reason)
        self.duration = metrics.duration.labels(endpoint, route, lane, target)
        self.overhead = metrics.overhead.labels()
        if lane == NONE:
            return
        self.ttft = metrics.ttft.labels(route, target)
        self.itl = metrics.itl.labels(route, target)
        self.speed = metrics.speed.labels(route, target)
        self.tokens_in = metrics.tokens.labels(target, "input")
        self.tokens_out = metrics.tokens.labels(target, "output")
        self.cost = metrics.cost.labels(lane, target)
        if lane == Lane.DEDICATED:
            self.ttft_ratio = metrics.ratio.labels(target, "ttft")
            self.itl_ratio = metrics.ratio.labels(target, "itl")

    def count(self, record: Record) -> None:
        self.requests.value += 1
        self.duration.observe(record.duration_s)
        self.overhead.observe(record.overhead_s)
        if not record.outcomes:
            return
        outcome = record.outcomes[-1]
        if outcome.ttft_s is not None:
            self._count_stream(outcome, outcome.ttft_s)
        usage = outcome.usage
        self.tokens_in.value += usage.input_tokens
        self.tokens_out.value += usage.output_tokens
        self.cost.value += record.charges[-1].nano_usd

    def _count_stream(self, outcome: Outcome, ttft_s: float) -> None:
        usage, itl_s, estimate = outcome.usage, outcome.itl_s, outcome.attempt.estimate
        self.ttft.observe(ttft_s)
        if estimate is not None:
            self.ttft_ratio.observe(ttft_s / (estimate.ttft_s * estimate.ttft_factor))
            if itl_s is not None:
                self.itl_ratio.observe(itl_s / (estimate.itl_s * estimate.itl_factor))
        if itl_s is None:
            return
        self.itl.observe(itl_s)
        if not itl_s:
            return  # it came in one piece, at no speed
        streamed_s = outcome.total_s - ttft_s
        if streamed_s > 0 and usage.output_tokens > 1 and not usage.reasoning_tokens:
            self.speed.observe((usage.output_tokens - 1) / streamed_s)
        else:
            # Not everybody sends the reasoning that is part of an answer: then events stand for tokens.
            self.speed.observe(1 / itl_s)


def _result(copy: Outcome) -> str:
    """Of a copy: it answered, it was outrun, or it came to nothing by itself."""
    if copy.failure is Failure.OUTRUN:
        return "lost"
    return "won" if copy.failure is None or copy.committed else "failed"


def _ended(record: Record, last: Outcome | None) -> tuple[str, str]:
    """(outcome, reason): served for its attempt's cause, refused by a rule, failed, or left by the client."""
    if last is None:
        if not isinstance(record.decision, Refusal):
            return "failed", "internal_error"  # planned, and a bug of ours came before its first attempt
        rule = record.decision.rule
        return "client_left" if rule == Failure.CLIENT_LEFT.label else "refused", rule
    if last.failure is None:
        return "ok", last.attempt.cause
    if last.failure is Failure.CLIENT_LEFT:
        return "client_left", last.failure.label
    return "failed", last.failure.label


def gauge(name: str, help: str, *samples: tuple[dict[str, str], float]) -> Metric:  # noqa: A002
    """One gauge family with its samples."""
    metric = Metric(f"spillway_{name}", help, "gauge")
    for labels, value in samples:
        metric.add_sample(f"spillway_{name}", labels, value)
    return metric


def count(name: str, help: str, *samples: tuple[dict[str, str], float]) -> Metric:  # noqa: A002
    """One counter family whose totals are kept elsewhere."""
    metric = Metric(f"spillway_{name}", help, "counter")
    for labels, value in samples:
        metric.add_sample(f"spillway_{name}_total", labels, value)
    return metric


def _build_info() -> Iterator[Metric]:
    yield gauge("build_info", "The version of Spillway", ({"version": __version__}, 1.0))
