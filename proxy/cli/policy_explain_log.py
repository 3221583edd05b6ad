"""A request as its line in the log has it, in the words of a policy test.

Theory of operation
-------------------
The log has the facts of a request, what was decided, and what was observed of each target that was left out. Said again
as facts and readings, these lead the router to the same decision by the same policy. Of a replica that would be late,
the log has the queue, the streams and the prediction; what else was known of it is put into its factor. What the log
does not have is what was seen of the targets that were not left out; where a route prefers latency, their order may
differ. Nor does it have what others would have paid for engine time: who was outbid is told, and not decided again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from proxy.cases.observed import MOST_FACTOR
from proxy.policy.model import Target
from proxy.routing.budgets import name_of
from proxy.routing.capacity import max_in_flight
from proxy.routing.plan import Exclusion
from proxy.routing.predict import Steps
from proxy.routing.readings import Load
from proxy.telemetry.log import Line

_NUMBER = re.compile(r"[0-9]+")
_USED = {"rpm": "requests", "tpm": "tokens", "concurrency": "in_flight"}


_decode = msgspec.json.Decoder(Line).decode


def when(line: Line) -> str:
    """The time of the request, in UTC."""
    return datetime.fromtimestamp(line.received_at, UTC).isoformat(timespec="seconds")


def lines_of(text: Iterable[bytes], request_id: str) -> tuple[Line, ...]:
    """The lines of one request: more than one if a caller used its id again. Whatever else the log holds is passed."""
    name = request_id.encode()
    found = []
    for raw in text:
        start = raw.find(b"{")
        if start < 0 or name not in raw:
            continue
        try:
            line = _decode(raw[start:])
        except msgspec.MsgspecError:
            continue
        if line.request_id == request_id:
            found.append(line)
    return tuple(found)


def request_words(line: Line) -> dict[str, object]:
    """What was asked."""
    words: dict[str, object] = {
        "model": line.model,
        "tenant": line.tenant,
        "key": line.key or None,
        "tags": list(line.tags),
        "endpoint": line.endpoint.value,
        "traffic": line.traffic.value,
        "stream": line.stream,
        "modality": [one.value for one in line.modalities],
        "tools": line.tools,
        "input_tokens": line.input_tokens,
        "max_output_tokens": line.max_output_tokens,
        "priority": line.priority or None,
        "lane": None if line.lane_override is None else line.lane_override.value,
        "target": line.target_override,
        "at": when(line),
    }
    return {name: value for name, value in words.items() if value is not None}


def readings_words(line: Line, targets: Mapping[str, Target]) -> dict[str, dict[str, object]]:
    """What was observed of the targets that were left out, or that missed a wish; by target."""
    found: dict[str, dict[str, object]] = {}
    for one in line.excluded:
        if one.target in targets:
            seen = _seen(one, targets[one.target], line)
            if seen:
                found.setdefault(one.target, {}).update(seen)
    return found


def rates_words(line: Line) -> dict[str, dict[str, object]]:
    """What had been used of the rates that were exceeded; by scope."""
    found: dict[str, dict[str, object]] = {}
    for one in line.excluded:
        used, _, scope = one.observed.partition(" used by ")
        name = _USED.get(one.rule.rpartition(".")[2])
        if scope and name and used.isdigit():
            found.setdefault(scope, {})[name] = int(used)
    return found


def budgets_words(line: Line) -> dict[str, str]:
    """The budgets that had no money left for the request, and whether more could be asked for; by name."""
    refused = line.refusal.code if line.refusal is not None else ""
    word = "unavailable" if refused == "budget_unavailable" else "exhausted"
    return {name: word for one in line.excluded if (name := name_of(one)) is not None}


def _seen(one: Exclusion, target: Target, line: Line) -> dict[str, Any]:
    """One exclusion as a reading; nothing where the policy alone excluded."""
    measured = one.rule.rpartition(".")[2]
    if one.rule == "capacity":
        used, limit = (int(number) for number in _NUMBER.findall(one.observed)[:2])
        each = max_in_flight(target) or limit
        return {"in_flight": max(each, used * each // (limit or 1))}
    if one.rule in ("ttft", "itl"):
        return _late(one, target, line)
    if one.rule == "kv":
        held = max(_tokens(one.observed), _tokens(one.limit))
        return {"context_tokens": held, "decoding": 1}
    if one.rule in _STATES:
        return dict(_STATES[one.rule])
    if measured.startswith("perceived_tps"):
        return {measured: float(one.observed.split()[0])}
    if measured == "uptime" or measured.startswith(("ttft_", "itl_", "e2e_")):
        return {measured: one.observed}
    return {}


def _late(one: Exclusion, target: Target, line: Line) -> dict[str, Any]:
    """The work of a replica that was predicted to be late, with the factor that makes the prediction what it was."""
    said = _LATE.match(one.observed)
    if said is None:
        return {}
    queued_tokens = _tokens(said["queue"])
    load = Load(waiting=min(queued_tokens, 1), queued_tokens=queued_tokens, decoding=int(said["streams"]))
    raw = Steps(target).predict(load, line.input_tokens, 0, 0.0)
    raw_s = raw.raw_ttft_s if one.rule == "ttft" else raw.raw_itl_s
    said_s, rounded_by_s = _seconds(said["time"])
    predicted_s = min(max(raw_s, said_s - rounded_by_s), said_s + rounded_by_s)
    # What was rounded to its limit was still above it.
    times = max(predicted_s, OVER * _seconds(one.limit)[0]) / raw_s
    words = {"waiting": load.waiting, "queued_tokens": load.queued_tokens, "decoding": load.decoding}
    return {**words, f"{one.rule}_factor": min(max(times, LEAST_FACTOR), MOST_FACTOR)}


_LATE = re.compile(
    r"predicted (?P<time>[0-9.]+ m?s) \(queue (?P<queue>[0-9.]+k?) tokens, (?P<streams>[0-9]+) streams\)"
)
OVER = 1.001
LEAST_FACTOR = 0.001


def _seconds(words: str) -> tuple[float, float]:
    """A time in words, and by how much it may have been rounded."""
    number, unit = words.split()
    return (float(number) / 1000, 0.00049) if unit == "ms" else (float(number), 0.0049)


def _tokens(words: str) -> int:
    number = words.split(maxsplit=1)[0]
    return round(float(number.removesuffix("k")) * (1000 if number.endswith("k") else 1))


_STATES: Mapping[str, dict[str, Any]] = {
    "breaker": {"breaker": "open"},
    "engine_full": {"full": True},
    "quota": {"paced": True},
}
