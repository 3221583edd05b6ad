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
from typing import Any, BinaryIO

import orjson

from proxy.routing.charge import Charge
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Exclusion, Plan
from proxy.telemetry.records import Record

FLUSH_S = 0.1
MAX_PENDING_LINES = 50_000


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
        self._lines.append(orjson.dumps(entry(record, time.time()), option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Write what is left; gives up after a second if nobody reads."""
        self._closing.set()
        self._writer.join(timeout=1.0)

    def _write(self) -> None:
        while not self._closing.wait(FLUSH_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            self._stream.write(b"".join(lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)


def entry(record: Record, at: float) -> dict[str, Any]:
    """One request as a flat JSON object; `at` is wall time in seconds. Durations are milliseconds."""
    facts, decision = record.facts, record.decision
    line: dict[str, Any] = {
        "event": "request",
        "at": round(at, 3),
        "request_id": facts.request_id,
        "tenant": facts.tenant.name,
        "model": facts.model,
        "endpoint": facts.endpoint,
        "stream": facts.stream,
        "traffic": facts.traffic,
        "route": decision.route,
        "attempts": [_attempt(*pair) for pair in zip(record.outcomes, record.charges, strict=True)],
        "excluded": [_exclusion(exclusion) for exclusion in decision.excluded],
        "relaxed": isinstance(decision, Plan) and decision.relaxed,
        "overhead_ms": round(record.overhead_s * 1000, 3),
        "duration_ms": round(record.duration_s * 1000, 3),
        "policy": record.snapshot.revision,
    }
    if record.refusal is not None:
        refusal = record.refusal
        line["refusal"] = {"status": refusal.status, "code": refusal.code, "rule": refusal.rule}
    return line


def _attempt(outcome: Outcome, charge: Charge) -> dict[str, Any]:
    attempt, usage = outcome.attempt, outcome.usage
    return {
        "target": attempt.target.name,
        "lane": attempt.target.lane,
        "replica": attempt.replica,
        "cause": attempt.cause,
        "reason": attempt.reason,
        "status": outcome.status,
        "failure": outcome.failure.label if outcome.failure else None,
        "committed": outcome.committed,
        "ttft_ms": None if outcome.ttft_s is None else round(outcome.ttft_s * 1000, 3),
        "itl_ms": None if outcome.itl_s is None else round(outcome.itl_s * 1000, 3),
        "total_ms": round(outcome.total_s * 1000, 3),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "estimated": usage.estimated,
        "nano_usd": charge.nano_usd,
        "price": charge.price_source,
    }


def _exclusion(exclusion: Exclusion) -> dict[str, Any]:
    return {
        "target": exclusion.target,
        "rule": exclusion.rule,
        "observed": exclusion.observed,
        "limit": exclusion.limit,
        "hard": exclusion.hard,
    }
