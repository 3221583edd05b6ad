"""Requests are read from the request log, whatever release wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from proxy.cases.compare import Side, own_tags
from proxy.cases.expect import planned
from proxy.cases.given import read_given
from proxy.cases.recorded import read_log
from proxy.cases.request import Request, facts_of
from proxy.policy.model import Endpoint, Lane, Modality, Traffic
from proxy.policy.schema import Level
from proxy.routing.decide import Router
from proxy.telemetry.log import line_of
from proxy.telemetry.records import Record
from tests.cases.policies import compiled

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
    "priority": "low",
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
        priority=Level.LOW,
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


@pytest.mark.parametrize(
    "words",
    [
        {"model": "chat", "tenant": "games", "input_tokens": 0},
        {"model": "chat", "tenant": "bank", "tags": ["canary"], "endpoint": "messages", "stream": True},
        {"model": "chat", "key": "bank/ci", "traffic": "offline", "max_output_tokens": 9, "tools": True},
        {"model": "overflow", "tenant": "games", "modality": ["image", "file"], "lane": "shared", "target": "api"},
        {"model": "overflow", "tenant": "bank", "at": "2026-07-01T09:00:00Z"},
    ],
)
def test_a_request_comes_out_of_the_log_as_it_went_in(tmp_path: Path, words: dict[str, object]) -> None:
    snapshot = compiled(tmp_path)
    given = read_given(snapshot, words)
    decision = Router(snapshot).decide(given.facts, {}, given.now, given.draw)
    record = Record(snapshot, given.facts, decision, (), (), None, 0.0, 0.0)
    line = msgspec.json.encode(line_of(record, given.facts.at_s + 5))
    side = Side(snapshot, {"": {}})
    (request,) = (own_tags(one, side) for one in read_log([line]).requests)
    assert facts_of(request, snapshot) == given.facts
    assert side.view(request, "").targets == planned(decision)
