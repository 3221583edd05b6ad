"""An upstream that is told which trace, and which span in it, an attempt belongs to."""

from __future__ import annotations

import msgspec

from proxy.routing.plan import Attempt
from proxy.routing.trace_context import TraceContext
from proxy.upstream.base import Call, Exchange, Sink, Upstream


class Traced:
    """The `Upstream` behind it, whose requests carry `traceparent` and `tracestate`."""

    __slots__ = ("_trace", "_upstream")

    def __init__(self, upstream: Upstream, trace: TraceContext) -> None:
        self._upstream = upstream
        self._trace = trace

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        headers = [*call.headers, *self._trace.headers(attempt.ordinal)]
        return self._upstream.open(attempt, msgspec.structs.replace(call, headers=headers), sink)

    async def aclose(self) -> None:
        await self._upstream.aclose()
