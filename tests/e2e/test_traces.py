"""Traces as a collector gets them from a proxy between real callers, simulated engines and providers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.httpd import Exchange, Request
from proxy.simulator.provider import ProviderSimulator, Terms
from tests.e2e.processes import CHAT, MODEL, PROVIDER_KEY, SIMULATED, Served, ask, serving, write_policy
from tests.harness import Reply, read_reply, request_bytes
from tests.telemetry.collector import CLIENT, SERVER, Span, collector

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=opaque"}
HEDGED = "routes: [{name: default, hedge: {after: p95, budget: 100%}}]\n"
SLOWED = 0.02


class Engine(EngineSimulator):
    """A simulated engine that keeps the headers of what it is asked."""

    def __init__(self, **more: Any) -> None:
        self.asked: list[dict[str, str]] = []
        super().__init__(more.pop("profile", SIMULATED), model=MODEL, natural_tokens=20, **{"speed": 50.0, **more})

    def _handle(self, request: Request, exchange: Exchange) -> None:
        if request.method == "POST":
            self.asked.append(request.headers)
        super()._handle(request, exchange)


class Provider(ProviderSimulator):
    """A simulated provider that does."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        terms = Terms(ttft_median_s=0.01, ttft_p99_s=0.02, tokens_per_s=10_000)
        super().__init__(terms, model=MODEL, api_key=PROVIDER_KEY, natural_tokens=20)

    def _handle(self, request: Request, exchange: Exchange) -> None:
        if request.method == "POST":
            self.asked.append(request.headers)
        super()._handle(request, exchange)


async def post(served: Served, body: Any, path: str = CHAT, **headers: str) -> Reply:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(request_bytes("POST", path, data, headers))
        return await read_reply(reader)
    finally:
        writer.close()


def servers(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind == SERVER]


def below(spans: list[Span], parent: Span) -> list[Span]:
    """The attempts of one request, in the order in which they began."""
    found = [span for span in spans if span.parent_id == parent.span_id and span.trace_id == parent.trace_id]
    assert all(span.kind == CLIENT for span in found)
    return sorted(found, key=lambda span: span.start_ns)


def told(headers: dict[str, str]) -> tuple[str, str]:
    """The trace and the span that an upstream was told of."""
    _, trace, span, flags = headers["traceparent"].split("-")
    assert int(flags, 16) & 1
    return trace, span


def lines(served: Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.said.splitlines() if line.startswith('{"event":"request"')]


async def test_a_stream_from_its_caller_to_the_engine_and_back(tmp_path: Path) -> None:
    async with collector() as there, Engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url), env=there.env) as served:
            before_ns = time.time_ns()
            got = await post(served, ask(8, stream=True), f"{CHAT}?secret=in-the-query", **CALLED)
            after_ns = time.time_ns()
            spans = await there.until(servers)
            assert "spillway_spans_dropped_total 0.0" in await served.metrics()
            await served.stop()
    assert got.events[-1] == "[DONE]"
    (own,) = servers(spans)
    (one,) = below(spans, own)
    assert (own.trace_id, own.parent_id, own.name) == (TRACE, CALLER, f"POST {CHAT}")
    assert (one.trace_id, one.parent_id, one.name) == (TRACE, own.span_id, f"chat {MODEL}")
    assert own.resource["service.name"] == "spillway"
    assert told(gpu.asked[0]) == (TRACE, one.span_id)
    assert gpu.asked[0]["tracestate"] == "vendor=opaque"
    assert before_ns <= own.start_ns <= one.start_ns < one.end_ns <= own.end_ns <= after_ns + 50_000_000
    assert (own.attributes["http.response.status_code"], own.attributes["url.path"]) == (200, CHAT)
    said = one.attributes
    assert said["gen_ai.provider.name"] == "vllm"
    assert (said["server.address"], said["server.port"]) == ("127.0.0.1", gpu.port)
    assert said["gen_ai.usage.output_tokens"] == gpu.ledger.totals.output_tokens == 8
    assert said["gen_ai.usage.input_tokens"] == gpu.ledger.totals.input_tokens
    assert 0 < said["gen_ai.response.time_to_first_chunk"] <= (one.end_ns - one.start_ns) / 1e9
    assert (said["spillway.lane"], said["spillway.cause"]) == ("dedicated", "preferred")
    assert [(line["trace_id"], line["request_id"]) for line in lines(served)] == [(TRACE, got.headers["x-request-id"])]


