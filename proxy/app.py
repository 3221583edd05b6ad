"""The composition root: a policy and settings in, two ASGI applications out. It owns every task and client.

Theory of operation
-------------------
The edges (upstreams, signals, meters, telemetry, discovery) do not know of one another; what they exchange is wired
here, with plain functions. Nothing global: two `Spillway`s can live in one process, as the tests do.

Another policy is adopted between two requests, never within one: on the event loop, in one go. Whatever is known of a
target belongs to its name and URL, so it survives; what belongs to the policy before goes with its last request.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

import msgspec
from prometheus_client.core import Metric
from starlette.applications import Starlette

from proxy.api.admin import admin_app
from proxy.api.admin_auth import AdminAuth
from proxy.api.catalogue import Catalogue
from proxy.api.explain import Explainer
from proxy.api.health import Health
from proxy.api.live import LiveFeed
from proxy.api.openai import DataPort
from proxy.deadlines import Deadlines
from proxy.engines import Engines
from proxy.gauges import policy_gauges, process_gauges, replica_gauges
from proxy.live.board import Board, Sources
from proxy.metering import Metering
from proxy.meters.ledger import Ledger
from proxy.pods import Pods
from proxy.policy.model import Lane, Snapshot, Target
from proxy.policy.status import PolicyStatus
from proxy.policy.watch import Unfit
from proxy.relay import Relay
from proxy.routing import uptime
from proxy.routing.decide import Router
from proxy.routing.explain.explained import Uptime
from proxy.routing.facts import Facts
from proxy.routing.plan import Attempt, Refusal
from proxy.routing.table import Lawful
from proxy.routing.trace_context import read_context
from proxy.settings import Settings
from proxy.signals.retry_budget import RetryBudget
from proxy.signals.tracker import Tracker
from proxy.telemetry import traces
from proxy.telemetry.decision_log import DecisionLog, opened
from proxy.telemetry.log import RequestLog
from proxy.telemetry.metrics import Metrics, count
from proxy.telemetry.records import Record
from proxy.telemetry.traces import Traces
from proxy.unmet import Unmet
from proxy.upstream.base import Call, Upstream
from proxy.upstream.passthrough import Passthrough
from proxy.upstream.reckoning import TokensPerEvent
from proxy.upstream.traced import Traced
from proxy.upstream.translated import Translated

_log = logging.getLogger(__name__)


class Spillway:
    """One proxy process. Enter it on a running loop; `data` and `admin` are its two ports."""

    def __init__(self, snapshot: Snapshot, settings: Settings, store_url: str) -> None:
        self._router = Router(snapshot)
        self.policy = PolicyStatus(revision=snapshot.revision, loaded_at=time.time())
        self.deadlines = Deadlines()
        self._waits_until = 0.0
        self.health = Health(self._degraded, lambda: self.policy)
        self._tracker = Tracker(snapshot.targets.values(), random.random)
        per_event = TokensPerEvent()
        self._metering = Metering(
            snapshot,
            settings,
            store_url,
            per_event,
            self._in_flight,
            self._absorb,
            self._lawful_set,
        )
        tracker = self._tracker
        self._unmet = Unmet(snapshot, tracker.survey, tracker.answer_tokens, tracker.found, self._metering)
        self._engines = Engines(snapshot.targets.values(), self._tracker.heard)
        self._pods = Pods(snapshot, self._serve)
        self._upstreams = _Upstreams(settings.trace_shared)
        self._traces = traces.opened(os.environ)
        self._telemetry = _Telemetry(self._gauges, opened(settings), self._note, self._traces)
        self._relay = Relay(
            signals=self._tracker,
            rates=self._metering.rates,
            budget=RetryBudget(time.monotonic()),
            meters=self._metering.ledger,
            purse=self._metering.purse,
            upstreams=self._upstreams,
            per_event=per_event,
            telemetry=self._telemetry,
            deadlines=self.deadlines,
            unmet=self._unmet,
        )
        catalogue = Catalogue(lambda: self._router.snapshot, self.health)
        self.data = DataPort(
            self._relay,
            lambda: self._router,
            catalogue.app,
            max_body_bytes=settings.max_body_bytes,
            max_in_flight=settings.max_in_flight,
            trace=read_context if self._traces is None else self._traces.begin,
        )
        self.board = self._board(settings.worker)
        self.admin = AdminAuth(self._admin_app(), settings.admin_token)

    async def __aenter__(self) -> Self:
        self.deadlines.start()
        self.deadlines.add(self._telemetry)
        self.deadlines.add(self)
        await self._metering.start()
        await self._pods.start()
        self._engines.start()
        self._unmet.start()
        self.board.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.data.cancel()
        self.board.close()
        self.deadlines.stop()
        await self._pods.aclose()
        await self._engines.aclose()
        await self._unmet.aclose()
        await self._upstreams.aclose()
        self._telemetry.flush()
        await self._metering.aclose()
        self._telemetry.close()
        if self._traces is not None:
            await self._traces.aclose()

    def ready(self, snapshot: Snapshot) -> Router:
        """A policy that may be adopted; made in whatever thread asks."""
        return self._pods.ready(snapshot)

    def adopt(self, router: Router) -> None:
        """Serve by another policy from the next request on; requests that have begun end by theirs."""
        revision, previous = router.snapshot.revision, self.policy.revision
        self._pods.adopt(router)
        self.policy = self.policy.adopted(revision, time.time())
        _log.info("policy %s serves, generation %d, after %s", revision, self.policy.generation, previous)

    def _serve(self, router: Router) -> None:
        snapshot = router.snapshot
        self._tracker.adopt(snapshot.targets.values(), time.monotonic())
        self._unmet.adopt(snapshot)
        self._upstreams.adopt(snapshot.targets.values())
        self._relay.adopt()
        self._metering.adopt(snapshot)
        self._engines.adopt(snapshot.targets.values())
        self._router = router

    def drain(self, waits_until: float) -> None:
        """Say that no more is to be sent here. Nobody waits for room past `waits_until`, on the monotonic clock."""
        self.health.draining = True
        self._waits_until = waits_until

    def refuse(self, refused: Unfit) -> None:
        """Say why the text on the disk is not served."""
        problems = tuple(map(str, refused.problems))
        self.policy = self.policy.refused(refused.revision, time.time(), problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        _log.warning("policy %s serves on, the new text has mistakes: %s%s", self.policy.revision, problems[0], more)

    def restore(self) -> None:
        """The text on the disk is again the one that is served."""
        self.policy = self.policy.restored()
        _log.info("policy %s serves on, and is on the disk again", self.policy.revision)

    @property
    def ledger(self) -> Ledger:
        """What this process has counted."""
        return self._metering.ledger

    def _in_flight(self) -> Mapping[str, int]:
        now = time.monotonic()
        return {**self._tracker.gauges(now), **self._unmet.gauges(now)}

    def _absorb(self, others: Mapping[str, int]) -> None:
        now = time.monotonic()
        self._tracker.absorb(others, now)
        self._unmet.absorb(others, now)

    def _lawful_set(self, facts: Facts) -> Lawful | Refusal:
        return self._router.lawful_set(facts)

    def check(self, now: float) -> None:
        """The sweep: keep the relay's word on what is degraded up to date; and while we drain, who waits for room."""
        self._relay.headers.degraded = ", ".join(self._degraded()).encode()
        if self.health.draining:
            self._relay.waiting.close(self._waits_until)

    def _admin_app(self) -> Starlette:
        metering = self._metering
        explainer = Explainer(lambda: self._router, self._tracker, metering.purse.funds, metering.rates.rates)
        return admin_app(
            self._telemetry.exposition,
            self.health,
            metering.report,
            self._served,
            explainer,
            standing=metering.standing,
            usage=metering.usage,
            demand=metering.demand,
            latency=self._engines.report,
            live=LiveFeed(self.board),
        )

    def _board(self, worker: int | None) -> Board:
        sources = Sources(
            snapshot=lambda: self._router.snapshot,
            policy=lambda: self.policy,
            draining=lambda: self.health.draining,
            survey=self._tracker.survey,
            uptimes=self._uptimes,
            waiting=lambda: len(self._relay.waiting),
            lag_s=lambda: self.deadlines.lag_s,
            flush=self._telemetry.flush,
            found=self._pods.found,
        )
        return Board(sources, self._metering, self._engines, worker)

    def _note(self, record: Record, now: float) -> None:
        self._metering.note(record, now)
        self._engines.note(record, now)
        self.board.note(record)

    def _degraded(self) -> Mapping[str, str]:
        return self._metering.degraded()

    def _uptimes(self) -> dict[str, Uptime]:
        """The composite uptime of each route, as far as requests have come its way."""
        return uptime.by_route(self._router.evaluated(), self._tracker.survey(time.monotonic()))

    def _served(self) -> bytes:
        uptimes = self._uptimes()
        routes = [{"name": one.name, "uptime": uptimes.get(one.name)} for one in self._router.snapshot.routes]
        return msgspec.json.encode({**msgspec.to_builtins(self.policy), "routes": routes})

    def _gauges(self) -> Iterator[Metric]:
        log = self._telemetry.log
        yield from replica_gauges(self._tracker.survey(time.monotonic()), self._tracker.transitions)
        yield from process_gauges(
            waiting=len(self._relay.waiting),
            lag_s=self.deadlines.lag_s,
            draining=self.health.draining,
            degraded=self._degraded(),
            lines_dropped=log.dropped,
            decisions_dropped=log.dropped_from_file,
        )
        yield from self._metering.metrics()
        yield from self._unmet.metrics()
        yield from self._engines.metrics()
        yield from self._pods.metrics()
        yield from policy_gauges(self.policy, self._router.snapshot.routes, self._uptimes())
        if self._traces is not None:
            yield count("spans_dropped", "Spans that no collector took", ({}, self._traces.dropped))


