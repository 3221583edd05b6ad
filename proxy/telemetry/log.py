"""The request log: one line of JSON per request, with the decision and its reasons, never content.

Theory of operation
-------------------
A line is made once, on the event loop, and goes to standard output and, where one is kept, to the decision log. Each is
written by a thread of its own, so that a full pipe or a slow disk holds up neither a token nor the other. If the reader
of the log stays away the oldest lines are dropped and the loss is counted; requests go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from proxy.policy.model import Endpoint, Lane, Modality, Traffic
from proxy.routing.charge import Charge
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Cause, Exclusion, Plan, Refusal
from proxy.telemetry.decision_log import DecisionLog
from proxy.telemetry.line_writer import LineWriter
from proxy.telemetry.records import Record

_encode = msgspec.json.Encoder().encode


class Attempted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One attempt in a line.

    `work_us` is the time that its tokens took of a dedicated replica, in microseconds, and `gpu_s` the same in seconds
    of GPUs: all those of the replica. `service_tier` is the one that was served.
    """

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
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    service_tier: str = ""
    work_us: int = 0
    gpu_s: float = 0.0


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
    replica. `shadow` is what rules in shadow mode would have left out. `served_as` is the model that a spent budget put
    in the place of the one asked for, `budgets` those that its attempts were held against. `priority` is there where
    the caller asked for less than its tenant has, `waited_ms` where the request waited for room, `trace_id` where it is
    part of a trace. What has a default is left out when it has it.
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
    choices: int = 1
    service_tier: str = ""
    served_as: str | None = None
    budgets: list[str] = []
    priority: str = ""
    waited_ms: int = 0
    trace_id: str = ""


class RequestLog:
    """Writes records to a binary stream, and to the decision log if there is one."""

    def __init__(self, stream: BinaryIO, decision_log: DecisionLog | None = None) -> None:
        self._stream = LineWriter("request-log", _into(stream))
        self._file = None if decision_log is None else LineWriter("decision-log", decision_log.write)
        self._writers = [self._stream] if self._file is None else [self._stream, self._file]

    @property
    def dropped(self) -> int:
        """Lines that did not reach the stream."""
        return self._stream.dropped

    @property
    def dropped_from_file(self) -> int:
        """Lines that did not reach the decision log."""
        return 0 if self._file is None else self._file.dropped

    def record(self, record: Record) -> None:
        line = _encode(line_of(record, time.time()))
        for writer in self._writers:
            writer.add(line)

    def close(self) -> None:
        """Write what is left; gives up after a second on who does not take it."""
        for writer in self._writers:
            writer.stop()
        for writer in self._writers:
            writer.join()


def _into(stream: BinaryIO) -> Callable[[list[bytes]], int]:
    def write(lines: list[bytes]) -> int:
        stream.write(b"\n".join([*lines, b""]))
        stream.flush()
        return 0

    return write


def line_of(record: Record, at: float) -> Line:
    """One request's line, written at wall time `at`."""
    facts, decision, refusal = record.facts, record.decision, record.refusal
    plan = decision if type(decision) is Plan else None
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
        plan is not None and plan.relaxed,
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
        None if plan is None else [attempt.target.name for attempt in plan.attempts],
        decision.shadow,
        None if refusal is None else _refused(refusal),
        facts.choices,
        facts.service_tier,
        None if plan is None else plan.served_as,
        [budget.name for budget in plan.budgets] if plan is not None and plan.budgets else [],
        "" if facts.priority is facts.tenant.priority else facts.priority.name.lower(),
        int(record.waited_s * 1000),
        "" if facts.trace is None else facts.trace.name,
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
        usage.estimated or charge.estimated,
        charge.nano_usd,
        charge.price_source,
        usage.reasoning_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
        usage.service_tier,
        charge.work_us,
        charge.work_us * target.gpus.count / 1_000_000 if target.gpus is not None else 0.0,
    )


def _refused(refusal: Refusal) -> Refused:
    return Refused(refusal.status, refusal.code, refusal.rule)


def _ms(seconds: float | None) -> float | None:
    """Milliseconds to the microsecond; cutting off is three times faster than `round()`."""
    return None if seconds is None else int(seconds * 1_000_000) / 1000
