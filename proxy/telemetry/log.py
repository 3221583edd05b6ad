"""The request log: one line of JSON per request, with the decision and its reasons, never content.

Theory of operation
-------------------
Lines are made on the event loop and written by a thread, in batches, so that a full pipe never holds up a token. If the
reader of the log stays away the oldest lines are dropped and the loss is counted; requests go on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import BinaryIO

import msgspec

from proxy.policy.model import Endpoint, Lane, Modality, Traffic
from proxy.routing.charge import Charge
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Cause, Exclusion, Plan, Refusal
from proxy.telemetry.records import Record

FLUSH_S = 0.1
MAX_PENDING_LINES = 50_000
CLOSE_S = 1.0

_encode = msgspec.json.Encoder().encode


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """One attempt in a line."""

    target: str
    lane: Lane
    replica: int
    cause: Cause
    reason: str
    status: int | None
    failure: str | None
    committed: bool
    ttft_ms: float | None
    itl_ms: float | None
    total_ms: float | None
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    estimated: bool
    nano_usd: int
    price: str


class Refused(msgspec.Struct, frozen=True, gc=False):
    """What the client was told instead of an answer."""

    status: int
    code: str
    rule: str


class Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", tag="request"):
    """One line of the log: all that was decided on, apart from content, so that the decision can be made again.

    `at` is wall time in seconds, of the request's end, and `received_at` of its beginning; durations are milliseconds.
    `tags` are the tenant's, the key's and the request's together, `input_tokens` the estimate that was decided on.
    `plan` names the targets in the plan's order, one for each attempt that it allowed: a second mention is a second
    replica. `shadow` is what rules in shadow mode would have left out. What has a default is left out when it has it.
    """

    at: float
    request_id: str
    tenant: str
    model: str
    endpoint: Endpoint
    stream: bool
    traffic: Traffic
    route: str
    attempts: list[Attempted]
    excluded: tuple[Exclusion, ...]
    relaxed: bool
    overhead_ms: float | None
    duration_ms: float | None
    policy: str
    received_at: float
    input_tokens: int
    max_output_tokens: int | None = None
    key: str = ""
    tags: tuple[str, ...] = ()
    modalities: tuple[Modality, ...] = ()
    tools: bool = False
    lane_override: Lane | None = None
    target_override: str | None = None
    session: str | None = None
    plan: list[str] | None = None
    shadow: tuple[Exclusion, ...] = ()
    refusal: Refused | None = None


class RequestLog:
    """Writes records to a binary stream, from a thread of its own."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque(maxlen=MAX_PENDING_LINES)
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write, name="request-log", daemon=True)
        self.dropped = 0
        self._writer.start()

    def record(self, record: Record) -> None:
        if len(self._lines) == MAX_PENDING_LINES:
            self.dropped += 1
        self._lines.append(_encode(line_of(record, time.time())))

    def close(self) -> None:
        """Write what is left; gives up after a second if nobody reads."""
        self._closing.set()
        self._writer.join(timeout=CLOSE_S)

    def _write(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._stream.write(b"\n".join([*lines, b""]))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)


def line_of(record: Record, at: float) -> Line:
    """One request's line, written at wall time `at`."""
    facts, decision, refusal = record.facts, record.decision, record.refusal
    return Line(
        int(at * 1000) / 1000,
        facts.request_id,
        facts.tenant.name,
        facts.model,
        facts.endpoint,
        facts.stream,
        facts.traffic,
        decision.route,
        [*map(_attempted, record.outcomes, record.charges)],
        decision.excluded,
        type(decision) is Plan and decision.relaxed,
        _ms(record.overhead_s),
        _ms(record.duration_s),
        record.snapshot.revision,
        int(facts.at_s * 1000) / 1000,
        facts.input_tokens,
        facts.max_output_tokens,
        facts.key.name,
        tuple(sorted(facts.tags)) if facts.tags else (),
        tuple(sorted(facts.modalities)) if facts.modalities else (),
        facts.tools,
        facts.lane_override,
        facts.target_override,
        facts.session,
        [attempt.target.name for attempt in decision.attempts] if type(decision) is Plan else None,
        decision.shadow,
        None if refusal is None else _refused(refusal),
    )


def _attempted(outcome: Outcome, charge: Charge) -> Attempted:
    attempt, target, usage = outcome.attempt, outcome.attempt.target, outcome.usage
    return Attempted(
        target.name,
        target.lane,
        attempt.replica,
        attempt.cause,
        attempt.reason,
        outcome.status,
        None if outcome.failure is None else outcome.failure.label,
        outcome.committed,
        _ms(outcome.ttft_s),
        _ms(outcome.itl_s),
        _ms(outcome.total_s),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.estimated,
        charge.nano_usd,
        charge.price_source,
    )


def _refused(refusal: Refusal) -> Refused:
    return Refused(refusal.status, refusal.code, refusal.rule)


def _ms(seconds: float | None) -> float | None:
    """Milliseconds to the microsecond; cutting off is three times faster than `round()`."""
    return None if seconds is None else int(seconds * 1_000_000) / 1000
