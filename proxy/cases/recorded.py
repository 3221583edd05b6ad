"""Requests that the proxy has served, as its request log remembers them.

Theory of operation
-------------------
A line says what the router was told, and what came of it; only the former is read here. Lines of older releases lack
some of it: what they do not say is taken to be usual, and the input is what the upstream counted. `tags` are all that
the request had, its tenant's and its key's among them; `compare` takes those off again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from proxy.cases.request import END_OF_TIME_S, Request
from proxy.policy.model import ANONYMOUS, Endpoint, Lane, Modality, Traffic
from proxy.policy.schema import Level

_Moment = Annotated[float, msgspec.Meta(ge=0, lt=END_OF_TIME_S)]


class _Attempted(msgspec.Struct, frozen=True, gc=False):
    input_tokens: int = 0


class _Line(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="request"):
    """What is read of a line; other members are passed over."""

    model: str
    endpoint: Endpoint
    tenant: str = ANONYMOUS.name
    key: str = ""
    tags: tuple[str, ...] = ()
    traffic: Traffic = Traffic.ONLINE
    stream: bool = False
    modalities: tuple[Modality, ...] = ()
    tools: bool = False
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    lane_override: Lane | None = None
    target_override: str | None = None
    priority: Level | None = None
    received_at: _Moment | None = None
    at: _Moment | None = None
    attempts: tuple[_Attempted, ...] = ()


_decode = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Different requests, each with how often it was made, and how many lines were not the log of a request."""

    requests: Counter[Request]
    passed_over: int


def read_log(lines: Iterable[bytes], *, with_time: bool = True) -> Recorded:
    """The requests of a log. Without `with_time`, requests that differ in nothing but their time are the same."""
    requests: Counter[Request] = Counter()
    passed_over = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            requests[_request(_decode(line), with_time=with_time)] += 1
        except msgspec.MsgspecError:
            passed_over += 1
    return Recorded(requests=requests, passed_over=passed_over)


def _request(line: _Line, *, with_time: bool) -> Request:
    counted = max((attempt.input_tokens for attempt in line.attempts), default=0)
    return Request(
        model=line.model,
        tenant=None if line.tenant == ANONYMOUS.name else line.tenant,
        key=line.key or None,
        tags=tuple(sorted(line.tags)),
        endpoint=line.endpoint,
        traffic=line.traffic,
        stream=line.stream,
        modality=tuple(sorted(line.modalities)),
        tools=line.tools,
        input_tokens=line.input_tokens if line.input_tokens is not None else counted or None,
        max_output_tokens=line.max_output_tokens,
        priority=line.priority,
        lane=line.lane_override,
        target=line.target_override,
        at=(line.received_at or line.at) if with_time else None,
    )
