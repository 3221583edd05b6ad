from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from proxy import __version__
from proxy.policy.model import Tenant
from proxy.routing.outcome import Failure
from proxy.routing.plan import Cause
from proxy.routing.trace_context import RANDOM, SAMPLED, TraceContext
from proxy.telemetry import traces_otlp
from proxy.telemetry.records import Record
from proxy.telemetry.traces_otlp import Exported
from tests.harness import dedicated, proxy, snapshot_of
from tests.scripted import chat_stream, scripted
from tests.telemetry.collector import CLIENT, SERVER, collector
from tests.telemetry.requests import API, attempt, outcome, record

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLED = [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode()), (b"tracestate", b"a=1")]
UNSAMPLED = [(b"traceparent", f"00-{TRACE}-{SPAN}-00".encode())]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_NAME", "RESOURCE_ATTRIBUTES", "TRACES_SAMPLER", "BSP_MAX_QUEUE_SIZE"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)


def begun(exported: Exported, headers: list[tuple[bytes, bytes]] = []) -> TraceContext:  # noqa: B006
    return exported.begin(headers, dict(headers))


def over(trace: TraceContext, started_at: float = 0.0) -> Record:
    """A request that was spilled: two attempts, the second 0.1 s after the first."""
    full = outcome(failure=Failure.FULL, status=503, total_s=0.05, started_at=started_at)
    one = outcome(API, Cause.SPILLOVER, total_s=0.1, started_at=started_at + 0.1)
    second = attempt(API, Cause.SPILLOVER, ordinal=1)
    return record(full, type(one)(**{**fields_of(one), "attempt": second}), facts={"trace": trace})


def fields_of(one: object) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}  # type: ignore[attr-defined]


async def test_a_request_is_a_span_and_its_attempts_are_below_it() -> None:
    memory = InMemorySpanExporter()
    exported = Exported(memory)
    trace = begun(exported)
    exported.record([over(trace, trace.received_at + 0.001)])
    now_ns = time.time_ns()
    await exported.aclose()
    first, second, own = memory.get_finished_spans()
    assert [one.kind for one in (first, second, own)] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.SERVER]
    assert own.parent is None
    assert first.parent == second.parent == own.context
    assert own.context is not None
    assert (own.context.trace_id, own.context.span_id) == (trace.trace_id, trace.span_id)
    assert [one.context and one.context.span_id for one in (first, second)] == [
        trace.attempt_id(0),
        trace.attempt_id(1),
    ]
    assert [one.status.is_ok for one in (first, second, own)] == [False, True, True]
    assert own.start_time is not None
    assert abs(own.start_time - now_ns) < 5 * 10**9
    starts = [(one.start_time or 0) - own.start_time for one in (first, second)]
    assert [round(one / 1e6) for one in starts] == [1, 101]
    assert [(one.end_time or 0) - (one.start_time or 0) for one in (first, second, own)] == [
        50_000_000,
        100_000_000,
        300_000_000,
    ]


async def test_what_the_caller_says_is_the_parent_and_its_choice_of_sampling_holds() -> None:
    memory = InMemorySpanExporter()
    exported = Exported(memory)
    trace, not_kept, own = begun(exported, CALLED), begun(exported, UNSAMPLED), begun(exported)
    assert (trace.name, trace.parent_id, trace.tracestate) == (TRACE, int(SPAN, 16), b"a=1")
    assert (trace.flags, not_kept.flags, own.flags) == (SAMPLED, 0, SAMPLED | RANDOM)
    assert len({trace.span_id, not_kept.span_id, own.span_id, 0}) == 4
    assert own.parent_id == 0
    exported.record([record(facts={"trace": one}) for one in (trace, not_kept)])
    await exported.aclose()
    (span,) = memory.get_finished_spans()
    assert span.parent is not None
    assert (span.parent.span_id, span.parent.is_remote) == (int(SPAN, 16), True)


