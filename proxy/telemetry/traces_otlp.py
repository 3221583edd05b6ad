"""Spans made of records and sent to a collector by OTLP over HTTP, by OpenTelemetry's own SDK.

Theory of operation
-------------------
The SDK's sampler is asked when a request begins, because its upstreams are told; its batch processor and exporter, with
a thread and a queue of their own, get the finished spans. In between there is no span: `TraceContext` holds the ids,
the record everything else, and spans are built in one go, with the times that were measured.

A collector that is away costs spans and nothing else. What the queue does not hold is dropped here, and counted with
what could not be sent; that it goes wrong is said once, and once more when it is over, instead of the SDK's line each
time. At the end the queue has `CLOSE_S` to go out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from proxy import __version__
from proxy.routing.trace_context import RANDOM, SAMPLED, Headers, TraceContext, read_context
from proxy.telemetry.records import Record
from proxy.telemetry.traces import ENDPOINTS
from proxy.telemetry.traces_attributes import (
    Attributes,
    attempt_attributes,
    attempt_error,
    attempt_name,
    request_attributes,
    request_error,
    request_name,
)

CLOSE_S = 3.0
QUEUE_SPANS = 2048
"""The specification's, where `OTEL_BSP_MAX_QUEUE_SIZE` does not say otherwise."""
SCOPE = InstrumentationScope("spillway", __version__)
_NANO = 1_000_000_000
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_NO_PARENT = Context()
_log = logging.getLogger(__name__)


class Exported:
    """Makes spans and sends them as the process's OTEL_* variables say. Raises ValueError if they do not make sense."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """`exporter` stands in for the one that the variables describe."""
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._sampler = provider.sampler
        self._resource = provider.resource
        self._queue_spans = _queue_spans()
        self._exporter = _Heard(exporter or OTLPSpanExporter())
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=self._queue_spans)
        self._exporter.listen()
        self._queued = 0
        self._overrun = 0

    @property
    def dropped(self) -> int:
        """Spans for which the queue had no room, and those that the collector did not take."""
        return self._overrun + self._exporter.failed

    def begin(self, headers: Headers, fields: Mapping[bytes, bytes]) -> TraceContext:
        """The place in a trace of a request that has just come, with a span of its own."""
        caller = read_context(headers, fields)
        received_at = time.monotonic()
        span_id = random.getrandbits(64) or 1
        if caller is None:
            trace_id = random.getrandbits(128) or 1
            flags = RANDOM | self._samples(_NO_PARENT, trace_id)
            return TraceContext(trace_id=trace_id, span_id=span_id, flags=flags, received_at=received_at)
        parent = set_span_in_context(NonRecordingSpan(_caller(caller)), _NO_PARENT)
        return TraceContext(
            trace_id=caller.trace_id,
            parent_id=caller.parent_id,
            span_id=span_id,
            flags=(caller.flags & RANDOM) | self._samples(parent, caller.trace_id),
            tracestate=caller.tracestate,
            received_at=received_at,
        )

    def record(self, records: Iterable[Record]) -> None:
        """Queue the spans of requests that are over; what is not sampled has none."""
        past_ns = time.time_ns() - time.monotonic_ns()
        for record in records:
            trace = record.facts.trace
            if trace is None or not trace.sampled:
                continue
            count = 1 + len(record.outcomes)
            if self._queued + count > self._exporter.finished + self._queue_spans:
                self._overrun += count
                continue
            self._queued += count
            for span in spans_of(record, trace, past_ns, self._resource):
                self._processor.on_end(span)

    async def aclose(self) -> None:
        """Send what is queued, for as long as that may take."""
        await asyncio.to_thread(self._close)

    def _samples(self, parent: Context, trace_id: int) -> int:
        found = self._sampler.should_sample(parent, trace_id, "POST", SpanKind.SERVER)
        return SAMPLED if found.decision is Decision.RECORD_AND_SAMPLE else 0

    def _close(self) -> None:
        closing = threading.Thread(target=self._processor.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            self._exporter.shutdown()  # which ends its wait before another try


class _Heard(SpanExporter):
    """An exporter whose failures are counted, and told of once until they are over. Runs in the processor's thread."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._said = _Said()
        self._failing = self._closed = False
        self.finished = 0
        self.failed = 0

    def listen(self) -> None:
        """Tell of failures in the exporter's stead, from here to the end."""
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(self._said)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            if not self._closed:
                result = self._exporter.export(spans)
        finally:
            self.finished += len(spans)
            failing = result is not SpanExportResult.SUCCESS
            if failing:
                self.failed += len(spans)
        if failing and not self._failing:
            _log.warning("traces cannot be sent to `%s`, and are dropped: %s", _collector(), self._said.reason)
        elif self._failing and not failing:
            _log.info("traces are sent again; %d spans were lost", self.failed)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()
            logging.getLogger(OTLPSpanExporter.__module__).removeFilter(self._said)