async def test_a_spill_is_two_attempts_side_by_side_with_their_reasons(tmp_path: Path) -> None:
    async with collector() as there, Engine(profile=replace(SIMULATED, max_requests=0)) as gpu, Provider() as api:
        async with serving(write_policy(tmp_path, gpu=gpu.url, api=api.url), env=there.env) as served:
            got = await post(served, ask())
            spans = await there.until(servers)
            await served.stop()
    assert got.headers["x-spillway-target"] == "api"
    (own,) = servers(spans)
    full, spilled = below(spans, own)
    assert own.parent_id == ""
    assert (full.error, spilled.error, own.error) == (True, False, False)
    assert (full.attributes["error.type"], full.attributes["http.response.status_code"]) == ("full", 503)
    said = [[one.attributes[f"spillway.{name}"] for name in ("target", "lane", "cause")] for one in (full, spilled)]
    assert said == [["gpu", "dedicated", "preferred"], ["api", "shared", "spillover"]]
    reasons = {one.attributes["spillway.reason"] for one in (spilled, own)}
    assert reasons == {got.headers["x-spillway-reason"]}
    assert own.attributes["spillway.attempts"] == 2
    assert own.attributes["spillway.cost_usd"] == float(got.headers["x-spillway-cost-usd"]) > 0
    assert told(gpu.asked[0]) == (own.trace_id, full.span_id)
    assert not {"traceparent", "tracestate"} & api.asked[0].keys()
    assert lines(served)[0]["trace_id"] == own.trace_id


async def test_a_hedge_is_two_attempts_at_once_and_the_copy_says_how_it_went(tmp_path: Path) -> None:
    async with collector() as there, Engine(speed=SLOWED) as gpu, Provider() as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url, more=HEDGED)
        async with serving(policy, "--trace-shared", env=there.env) as served:
            await post(served, ask(stream=True), **CALLED)
            spans = await there.until(servers)
            await served.stop()
    (own,) = servers(spans)
    slow, copy = below(spans, own)
    assert slow.start_ns < copy.start_ns < slow.end_ns
    assert (slow.attributes["spillway.failure"], slow.error) == ("outrun", False)
    assert (copy.attributes["spillway.cause"], copy.attributes["spillway.hedge"]) == ("hedge", "won")
    assert copy.attributes["spillway.reason"].startswith("hedged: no token from gpu in ")
    assert told(gpu.asked[0]) == (TRACE, slow.span_id)
    assert told(api.asked[0]) == (TRACE, copy.span_id)


async def test_without_a_collector_what_the_caller_says_goes_on_to_engines_only(tmp_path: Path) -> None:
    async with Engine() as gpu, Provider() as api:
        async with serving(write_policy(tmp_path, gpu=gpu.url, api=api.url)) as served:
            await post(served, ask(), **CALLED)
            await post(served, ask(), traceparent="00-none-at-all-01")
            await post(served, ask(), **CALLED, **{"x-spillway-lane": "shared"})
            assert "spillway_spans" not in await served.metrics()
            await served.stop()
    assert {name: gpu.asked[0][name] for name in CALLED} == CALLED
    assert not {"traceparent", "tracestate"} & gpu.asked[1].keys()
    assert [line.get("trace_id") for line in lines(served)][:2] == [TRACE, None]
    assert len(api.asked) == 1
    assert not {"traceparent", "tracestate"} & api.asked[0].keys()


async def test_a_caller_that_does_not_sample_is_obeyed_and_upstreams_hear_of_it(tmp_path: Path) -> None:
    async with collector() as there, Engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url), env=there.env) as served:
            await post(served, ask(), traceparent=f"00-{TRACE}-{CALLER}-00")
            await post(served, ask(), traceparent=f"00-{TRACE[::-1]}-{CALLER}-01")
            spans = await there.until(servers)
            await served.stop()
    assert gpu.asked[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert gpu.asked[0]["traceparent"].endswith("-00")
    assert CALLER not in gpu.asked[0]["traceparent"]
    assert {span.trace_id for span in spans} == {TRACE[::-1]}


async def test_each_worker_sends_its_own(tmp_path: Path) -> None:
    async with collector() as there, Engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url), "--workers", "2", env=there.env) as served:
            for _ in range(40):
                await post(served, ask(), **CALLED)
            spans = await there.until(lambda spans: len(servers(spans)) == 40)
            await served.stop()
    assert len({span.span_id for span in spans}) == 80
    assert len({span.resource["service.instance.id"] for span in spans}) == 2


