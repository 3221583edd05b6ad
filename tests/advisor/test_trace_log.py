"""Spillway's own decision log as a trace."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import msgspec
import pytest
from proxy.advisor.trace import App
from proxy.advisor.trace_files import read_trace
from proxy.advisor.trace_table import TraceUnreadable
from proxy.policy.model import Endpoint, Lane, Priority, Traffic
from proxy.routing.plan import Cause
from proxy.telemetry.log import Attempted, Line, Refused

encode = msgspec.json.Encoder().encode


def attempt(output_tokens: int, *, committed: bool = True, input_tokens: int = 90) -> Attempted:
    return Attempted(
        target="local",
        lane=Lane.DEDICATED,
        replica=0,
        cause=Cause.PREFERRED,
        reason="",
        status=200 if committed else 503,
        failure=None,
        committed=committed,
        ttft_ms=100.0,
        itl_ms=10.0,
        total_ms=900.0,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=0,
        estimated=False,
        nano_usd=0,
        price="",
    )


def line(received_at: float, attempts: list[Attempted], model: str = "m", **more: object) -> Line:
    whole = {
        "at": received_at + 1,
        "request_id": "req_1",
        "tenant": "bank",
        "model": model,
        "endpoint": Endpoint.CHAT,
        "stream": True,
        "traffic": Traffic.ONLINE,
        "route": "default",
        "attempts": attempts,
        "excluded": (),
        "relaxed": False,
        "overhead_ms": 0.1,
        "duration_ms": 900.0,
        "policy": "abc",
        "received_at": received_at,
        "input_tokens": 100,
        "key": "bank/ci",
        "tags": ("gdpr",),
    }
    return Line(**(whole | more))  # type: ignore[arg-type]


def logged(tmp_path: Path, *lines: Line | bytes) -> Path:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"".join(one + b"\n" if isinstance(one, bytes) else encode(one) + b"\n" for one in lines))
    return path


def test_what_was_asked_and_answered(tmp_path: Path) -> None:
    failed_over = [attempt(3, committed=False), attempt(40)]
    path = logged(tmp_path, line(1700000002.5, failed_over), b"serving on :8080", line(1700000001.0, [attempt(20)]))
    trace = read_trace(path)
    assert trace.arrival_s.tolist() == [0.0, 1.5]
    assert trace.output_tokens.tolist() == [20, 40]
    assert trace.input_tokens.tolist() == [90, 90]
    assert trace.began_at_s == 1700000001.0
    assert trace.apps == (App(name="bank/ci m", tenant="bank", key="bank/ci", model="m", tags=frozenset({"gdpr"})),)


def test_refused_requests_count_as_long_as_their_app_s_answers_usually_are(tmp_path: Path) -> None:
    refusal = Refused(429, "rate_limited", "rate")
    path = logged(
        tmp_path,
        *(line(10.0 + at, [attempt(tokens)]) for at, tokens in enumerate((10, 30, 50))),
        line(20.0, [attempt(999)], model="other"),
        line(21.0, [], refusal=refusal),
        line(22.0, [], refusal=refusal, max_output_tokens=12),
        line(23.0, [], model="new", refusal=refusal),
    )
    trace = read_trace(path)
    assert trace.output_tokens.tolist() == [10, 30, 50, 999, 30, 12, 40]
    assert trace.input_tokens[4] == 100  # the estimate


def test_the_priority_is_the_tenant_s_unless_the_line_has_one(tmp_path: Path) -> None:
    trace = read_trace(logged(tmp_path, line(1.0, [attempt(1)]), line(2.0, [attempt(1)], priority="low")))
    assert [app.priority for app in trace.apps] == [None, Priority.LOW]


def test_without_tenants_anybody_asked(tmp_path: Path) -> None:
    trace = read_trace(logged(tmp_path, line(1.0, [attempt(1)], tenant="anonymous", key="", tags=())))
    assert trace.apps == (App(name="all m", model="m"),)


def test_requests_that_came_to_no_route_are_passed_over(tmp_path: Path) -> None:
    refusal = Refused(401, "invalid_api_key", "auth")
    path = logged(tmp_path, line(1.0, [], model="gone", route="", refusal=refusal), line(2.0, [attempt(1)]))
    assert len(read_trace(path)) == 1
    with pytest.raises(TraceUnreadable, match="no request that came to a route"):
        read_trace(logged(tmp_path, line(1.0, [], model="gone", route="", refusal=refusal)))
    with pytest.raises(TraceUnreadable, match="no request that was answered"):
        read_trace(logged(tmp_path, line(1.0, [], refusal=refusal)))


def test_a_line_that_is_cut_off(tmp_path: Path) -> None:
    whole = encode(line(1.0, [attempt(1)]))
    path = logged(tmp_path, whole)
    path.write_bytes(whole + b"\n" + whole[:-40])
    assert len(read_trace(path)) == 1  # the last one is still being written
    path.write_bytes(whole + b"\n" + whole[:-40] + b"\n" + whole + b"\n")
    with pytest.raises(TraceUnreadable, match=r"decisions\.jsonl:2: a request's line that makes no sense"):
        read_trace(path)


def test_rotated_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log.20261122T101010123Z.gz"
    out = io.BytesIO()
    with gzip.open(out, "wb") as packed:
        packed.write(b"2026-11-22 stdout " + encode(line(1.0, [attempt(7)])) + b"\n")
    path.write_bytes(out.getvalue())
    assert read_trace(path).output_tokens.tolist() == [7]
