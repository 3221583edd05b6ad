"""A request as its line in the log has it, in the words of a policy test.

Theory of operation
-------------------
The log has the facts of a request, what was decided, and what was observed of each target that was left out. Said again
as facts and readings, these lead the router to the same decision by the same policy. What the log does not have is what
was seen of the targets that were not left out; where a route prefers latency, their order may differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from proxy.policy.model import Target
from proxy.routing.budgets import name_of
from proxy.routing.capacity import max_in_flight
from proxy.routing.plan import Exclusion
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
            seen = _seen(one, targets[one.target])
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


def _seen(one: Exclusion, target: Target) -> dict[str, Any]:
    """One exclusion as a reading; nothing where the policy alone excluded."""
    measured = one.rule.rpartition(".")[2]
    if one.rule == "capacity":
        used, limit = (int(number) for number in _NUMBER.findall(one.observed)[:2])
        each = max_in_flight(target) or limit
        return {"in_flight": max(each, used * each // (limit or 1))}
    if one.rule in _STATES:
        return dict(_STATES[one.rule])
    if measured.startswith("perceived_tps"):
        return {measured: float(one.observed.split()[0])}
    if measured == "uptime" or measured.startswith(("ttft_", "itl_", "e2e_")):
        return {measured: one.observed}
    return {}


_STATES: Mapping[str, dict[str, Any]] = {
    "breaker": {"breaker": "open"},
    "engine_full": {"full": True},
    "quota": {"paced": True},
}
