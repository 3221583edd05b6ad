"""The request log: what a line says and never says, and what happens when nobody reads it."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Budget, Cap, Gpus, Key, Lane, Modality, Per, Priority, Secret, Tenant, Traffic
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause, Exclusion, Plan, Refusal
from proxy.routing.trace_context import TraceContext
from proxy.telemetry.decision_log import DecisionLog, Rotation
from proxy.telemetry.log import RequestLog
from tests.harness import proxy, shared, snapshot_of
from tests.scripted import CHAT_REPLY, CLOSE, chat_stream, reply, scripted
from tests.telemetry.requests import API, GPU, REFUSED, attempt, charge, outcome, record

CANARY = "canary-7f3a9b"
SLO = Exclusion(target="gpu", rule="slo", observed="2.3 s", limit="2 s", hard=False)


def lines(*records: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    log = RequestLog(stream)
    for one in records:
        log.record(one)
    log.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_was_decided_and_why_and_how_it_ended() -> None:
    spilled = outcome(API, Cause.SPILLOVER, ttft_s=0.0123456, itl_s=0.002)
    (line,) = lines(record(outcome(failure=Failure.FULL, status=503), spilled, excluded=(SLO,)))
    assert line.pop("at") > 1_700_000_000
    first, second = line.pop("attempts")
    assert line == {
        "event": "request",
        "request_id": "req_1",
        "tenant": "anonymous",
        "model": "m",
        "endpoint": "chat",
        "stream": False,
        "traffic": "online",
        "route": "default",
        "excluded": [{"target": "gpu", "rule": "slo", "observed": "2.3 s", "limit": "2 s", "hard": False}],
        "relaxed": False,
        "overhead_ms": 0.2,
        "duration_ms": 300.0,
        "policy": "d" * 12,
        "received_at": 0.0,
        "input_tokens": 0,
        "plan": ["gpu", "api"],
    }
    assert (first["target"], first["status"], first["failure"], first["committed"]) == ("gpu", 503, "full", False)
    assert second == {
        "target": "api",
        "lane": "shared",
        "replica": 0,
        "cause": "spillover",
        "reason": "preferred: cost",
        "status": 200,
        "failure": None,
        "committed": True,
        "ttft_ms": 12.345,
        "itl_ms": 2.0,
        "total_ms": 250.0,
        "input_tokens": 7,
        "output_tokens": 3,
        "cached_input_tokens": 0,
        "estimated": False,
        "nano_usd": 500_000_000,
        "price": "policy",
    }


def test_all_that_was_decided_on_is_there_so_that_the_decision_can_be_made_again() -> None:
    bank = Tenant(name="bank", tags=frozenset({"gdpr"}))
    facts = {
        "tenant": bank,
        "key": Key(tenant=bank, name="bank/ci", tags=frozenset({"gdpr", "ci"})),
        "model": "m",
        "stream": True,
        "traffic": Traffic.OFFLINE,
        "input_tokens": 1612,
        "max_output_tokens": 50,
        "tags": frozenset({"gdpr", "ci", "eval"}),
        "session": "s1",
        "lane_override": Lane.SHARED,
        "target_override": "api",
        "modalities": frozenset({Modality.IMAGE, Modality.FILE}),
        "tools": True,
        "choices": 3,
        "service_tier": "flex",
        "priority": Priority.LOW,
        "at_s": 1_700_000_000.1239,
    }
    (line,) = lines(record(outcome(), facts=facts))
    said = {name: line[name] for name in {"tenant", "received_at", *facts} - {"at_s"}}
    assert said == {
        "tenant": "bank",
        "key": "bank/ci",
        "model": "m",
        "stream": True,
        "traffic": "offline",
        "input_tokens": 1612,
        "max_output_tokens": 50,
        "tags": ["ci", "eval", "gdpr"],
        "session": "s1",
        "lane_override": "shared",
        "target_override": "api",
        "modalities": ["file", "image"],
        "tools": True,
        "choices": 3,
        "service_tier": "flex",
        "priority": "low",
        "received_at": 1_700_000_000.123,
    }
    # What a prompt begins with is nobody's business, not even as a hash.
    assert {*Facts.__struct_fields__} - {"at_s", "prefix", "trace"} <= line.keys()


def test_the_trace_that_it_is_part_of_is_named() -> None:
    (line,) = lines(record(outcome(), facts={"trace": TraceContext(trace_id=0xABC)}))
    assert line["trace_id"] == f"{'0' * 29}abc"
    (line,) = lines(record(outcome()))
    assert "trace_id" not in line


def test_the_plan_is_there_in_order_and_what_shadow_rules_would_have_left_out() -> None:
    shadow = Exclusion(target="api", rule="require.region", observed="us", limit="eu-*", hard=True)
    plan = Plan(route="default", attempts=(attempt(GPU), attempt(API), attempt(GPU, replica=1)), shadow=(shadow,))
    (line,) = lines(record(outcome(), decision=plan))
    assert line["plan"] == ["gpu", "api", "gpu"]
    assert [one["rule"] for one in line["shadow"]] == ["require.region"]
    (refused,) = lines(record(decision=msgspec.structs.replace(REFUSED, shadow=(shadow,))))
    assert "plan" not in refused
    assert [one["target"] for one in refused["shadow"]] == ["api"]


def test_a_refusal_says_its_rule_and_not_its_text() -> None:
    refusal = Refusal(status=403, code="no_lawful_target", message=CANARY, rule="region")
    (line,) = lines(record(decision=refusal))
    assert line["refusal"] == {"status": 403, "code": "no_lawful_target", "rule": "region"}
    assert line["attempts"] == []
    assert line["route"] == ""
    assert CANARY not in json.dumps(line)


def test_counts_that_nobody_confirmed_are_marked() -> None:
    used = Usage(input_tokens=7, output_tokens=2, estimated=True)
    (line,) = lines(record(outcome(failure=Failure.CLIENT_LEFT, usage=used)))
    assert line["attempts"][0]["estimated"] is True


def test_an_attempt_has_every_kind_of_token_and_the_time_that_it_took_of_gpus() -> None:
    gpus = Gpus(type="H100", count=4, nano_usd_per_hour=1)
    used = Usage(
        input_tokens=70,
        output_tokens=30,
        reasoning_tokens=20,
        cache_write_tokens=9,
        cache_write_1h_tokens=4,
        audio_input_tokens=3,
        audio_output_tokens=2,
        service_tier="priority",
    )
    one = outcome(replace(GPU, gpus=gpus), usage=used)
    worked = charge(one, work_us=1_500_000, estimated=True)
    (line,) = lines(record(one, charges=(worked,)))
    (said,) = line["attempts"]
    assert {name: said[name] for name in (*Usage.__struct_fields__, "work_us", "gpu_s") if name in said} == {
        **msgspec.to_builtins(used),
        "cached_input_tokens": 0,
        "estimated": True,
        "work_us": 1_500_000,
        "gpu_s": 6.0,
    }


def test_a_line_names_the_budgets_and_the_model_that_was_served_instead() -> None:
    budget = Budget(name="growth-spill", caps=(Cap(500, Per.DAY),))
    plan = Plan(route="default", attempts=(attempt(API),), budgets=(budget,), served_as="small")
    (line,) = lines(record(outcome(API), decision=plan))
    assert (line["model"], line["served_as"], line["budgets"]) == ("m", "small", ["growth-spill"])


ODD = st.text() | st.sampled_from(['"', "\n", "\u2028", "\x00\x1b[31m", "\\u0000", "é😀"])


@given(model=ODD, tenant=ODD, reason=ODD)
def test_every_line_is_one_json_object_whatever_the_request_holds(model: str, tenant: str, reason: str) -> None:
    stream = io.BytesIO()
    log = RequestLog(stream)
    refusal = Refusal(status=400, code=reason, message=reason, rule="request")
    for decision in (None, refusal):
        log.record(record(*([] if decision else [outcome()]), decision=decision, facts=named(model, tenant)))
    log.close()
    written = stream.getvalue()
    assert written.endswith(b"\n")
    first, second = map(json.loads, written.decode().removesuffix("\n").split("\n"))
    assert (first["model"], first["tenant"], second["refusal"]["code"]) == (model, tenant, reason)


def named(model: str, tenant: str) -> dict[str, Any]:
    return {"model": model, "tenant": Tenant(name=tenant)}


# secrets


class Captured:
    """Standard output as a process has it."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()


