"""From headers and body to what the router and the upstreams need: `Facts` and a `Call`.

Theory of operation
-------------------
Pure. The body's members stay bytes; only the few that decide something are read. Request headers reach an upstream by
allow-list: never cookies, credentials, forwarding headers or anything that an engine would take as a command.
"""

from __future__ import annotations

import itertools
import os
import re

import msgspec

from proxy.policy.model import Endpoint, Lane, Tenant, Traffic
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.upstream.base import Call, RawHeaders

BYTES_PER_TOKEN = 4
"""A prompt's tokens before anybody has counted them: byte-level BPE averages about four bytes of English."""

Members = dict[str, msgspec.Raw]

_FORWARDED = (b"user-agent", b"openai-beta", b"anthropic-version", b"anthropic-beta", b"traceparent", b"tracestate")
_LANES = {b"dedicated": Lane.DEDICATED, b"shared": Lane.SHARED, b"auto": None}
_TRAFFIC = {b"online": Traffic.ONLINE, b"offline": Traffic.OFFLINE}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/-]{1,128}")
_decode_str = msgspec.json.Decoder(str).decode
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


_process = os.urandom(8).hex()
_numbers = itertools.count()


def request_id(fields: dict[bytes, bytes]) -> str:
    """The caller's own `x-request-id` if it is harmless to repeat, else one that no other process will give."""
    given = fields.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"req_{_process}{next(_numbers):08x}"


def read_facts(
    tenant: Tenant, endpoint: Endpoint, request_id: str, fields: dict[bytes, bytes], members: Members, size: int
) -> Facts | Refusal:
    """What may be decided on; `size` is the body's length in bytes."""
    try:
        model = _decode_str(members["model"])
    except (KeyError, msgspec.MsgspecError):
        return _refuse("you must provide a model parameter", "model", "missing_model")
    stream = _literal(members, "stream")
    if stream not in (b"", b"true", b"false", b"null"):
        return _refuse("`stream` must be true or false", "stream")
    lane = fields.get(b"x-spillway-lane", b"auto")
    if lane not in _LANES and (lane := lane.lower()) not in _LANES:
        return _refuse("the header `x-spillway-lane` must be dedicated, shared or auto", "x-spillway-lane")
    traffic = fields.get(b"x-spillway-traffic", b"online")
    if traffic not in _TRAFFIC and (traffic := traffic.lower()) not in _TRAFFIC:
        return _refuse("the header `x-spillway-traffic` must be online or offline", "x-spillway-traffic")
    return Facts(
        request_id=request_id,
        tenant=tenant,
        model=model,
        endpoint=endpoint,
        stream=stream == b"true",
        traffic=_TRAFFIC[traffic],
        input_tokens=size // BYTES_PER_TOKEN,
        max_output_tokens=_output_limit(members),
        tags=tenant.tags,
        lane_override=_LANES[lane],
    )


def read_call(facts: Facts, fields: dict[bytes, bytes], members: Members) -> Call | Refusal:
    """The request, ready for any upstream."""
    usage_wanted = False
    options = members.get("stream_options")
    if options is not None and bytes(options) != b"null":
        try:
            usage_wanted = bytes(_decode_options(options).get("include_usage", b"")) == b"true"
        except msgspec.MsgspecError:
            return _refuse("`stream_options` must be an object", "stream_options")
    headers: RawHeaders = [(name, fields[name]) for name in _FORWARDED if name in fields]
    headers.append((b"x-request-id", facts.request_id.encode()))
    if facts.endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS) and b"anthropic-version" not in fields:
        headers.append((b"anthropic-version", b"2023-06-01"))
    return Call(
        request_id=facts.request_id,
        endpoint=facts.endpoint,
        body=members,
        headers=headers,
        stream=facts.stream,
        usage_wanted=usage_wanted,
    )


def _literal(members: Members, name: str) -> bytes:
    raw = members.get(name)
    return b"" if raw is None else bytes(raw)


def _output_limit(members: Members) -> int | None:
    for name in _OUTPUT_LIMITS:
        if name in members and (text := _literal(members, name)).isdigit():
            return int(text[:18])
    return None


def _refuse(message: str, param: str, code: str = "invalid_request") -> Refusal:
    return Refusal(status=400, code=code, message=message, rule="request", param=param, retryable=False)