class _Said(logging.Filter):
    """Takes the exporter's words from the log, where there would be one for each batch, and keeps the last reason."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = "no answer"

    def filter(self, record: logging.LogRecord) -> bool:
        for said in record.args if isinstance(record.args, tuple) else ():
            if isinstance(said, int):
                self.reason = f"answered {said}"
                break
            if isinstance(said, BaseException):
                # Its text would have the whole URL, which is no thing for a log.
                self.reason = type(said).__name__
                break
            if isinstance(said, str) and said != "spans":
                self.reason = said[:100]
        return False


def spans_of(record: Record, trace: TraceContext, past_ns: int, resource: Resource) -> Iterator[ReadableSpan]:
    """The request's span and those of its attempts. `past_ns` is the wall's time less the monotonic clock's."""
    flags = TraceFlags(trace.flags)
    own = SpanContext(trace.trace_id, trace.span_id, is_remote=False, trace_flags=flags)

    def made(
        name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind, said: Attributes, error: str | None
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            resource,
            said,
            kind=kind,
            status=_UNSET if error is None else _ERROR,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=SCOPE,
        )

    for outcome, charge in zip(record.outcomes, record.charges, strict=True):
        start_ns = past_ns + int(outcome.started_at * _NANO)
        end_ns = start_ns + int(outcome.total_s * _NANO)
        context = SpanContext(trace.trace_id, trace.attempt_id(outcome.attempt.ordinal), False, flags)
        said = attempt_attributes(record, outcome, charge)
        yield made(attempt_name(record, outcome), context, own, SpanKind.CLIENT, said, attempt_error(outcome))
    start_ns = past_ns + int(trace.received_at * _NANO)
    end_ns = start_ns + int(record.duration_s * _NANO)
    parent = _caller(trace) if trace.parent_id else None
    said = request_attributes(record)
    yield made(request_name(record), own, parent, SpanKind.SERVER, said, request_error(record))


def _caller(trace: TraceContext) -> SpanContext:
    return SpanContext(trace.trace_id, trace.parent_id, is_remote=True, trace_flags=TraceFlags(trace.flags))


def _resource() -> Resource:
    """What the variables say of this process, and its name and version where they do not."""
    own = Resource({SERVICE_NAME: "spillway", SERVICE_VERSION: __version__})
    found = Resource.create()
    unnamed = str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return own.merge(
        Resource({key: value for key, value in found.attributes.items() if key != SERVICE_NAME or not unnamed})
    )


def _queue_spans() -> int:
    given = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "").strip()
    if given and not given.isdecimal():
        raise ValueError(f"`OTEL_BSP_MAX_QUEUE_SIZE` is `{given}`, which is no number")
    return int(given or QUEUE_SPANS)


def _collector() -> str:
    """Where traces go, without what may be secret in its URL."""
    url = urlsplit(next((url for name in ENDPOINTS if (url := os.environ.get(name, "").strip())), ""))
    return f"{url.hostname}:{url.port}" if url.port else str(url.hostname)
