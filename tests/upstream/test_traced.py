from __future__ import annotations

from typing import Any

from proxy.policy.model import Endpoint
from proxy.routing.plan import Attempt
from proxy.routing.trace_context import TraceContext
from proxy.upstream.base import Call, Sink
from proxy.upstream.traced import Traced
from tests.telemetry.requests import attempt

TRACE = TraceContext(trace_id=1, span_id=2, flags=1)
CALL = Call(request_id="r", endpoint=Endpoint.CHAT, body={}, headers=[(b"user-agent", b"u")], stream=False, trace=TRACE)


class Door:
    def __init__(self) -> None:
        self.opened: list[tuple[Attempt, Call, Sink]] = []
        self.closed = False

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Any:
        self.opened.append((attempt, call, sink))
        return "exchange"

    async def aclose(self) -> None:
        self.closed = True


async def test_the_request_carries_the_span_of_its_attempt_and_all_that_it_had() -> None:
    door, sink = Door(), object()
    traced = Traced(door, TRACE)
    for ordinal in (0, 1):
        assert traced.open(attempt(ordinal=ordinal), CALL, sink) == "exchange"  # type: ignore[arg-type]
    first, second = [call.headers for _, call, _ in door.opened]
    assert first == [(b"user-agent", b"u"), *TRACE.headers(0)]
    assert second == [(b"user-agent", b"u"), *TRACE.headers(1)]
    assert first != second
    assert CALL.headers == [(b"user-agent", b"u")]
    assert all(given is sink for _, _, given in door.opened)
    await traced.aclose()
    assert door.closed