async def test_a_record_without_a_trace_has_no_span() -> None:
    memory = InMemorySpanExporter()
    exported = Exported(memory)
    exported.record([record(outcome())])
    await exported.aclose()
    assert memory.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("sampler", "argument", "kept"),
    [
        ("always_off", "", (0, 0, 0)),
        ("always_on", "", (1, 1, 1)),
        ("parentbased_always_off", "", (1, 0, 0)),
        ("traceidratio", "0", (0, 0, 0)),
        ("parentbased_traceidratio", "1.0", (1, 0, 1)),
    ],
)
async def test_the_sampler_is_the_variables(
    sampler: str, argument: str, kept: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    exported = Exported(InMemorySpanExporter())
    assert tuple(begun(exported, headers).sampled for headers in (CALLED, UNSAMPLED, [])) == kept
    await exported.aclose()


async def test_it_is_called_spillway_unless_the_variables_call_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    async with collector() as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=gpu")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        for variables in (
            {},
            {"OTEL_SERVICE_NAME": "edge", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod"},
        ):
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            exported = Exported()
            exported.record([over(begun(exported, CALLED))])
            await exported.aclose()
            assert exported.dropped == 0
    assert there.paths == ["/v1/traces"] * 2
    assert all((one["x-team"], one["content-encoding"]) == ("gpu", "gzip") for one in there.headers)
    first, second = (body.resource for body in there.spans[::3])
    assert (first["service.name"], first["service.version"]) == ("spillway", __version__)
    assert (second["service.name"], second["deployment.environment.name"]) == ("edge", "prod")
    assert [span.kind for span in there.spans] == [CLIENT, CLIENT, SERVER] * 2
    assert there.spans[2].parent_id == SPAN
    assert [span.error for span in there.spans[:3]] == [True, False, False]


@pytest.mark.parametrize("direct", [True, False])
async def test_whatever_server_a_request_comes_in_by_it_is_a_span_even_if_it_is_refused(
    direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with collector() as there, scripted([chat_stream("a")]) as gpu:
        for name, value in there.env.items():
            monkeypatch.setenv(name, value)
        snapshot = snapshot_of(dedicated("gpu", gpu.url), bank=Tenant(name="bank"))
        key = {"authorization": "Bearer sk-bank"}
        called = {name.decode(): value.decode() for name, value in CALLED}
        async with proxy(snapshot, direct=direct, max_body_bytes=1000) as spillway:
            for headers, body in (
                (key, {"model": "m", "stream": True}),
                ({}, {"model": "m"}),
                (key, {"model": "m", "x": "y" * 1000}),
                (key, {"model": "other"}),
                (key, b"{"),
            ):
                await spillway.post("/v1/chat/completions", body, {**called, **headers})
            await there.until(lambda spans: len([one for one in spans if one.kind == SERVER]) == 5)
    served, *refused = sorted((one for one in there.spans if one.kind == SERVER), key=lambda one: one.start_ns)
    (attempted,) = [one for one in there.spans if one.kind == CLIENT]
    assert {(one.trace_id, one.parent_id) for one in (served, *refused)} == {(TRACE, SPAN)}
    assert (attempted.trace_id, attempted.parent_id) == (TRACE, served.span_id)
    assert gpu.requests[0].headers["traceparent"] == f"00-{TRACE}-{attempted.span_id}-01"
    codes = ["invalid_api_key", "request_too_large", "model_not_found", "invalid_json"]
    assert [one.attributes["spillway.refusal.code"] for one in refused] == codes
    assert [one.attributes["http.response.status_code"] for one in refused] == [401, 413, 404, 400]
    assert [one.error for one in (served, *refused)] == [False] * 5


class Stuck(SpanExporter):
    """Takes a batch and does not come back before it is let."""

    def __init__(self) -> None:
        self.entered, self.let = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.let.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.let.set()


def eventually(check: Callable[[], bool]) -> bool:
    """Whether the SDK's thread has come so far, within ten seconds."""
    until = time.monotonic() + 10.0
    while not check() and time.monotonic() < until:
        threading.Event().wait(0.001)
    return check()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.let.set()


async def test_a_collector_that_does_not_answer_costs_spans_and_no_time(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "512")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setattr(traces_otlp, "CLOSE_S", 0.05)
    exported = Exported(stuck)
    made = over(begun(exported))
    began = time.perf_counter()
    exported.record([made] * 1000)
    took_s = time.perf_counter() - began
    assert await asyncio.to_thread(stuck.entered.wait, 10)
    exported.record([made] * 1000)
    assert exported.dropped == 2000 * 3 - 510
    assert took_s < 2.0
    async with asyncio.timeout(2.0):
        await exported.aclose()
    stuck.let.set()
    assert await asyncio.to_thread(eventually, lambda: exported.dropped == 2000 * 3)
    assert [one.message for one in caplog.records if one.name.startswith("opentelemetry")] == []


class Broken(InMemorySpanExporter):
    """Raises where it should say that it failed."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.get_finished_spans():
            super().export(spans)
            raise RuntimeError("a bug of the exporter's")
        return super().export(spans)


async def test_a_bug_of_the_exporters_costs_its_batch_and_no_room_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    broken = Broken()
    exported = Exported(broken)
    made = over(begun(exported))
    exported.record([made])
    assert await asyncio.to_thread(eventually, lambda: exported.dropped == 3)
    exported.record([made])
    await exported.aclose()
    assert len(broken.get_finished_spans()) == 6
    assert exported.dropped == 3


async def test_trouble_is_told_once_and_once_more_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    async with collector() as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:secret@127.0.0.1:{there.port}")
        there.status = 400
        exported = Exported()
        made = over(begun(exported))
        for times in (1, 2, 3):
            exported.record([made])
            await there.asked(times)
        there.status = 200
        exported.record([made])
        await there.until(lambda spans: spans)
        await exported.aclose()
    said = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert said == [
        ("WARNING", f"traces cannot be sent to `127.0.0.1:{there.port}`, and are dropped: answered 400"),
        ("INFO", "traces are sent again; 9 spans were lost"),
    ]
    assert exported.dropped == 9


async def test_nobody_there_is_told_without_the_url(
    unused_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{unused_port}/v1/traces?key=secret")
    monkeypatch.setattr(traces_otlp, "CLOSE_S", 0.2)
    exported = Exported()
    exported.record([over(begun(exported))])
    async with asyncio.timeout(5.0):
        await exported.aclose()
    assert all("secret" not in message for message in caplog.messages)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