class _Upstreams:
    """Bytes where the target speaks the caller's protocol, LiteLLM where it does not.

    Engines are told of the trace that a request is part of, and shared providers too if that is said (`trace_shared`).
    """

    def __init__(self, trace_shared: bool) -> None:
        self._trace_shared = trace_shared
        self._passthrough = Passthrough()
        self._translated = Translated()

    def of(self, attempt: Attempt, call: Call) -> Upstream:
        if call.endpoint not in attempt.target.native:
            return self._translated
        if call.trace is None or (attempt.target.lane is Lane.SHARED and not self._trace_shared):
            return self._passthrough
        return Traced(self._passthrough, call.trace)

    def adopt(self, targets: Iterable[Target]) -> None:
        self._passthrough.adopt(targets)

    async def aclose(self) -> None:
        await self._passthrough.aclose()
        await self._translated.aclose()


class _Telemetry:
    """Metrics, the request log and the meter of demand (`note`), fed together, a few records at a time.

    The code that counts and writes is out of the processor's caches whenever a request has just run through all the
    rest; sixteen records at once pay for fetching it once, and hold the loop for a tenth of a millisecond.
    """

    BATCH = 16

    def __init__(
        self,
        gauges: Callable[[], Iterator[Metric]],
        decision_log: DecisionLog | None,
        note: Callable[[Record, float], None],
        traces: Traces | None,
    ) -> None:
        self.metrics = Metrics(gauges)
        self._note = note
        self._traces = traces
        self.log = RequestLog(sys.stdout.buffer, decision_log)
        self._pending: list[Record] = []

    def record(self, record: Record) -> None:
        self._pending.append(record)
        if len(self._pending) >= self.BATCH:
            self.flush()

    def cancelled(self, lane: Lane, seconds: float) -> None:
        self.metrics.cancelled(lane, seconds)

    def check(self, now: float) -> None:
        """The sweep: nothing waits longer than one period."""
        self.flush()

    def flush(self) -> None:
        records, self._pending = self._pending, []
        for record in records:
            self.metrics.record(record)
        for record in records:
            self.log.record(record)
        now = time.monotonic()
        for record in records:
            self._note(record, now)
        if self._traces is not None and records:
            self._traces.record(records)

    def close(self) -> None:
        self.flush()
        self.log.close()

    def exposition(self, openmetrics: bool) -> Iterator[bytes]:
        """What Prometheus reads, up to now, piece by piece."""
        self.flush()
        return self.metrics.exposition(openmetrics=openmetrics)
