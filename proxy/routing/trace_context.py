"""The trace that a request belongs to, as W3C Trace Context has it (https://www.w3.org/TR/trace-context-2/).

Theory of operation
-------------------
By `traceparent` a caller says which span of which trace its request comes from; `tracestate` is what tracing systems
note beside that. Where spans are made here (`telemetry/traces.py`) a request has a span of its own, and below it each
attempt has one that its upstream is told of. Where none are made, what the caller said goes on as it came. Headers that
the standard does not allow say nothing: then the trace begins here, or there is none.

The id of an attempt's span follows from that of the request's span and the attempt's place among the attempts. So it is
known when the upstream's request goes out, and again when the span is made, without having been kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

Headers = Iterable[tuple[bytes, bytes]]

SAMPLED = 0x01
RANDOM = 0x02
"""The trace id is random, which samplers downstream may rely on."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]{0,400})?")
_MEMBER = re.compile(rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MAX_MEMBERS = 32
_SPREAD = 0x9E37_79B9_7F4A_7C15  # odd, so no two places give the same sum: 2**64 by the golden ratio
_MASK = 2**64 - 1


class TraceContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where one request stands in its trace.

    `parent_id` is the caller's span, 0 where the trace begins here. `span_id` is the request's own span, 0 where spans
    are not made here: then `traceparent` is the caller's, to be passed on. `received_at` is on the monotonic clock.
    """

    trace_id: int
    parent_id: int = 0
    span_id: int = 0
    flags: int = 0
    traceparent: bytes = b""
    tracestate: bytes = b""
    received_at: float = 0.0

    @property
    def name(self) -> str:
        """The trace's id as everybody writes it."""
        return f"{self.trace_id:032x}"

    @property
    def sampled(self) -> bool:
        """Whether its spans are kept."""
        return bool(self.flags & SAMPLED)

    def attempt_id(self, ordinal: int) -> int:
        """The span of the request's attempt at the place `ordinal`, which is another for each."""
        return (self.span_id + (ordinal + 1) * _SPREAD) & _MASK or 1

    def headers(self, ordinal: int) -> list[tuple[bytes, bytes]]:
        """What the upstream of that attempt is told."""
        traceparent = self.traceparent
        if self.span_id:
            traceparent = b"00-%032x-%016x-%02x" % (self.trace_id, self.attempt_id(ordinal), self.flags)
        told = [(b"traceparent", traceparent)]
        if self.tracestate:
            told.append((b"tracestate", self.tracestate))
        return told


def read_context(headers: Headers, fields: Mapping[bytes, bytes]) -> TraceContext | None:
    """What a request's headers say, which are also given by name; None where that is nothing, or nothing valid."""
    if b"traceparent" not in fields:
        return None
    given = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(given[0].strip(b" \t")) if len(given) == 1 else None
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5]):
        return None
    trace_id, parent_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not parent_id:
        return None
    return TraceContext(
        trace_id=trace_id,
        parent_id=parent_id,
        flags=int(match[4], 16) & (SAMPLED | RANDOM),
        traceparent=match[0],
        tracestate=_tracestate(headers) if b"tracestate" in fields else b"",
    )


def _tracestate(headers: Headers) -> bytes:
    """All of it in one line, or nothing if a part of it is not valid."""
    lines = b",".join([value for name, value in headers if name == b"tracestate"])
    members = [member for piece in lines.split(b",") if (member := piece.strip(b" \t"))]
    if len(members) > _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return b""
    return b",".join(members)