STREAMED = chat_stream("the word is " + CANARY)
ERROR = reply({"error": {"message": f"bad key {CANARY}", "code": CANARY, "type": CANARY}}, "401 Unauthorized")
MISTAKE = reply({"error": {"message": f"bad {CANARY}", "param": CANARY}}, "400 Bad Request", f"x-{CANARY}: {CANARY}")
GARBAGE = f"HTTP/1.1 abc {CANARY}\r\n\r\n".encode()
EVENT = STREAMED[: STREAMED.index(b"\r\n\r\n") + 4] + b"2c\r\ndata: " + b'{"error":"%b"}' % CANARY.encode()


@pytest.mark.parametrize(
    "answer", [reply(CHAT_REPLY), STREAMED, STREAMED[:-200], ERROR, MISTAKE, GARBAGE, EVENT, b""], ids=range(8)
)
async def test_neither_content_nor_secrets_reach_log_or_metrics(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = Captured()
    monkeypatch.setattr(sys, "stdout", stdout)
    ask = {"model": "m", "stream": answer.startswith(STREAMED[:30]), "user": CANARY, "metadata": {CANARY: CANARY}}
    ask["messages"] = [{"role": "user", "content": f"my secret is {CANARY}"}]
    headers = {"authorization": f"Bearer {CANARY}", "cookie": CANARY, "x-api-key": CANARY, "openai-beta": CANARY}
    async with scripted([answer, CLOSE]) as up:
        target = shared("api", up.url + f"/{CANARY}", api_key=Secret(CANARY))
        async with proxy(snapshot_of(target)) as spillway:
            await spillway.post(f"/v1/chat/completions?key={CANARY}", ask, headers)
            seen = (await spillway.get("/metrics", admin=True)).body.decode()
    written = stdout.buffer.getvalue().decode()
    assert json.loads(written)["event"] == "request"
    assert up.requests
    assert CANARY in up.requests[0].headers["authorization"]
    assert CANARY not in written
    assert CANARY not in seen


# where lines go


def numbered(number: int) -> Any:
    return record(outcome(), facts={"request_id": f"req_{number}"})


def test_closing_writes_what_is_left() -> None:
    assert [line["request_id"] for line in lines(*map(numbered, range(500)))] == [f"req_{n}" for n in range(500)]


def test_the_decision_log_has_the_same_lines(tmp_path: Path) -> None:
    stream, path = io.BytesIO(), tmp_path / "decisions.jsonl"
    log = RequestLog(stream, DecisionLog(path, Rotation()))
    for number in range(500):
        log.record(numbered(number))
    log.close()
    assert path.read_bytes() == stream.getvalue()
    assert (log.dropped, log.dropped_from_file) == (0, 0)


class Broken(io.BytesIO):
    def write(self, data: Any) -> int:
        raise BrokenPipeError


def test_what_one_of_them_does_not_take_the_other_has_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "decisions.jsonl"
    path.parent.mkdir()
    log = RequestLog(Broken(), DecisionLog(path, Rotation()))
    log.record(numbered(0))
    log.close()
    assert (log.dropped, log.dropped_from_file) == (1, 0)
    assert path.read_bytes().count(b"\n") == 1
    stream, decisions = io.BytesIO(), DecisionLog(path, Rotation())
    path.unlink()
    path.parent.rmdir()
    log = RequestLog(stream, decisions)
    log.record(numbered(0))
    log.close()
    assert (log.dropped, log.dropped_from_file) == (0, 1)
    assert stream.getvalue().count(b"\n") == 1


def test_without_a_decision_log_nothing_of_it_is_dropped() -> None:
    log = RequestLog(Broken())
    log.record(numbered(0))
    log.close()
    assert (log.dropped, log.dropped_from_file) == (1, 0)
