"""What the engines of the dedicated targets say of themselves, beside what their clients see.

Theory of operation
-------------------
One scraper reads the engines' metrics in the background; each reading goes to whoever reconciles it with our own counts
(`on_reading`) and to the comparison of both ends' latencies, which is fed by finished requests too. Nothing of it is on
the path of a request: the records come in batches, with the rest of the telemetry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from prometheus_client.core import Metric

from proxy.policy.model import Lane, Target
from proxy.signals.distribution import WINDOW_S, Spread
from proxy.signals.end_to_end import EndToEnd, Parts, TargetLatency
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.engine_metrics_names import DIALECTS
from proxy.signals.scrape import EVERY_S, OnReading, OpenFetch, Scraper, Standing
from proxy.telemetry.metrics import count, gauge
from proxy.telemetry.records import Record


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One engine; `age_s` is since it was last read, None if it never was. `connect_s` is how long the last connection
    for that took. `trouble` is why it is not read, in words.
    """

    replica: int
    url: str
    age_s: float | None = None
    running: int | None = None
    waiting: int | None = None
    kv_use: float | None = None
    preemptions: int | None = None
    connect_s: float | None = None
    trouble: str = ""


class TargetReport(TargetLatency, frozen=True, kw_only=True, gc=False):
    """One target: both ends, and its engines."""

    engine: str
    region: str
    replicas: tuple[ReplicaReport, ...] = ()


class LatencyReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The body of `/admin/latency`: the dedicated targets, over the last `window_s`; clients are of one process."""

    window_s: float
    targets: tuple[TargetReport, ...]


def _nobody(target: str, url: str, reading: EngineReading) -> None:
    """Nobody reconciles."""


class Engines:
    """See the module's text."""

    def __init__(
        self,
        targets: Iterable[Target],
        on_reading: OnReading = _nobody,
        *,
        open_fetch: OpenFetch | None = None,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        known = tuple(targets)
        self._targets = known
        self._clock = clock
        self._also = on_reading
        self._end_to_end = EndToEnd(known)
        self._scraper = Scraper(known, self._on_reading, open_fetch=open_fetch, every_s=every_s, clock=clock)

    def start(self) -> None:
        """Begin reading on the running event loop."""
        self._scraper.start()

    async def aclose(self) -> None:
        """Stop."""
        await self._scraper.aclose()

    def adopt(self, targets: Iterable[Target]) -> None:
        """Follow another policy."""
        self._targets = tuple(targets)
        self._end_to_end.adopt(self._targets)
        self._scraper.adopt(self._targets)

    def note(self, record: Record, now: float) -> None:
        """What a client has seen; only an answer that came in one try, and in full, says something of a target."""
        if len(record.outcomes) != 1:
            return
        outcome = record.outcomes[0]
        target = outcome.attempt.target
        if outcome.failure is None and target.lane is Lane.DEDICATED:
            overhead_s = record.overhead_s
            self._end_to_end.feed(
                target.name, ttft_s=outcome.ttft_s, total_s=outcome.total_s, overhead_s=overhead_s, now=now
            )

    def report(self) -> LatencyReport:
        """How both ends of each dedicated target compare."""
        now = self._clock()
        standings = tuple(self._scraper.standings())
        compared = {one.target: one for one in self._end_to_end.compared(now, _round_trips_s(standings))}
        targets = tuple(
            _report(target, compared[target.name], [one for one in standings if one.target == target.name], now)
            for target in self._targets
            if target.name in compared
        )
        return LatencyReport(window_s=WINDOW_S, targets=targets)

    def told(self) -> Mapping[tuple[str, str], ReplicaReport]:
        """What each engine says of itself, by target and URL."""
        now = self._clock()
        return {(one.target, one.url): _replica(one, now) for one in self._scraper.standings()}

    def metrics(self) -> Iterator[Metric]:
        """What Prometheus is told of it."""
        now = self._clock()
        told = [(one, one.reading) for one in self._scraper.standings() if one.reading is not None]
        requests = [
            ({**_labels(one), "state": state}, float(requests))
            for one, reading in told
            for state, requests in (("running", reading.running), ("waiting", reading.waiting))
        ]
        yield gauge("engine_requests", "As the engine counts them, whoever sent them", *requests)
        kv_uses = [(_labels(one), reading.kv_use) for one, reading in told if reading.kv_use is not None]
        yield gauge("engine_kv_use", "Share of the engine's cache in use, 1 is full", *kv_uses)
        preempted = [(_labels(one), float(reading.preemptions)) for one, reading in told if reading.preemptions]
        yield count("engine_preemptions", "Requests that the engine threw out of its batch", *preempted)
        ages = [(_labels(one), now - reading.as_of) for one, reading in told]
        yield gauge("engine_metrics_age_seconds", "Since the engine's metrics were last read", *ages)
        yield from self._latencies(now)

    def _latencies(self, now: float) -> Iterator[Metric]:
        compared = tuple(self._end_to_end.compared(now, {}))
        ttfts = [sample for one in compared for sample in _spread(one.target, one.told.ttft)]
        yield gauge("engine_ttft_seconds", "Time to the first token as the engines tell it, lately", *ttfts)
        e2es = [sample for one in compared for sample in _spread(one.target, one.told.e2e)]
        yield gauge("engine_e2e_seconds", "Whole requests as the engines tell it, lately", *e2es)
        ttft_parts = [sample for one in compared for sample in _parts(one.target, one.gap.ttft)]
        yield gauge("ttft_part_seconds", "Where the mean time to the first token goes", *ttft_parts)
        e2e_parts = [sample for one in compared for sample in _parts(one.target, one.gap.e2e)]
        yield gauge("e2e_part_seconds", "Where the mean time of a whole request goes", *e2e_parts)

    def _on_reading(self, target: str, url: str, reading: EngineReading) -> None:
        self._end_to_end.told(target, url, reading)
        self._also(target, url, reading)


def _report(target: Target, compared: TargetLatency, standings: list[Standing], now: float) -> TargetReport:
    gap, engine = compared.gap, target.engine
    trouble = next((one.trouble for one in standings if one.trouble), "")
    if engine not in DIALECTS:
        gap = msgspec.structs.replace(gap, hint=f"engine `{engine}` publishes no metrics that are known here")
    elif trouble and gap.ttft is None and gap.e2e is None:
        gap = msgspec.structs.replace(gap, hint=trouble)
    return TargetReport(
        target=target.name,
        told=compared.told,
        seen=compared.seen,
        gap=gap,
        engine="" if engine is None else engine.value,
        region=target.region,
        replicas=tuple(_replica(one, now) for one in standings),
    )


def _replica(one: Standing, now: float) -> ReplicaReport:
    reading = one.reading
    if reading is None:
        return ReplicaReport(replica=one.replica, url=one.url, trouble=one.trouble)
    return ReplicaReport(
        replica=one.replica,
        url=one.url,
        age_s=now - reading.as_of,
        running=reading.running,
        waiting=reading.waiting,
        kv_use=reading.kv_use,
        preemptions=reading.preemptions,
        connect_s=one.connect_s,
        trouble=one.trouble,
    )


def _round_trips_s(standings: Iterable[Standing]) -> dict[str, float]:
    """By target, to its farthest replica."""
    found: dict[str, float] = {}
    for one in standings:
        if one.connect_s is not None:
            found[one.target] = max(one.connect_s, found.get(one.target, 0.0))
    return found


def _labels(one: Standing) -> dict[str, str]:
    return {"target": one.target, "replica": str(one.replica)}


def _spread(target: str, spread: Spread | None) -> Iterator[tuple[dict[str, str], float]]:
    if spread is not None:
        for stat, seconds in (("mean", spread.mean_s), ("p50", spread.p50_s), ("p99", spread.p99_s)):
            yield {"target": target, "stat": stat}, seconds


def _parts(target: str, parts: Parts | None) -> Iterator[tuple[dict[str, str], float]]:
    if parts is not None:
        named = (
            ("proxy", parts.proxy_s),
            ("queue", parts.queue_s),
            ("engine", parts.engine_s),
            ("outside", parts.outside_s),
        )
        for part, seconds in named:
            if seconds is not None:
                yield {"target": target, "part": part}, seconds