async def test_what_is_queued_goes_out_at_the_end(tmp_path: Path) -> None:
    async with collector() as there, Engine() as gpu:
        env = {**there.env, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        async with serving(write_policy(tmp_path, gpu=gpu.url), env=env) as served:
            for _ in range(3):
                await post(served, ask())
            assert there.spans == []
            await served.stop()
    assert len(servers(there.spans)) == 3


async def test_a_collector_that_is_away_is_told_of_once_and_holds_up_nothing(tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "0.3"
    async with Engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url), env=env) as served:

            async def dropped() -> float:
                found = re.search(r"^spillway_spans_dropped_total (\S+)$", await served.metrics(), re.MULTILINE)
                assert found is not None
                return float(found[1])

            lost = 0.0
            async with asyncio.timeout(30.0):
                while lost < 6:
                    assert (await post(served, ask())).status == 200
                    lost = await dropped()
            began = time.monotonic()
            assert await served.stop() == 0
            took_s = time.monotonic() - began
    assert took_s < 8.0
    assert served.said.count("traces cannot be sent") == 1
    assert "opentelemetry" not in served.said


def fuzzed(canary: str, draw: random.Random) -> tuple[Any, dict[str, str]]:
    """A request that has the canary wherever a caller can put one."""

    def word() -> str:
        return f"{draw.choice(['', 'a ', '<'])}{canary}{draw.choice(['', '!', ' z'])}"

    body: dict[str, Any] = {
        **ask(draw.randint(1, 5), stream=draw.random() < 0.5),
        "messages": [{"role": "system", "content": word()}, {"role": "user", "content": word(), "name": canary}],
        "user": word(),
        "metadata": {canary: word()},
        "stop": [word()],
        "prompt_cache_key": canary,
        "safety_identifier": word(),
        "tools": [{"type": "function", "function": {"name": canary, "description": word()}}],
    }
    if draw.random() < 0.25:
        body["model"] = canary
    if draw.random() < 0.2:
        body["service_tier"] = canary
    headers = dict.fromkeys(("user-agent", "x-request-id", "cookie", "x-anything", "referer", "baggage"), canary)
    headers["tracestate"] = f"vendor={canary}"
    if draw.random() < 0.7:
        headers["traceparent"] = CALLED["traceparent"]
    optional = {
        "x-spillway-session": canary,
        "x-spillway-tags": canary,
        "x-spillway-target": canary,
        "x-spillway-lane": canary,
        "x-spillway-priority": canary,
        "authorization": f"Bearer {canary}",
    }
    headers |= {name: value for name, value in optional.items() if draw.random() < 0.15}
    return (b"{" + canary.encode() if draw.random() < 0.1 else body), headers


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_that_a_caller_says_is_ever_exported(seed: int, tmp_path: Path) -> None:
    draw, canary = random.Random(seed), f"canary{secrets.token_hex(6)}"
    key = f"sk-{canary}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    more = f"tenants:\n  bank: {{keys: ['sha256:{digest}']}}\nroutes: [{{name: default, target_override: true}}]\n"
    async with collector() as there, Engine() as gpu, Provider() as api:
        policy = write_policy(tmp_path, gpu=gpu.url, api=api.url, more=more)
        async with serving(policy, env={**there.env, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}) as served:
            statuses = []
            for _ in range(60):
                body, headers = fuzzed(canary, draw)
                given = {"authorization": f"Bearer {key}", **headers}
                statuses.append((await post(served, body, f"{CHAT}?{canary}={canary}", **given)).status)
            await there.until(lambda spans: len(servers(spans)) == 60)
            await served.stop()
    assert {200, 400, 401, 404} <= set(statuses)
    assert gpu.asked
    exported = b"".join(there.bodies).lower()
    assert b"spillway.target" in exported
    assert canary.encode() not in exported
    assert PROVIDER_KEY.encode() not in exported
    assert not any(canary in str(headers) for headers in there.headers)
