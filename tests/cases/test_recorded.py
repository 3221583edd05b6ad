"""Requests are read from the request log, whatever release wrote it."""

from __future__ import annotations

import json

from proxy.cases.recorded import read_log
from proxy.cases.request import Request
from proxy.policy.model import Endpoint, Lane, Modality, Traffic

OLD = {
    "event": "request",
    "at": 1795363200.5,
    "request_id": "req_1",
    "tenant": "bank",
    "model": "chat",
    "endpoint": "messages",
    "stream": True,
    "traffic": "offline",
    "route": "eu",
    "attempts": [{"target": "own", "input_tokens": 0}, {"target": "api", "input_tokens": 321}],
    "excluded": [["own", "capacity", "8 of 8", "8", False]],
    "relaxed": False,
    "overhead_ms": 0.2,
    "duration_ms": 5.0,
    "policy": "abc",
}
NEW = OLD | {
    "key": "bank/ci",
    "tags": ["gdpr", "canary"],
    "input_tokens": 300,
    "max_output_tokens": 64,
    "tools": True,
    "modalities": ["image"],
    "lane_override": "dedicated",
    "target_override": "own",
}


def line(**members: object) -> bytes:
    return json.dumps(members).encode()


def test_a_line_of_an_older_release_is_enough() -> None:
    (request,) = read_log([line(**OLD)]).requests
    assert (request.model, request.tenant, request.key) == ("chat", "bank", None)
    assert (request.endpoint, request.traffic, request.stream) == (Endpoint.MESSAGES, Traffic.OFFLINE, True)
    assert (request.input_tokens, request.at) == (321, 1795363200.5)


def test_a_line_that_says_more_is_read_in_full() -> None:
    (request,) = read_log([line(**NEW)], with_time=False).requests
    assert request == Request(
        model="chat",
        tenant="bank",
        key="bank/ci",
        tags=("canary", "gdpr"),
        endpoint=Endpoint.MESSAGES,
        traffic=Traffic.OFFLINE,
        stream=True,
        modality=(Modality.IMAGE,),
        tools=True,
        input_tokens=300,
        max_output_tokens=64,
        lane=Lane.DEDICATED,
        target="own",
    )


def test_a_request_without_a_tenant_has_none() -> None:
    (request,) = read_log([line(**OLD | {"tenant": "anonymous", "attempts": []})]).requests
    assert (request.tenant, request.input_tokens) == (None, None)


def test_requests_that_are_alike_are_counted() -> None:
    lines = [line(**OLD | {"at": float(second)}) for second in range(3)]
    assert [*read_log(lines, with_time=False).requests.values()] == [3]
    assert [*read_log(lines).requests.values()] == [1, 1, 1]


def test_what_is_no_request_is_passed_over() -> None:
    found = read_log([b"listening on :8080\n", b"\n", line(event="reload", model="m"), line(**OLD), b'{"event":'])
    assert found.requests.total() == 1
    assert found.passed_over == 3
