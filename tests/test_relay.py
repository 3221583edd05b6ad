"""The relay as a transcript: what a scripted upstream does, and what the client gets."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.model import Limits, Match, Prefer, Route, Rules, Tenant, Timeouts

from tests.harness import dedicated, proxy, read_reply, request_bytes, shared, snapshot_of
from tests.scripted import (
    CHAT_REPLY,
    CLOSE,
    HOLD,
    LAST_CHUNK,
    RESET,
    STREAM_HEAD,
    chat_events,
    chat_stream,
    chunked,
    reply,
    scripted,
)

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
FULL = reply({"error": {"message": "busy", "type": "Service Unavailable", "code": 503}}, "503 Service Unavailable")
DEAD = "http://127.0.0.1:1/v1"


async def test_a_reply_passes_with_its_bytes_and_says_where_it_came_from() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, ASK)
    assert got.status == 200
    assert got.json == CHAT_REPLY
    assert got.headers["x-spillway-target"] == "gpu"
    assert got.headers["x-spillway-lane"] == "dedicated"
    assert got.headers["x-spillway-reason"] == "preferred: cost"
    assert got.headers["x-spillway-attempts"] == "1"


async def test_only_the_model_name_and_stream_options_change_on_the_way_up() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}],"unknown":{"a":1.50},"stream":true}'
    async with scripted([chat_stream("a")]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        await spillway.post(CHAT, body)
    sent = up.requests[0]
    assert sent.body == (
        b'{"model":"up","messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}],"unknown":{"a":1.50},"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )


async def test_only_allowed_request_headers_reach_an_upstream() -> None:
    extra = {
        "cookie": "a=b",
        "authorization": "Bearer sk-t",
        "x-forwarded-for": "1.2.3.4",
        "openai-beta": "x",
        "x-a": "b",
    }
    policy = snapshot_of
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(policy(dedicated("gpu", up.url), t=Tenant(name="t"))) as spillway:
            got = await spillway.post(CHAT, ASK, {**extra, "x-request-id": "mine-1"})
    assert set(up.requests[0].headers) == {
        "host",
        "content-type",
        "accept-encoding",
        "openai-beta",
        "x-request-id",
        "content-length",
    }
    assert up.requests[0].headers["accept-encoding"] == "identity"
    assert got.headers["x-request-id"] == up.requests[0].headers["x-request-id"] == "mine-1"


async def test_a_stream_passes_event_by_event_without_the_usage_that_was_not_asked_for() -> None:
    async with scripted([chat_stream("a", "b")]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, STREAM)
    expected = [event.decode()[6:].strip() for event in chat_events("a", "b", usage=False)]
    finish = json.loads(expected[-2])
    finish["system_fingerprint"] = "fp-1"
    assert got.events[:-2] == expected[:-2]
    assert json.loads(got.events[-2]) == finish
    assert got.events[-1] == "[DONE]"


async def test_a_stream_passes_to_the_byte_when_usage_was_asked_for() -> None:
    ask = {**STREAM, "stream_options": {"include_usage": True}}
    async with scripted([chat_stream("a", "b")]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post(CHAT, ask)
    assert got.body == b"".join(chat_events("a", "b"))


@pytest.mark.parametrize("ask", [ASK, STREAM], ids=["whole", "stream"])
async def test_a_full_engine_is_spilled_from_at_once(ask: dict[str, object]) -> None:
    answer = chat_stream("a") if "stream" in ask else reply(CHAT_REPLY)
    async with scripted([FULL]) as gpu, scripted([answer]) as api:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, ask)
            metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert got.status == 200
    assert got.headers["x-spillway-target"] == "api"
    assert got.headers["x-spillway-reason"] == "engine full: gpu answered 503"
    assert got.headers["x-spillway-attempts"] == "2"
    assert 'spillway_spill_total{from="gpu",reason="full",to="api"} 1.0' in metrics


async def test_an_engine_that_says_full_in_its_first_event_is_spilled_from() -> None:
    """vLLM does so when a burst of streams has passed its own check together."""
    error = b'data: {"error": {"message": "busy", "type": "Service Unavailable", "param": null, "code": 503}}\n\n'
    burst = STREAM_HEAD + chunked(error) + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    async with scripted([burst]) as gpu, scripted([chat_stream("a")]) as api:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, STREAM)
    assert got.headers["x-spillway-target"] == "api"
    assert got.headers["x-spillway-reason"].startswith("engine full: gpu")
    assert got.events[-1] == "[DONE]"


FAILURES = {
    "refused": None,
    "reset": [RESET],
    "closed": [CLOSE],
    "error": [reply({"error": "x"}, "500 Internal Server Error")],
    "redirect": [reply({}, "307 Temporary Redirect", "location: http://127.0.0.1:1/v1/chat/completions")],
    "credentials": [reply({"error": {"message": "bad key sk-secret"}}, "401 Unauthorized")],
    "half": [reply(CHAT_REPLY)[:-20], RESET],
    "garbage": [b"SSH-2.0-OpenSSH\r\n\r\n"],
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_before_content_is_tried_once_elsewhere(name: str) -> None:
    script = FAILURES[name]
    async with scripted(script or [CLOSE]) as gpu, scripted([reply(CHAT_REPLY)]) as api:
        url = DEAD if script is None else gpu.url
        async with proxy(snapshot_of(dedicated("gpu", url), shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, ASK)
    assert got.status == 200
    assert got.headers["x-spillway-target"] == "api"
    assert "sk-secret" not in str(got.headers)


@pytest.mark.parametrize("name", FAILURES)
async def test_the_last_failure_is_told_in_the_callers_protocol(name: str) -> None:
    script = FAILURES[name]
    async with scripted(script or [CLOSE]) as gpu:
        url = DEAD if script is None else gpu.url
        async with proxy(snapshot_of(dedicated("gpu", url))) as spillway:
            got = await spillway.post(CHAT, ASK)
            anthropic = await spillway.post("/v1/messages", ASK)
    assert got.status == 502
    assert set(got.json["error"]) == {"message", "type", "param", "code"}
    assert anthropic.json["type"] == "error"
    assert "sk-secret" not in got.body.decode()
    assert got.headers["x-request-id"]


async def test_the_callers_own_mistake_is_passed_on_and_tried_nowhere_else() -> None:
    mistake = {"error": {"message": "bad temperature", "type": "BadRequestError", "param": "temperature", "code": 400}}
    async with scripted([reply(mistake, "400 Bad Request")]) as gpu, scripted([reply(CHAT_REPLY)]) as api:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, ASK)
            anthropic = await spillway.post("/v1/messages", ASK)
    assert got.status == 400
    assert got.json == mistake
    assert anthropic.json["error"] == {"type": "invalid_request_error", "message": "bad temperature"}
    assert api.requests == []


async def test_an_idle_connection_that_the_upstream_has_closed_is_replaced_unseen() -> None:
    async with scripted([reply(CHAT_REPLY), CLOSE], [reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            first = await spillway.post(CHAT, ASK)
            second = await spillway.post(CHAT, ASK)
    assert (first.status, second.status) == (200, 200)
    assert second.headers["x-spillway-attempts"] == "1"


async def test_connections_are_kept_alive() -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        for _ in range(5):
            await spillway.post(CHAT, ASK)
    assert len(up.requests) == 5
    assert up.connections == 1


async def test_a_first_token_that_does_not_come_is_tried_elsewhere() -> None:
    slow = dedicated("gpu", "x", timeouts=Timeouts(first_token_s=0.1))
    async with scripted([STREAM_HEAD + chunked(chat_events()[0]), HOLD]) as gpu, scripted([chat_stream("a")]) as api:
        slow = dedicated("gpu", gpu.url, timeouts=Timeouts(first_token_s=0.1))
        async with proxy(snapshot_of(slow, shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, STREAM)
            await asyncio.wait_for(gpu.closed_at.get(), 1)
    assert got.headers["x-spillway-target"] == "api"
    assert got.headers["x-spillway-reason"].startswith("first_token_timeout: gpu")
    assert got.events[-1] == "[DONE]"


async def test_a_stream_that_stalls_after_content_ends_in_an_error_event() -> None:
    head = b"".join(chunked(event) for event in chat_events("a")[:2])
    async with scripted([STREAM_HEAD + head, HOLD]) as gpu:
        target = dedicated("gpu", gpu.url, timeouts=Timeouts(idle_s=0.1))
        async with proxy(snapshot_of(target)) as spillway:
            got = await spillway.post(CHAT, STREAM)
            await asyncio.wait_for(gpu.closed_at.get(), 1)
    assert got.complete
    assert json.loads(got.events[-1])["error"]["code"] == "upstream_timeout"


async def test_a_gate_binds_every_path() -> None:
    """An `eu-*` tenant never reaches a `us` target: not first, not as fallback, not when everything lawful is down."""
    routes = (
        Route(name="gdpr", match=Match(tags=frozenset({"gdpr"})), require=Rules(regions=("eu-*",))),
        Route(name="default", prefer=Prefer.SHARED),
    )
    bank = Tenant(name="bank", tags=frozenset({"gdpr"}))
    async with scripted([RESET]) as gpu, scripted([reply(CHAT_REPLY)]) as api:
        policy = snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url), routes=routes, bank=bank)
        async with proxy(policy) as spillway:
            answers = [await spillway.post(CHAT, ASK, {"authorization": "Bearer sk-bank"}) for _ in range(12)]
    assert api.requests == []
    assert {answer.status for answer in answers[:5]} == {502}
    down = answers[-1]
    assert down.status == 503
    assert "region" in down.json["error"]["message"]
    assert "retry-after" in down.headers


LEAVING = {
    "before the first token": (STREAM, [STREAM_HEAD + chunked(chat_events()[0]), HOLD], b""),
    "before the reply": (STREAM, [HOLD], b""),
    "mid-stream": (STREAM, [STREAM_HEAD + b"".join(chunked(e) for e in chat_events("a")[:2]), HOLD], b"data: "),
    "not streaming": (ASK, [HOLD], b""),
}


@pytest.mark.parametrize("phase", LEAVING)
async def test_the_upstream_is_closed_when_the_client_leaves_and_the_request_is_metered(phase: str) -> None:
    """How soon is measured in tests/e2e/test_disconnect.py, where nothing else runs."""
    ask, script, seen = LEAVING[phase]
    async with scripted(script) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        for _ in range(5):
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, json.dumps(ask).encode()))
            await asyncio.wait_for(up.arrived.get(), 5)
            if seen:
                await reader.readuntil(seen)
            writer.close()
            await asyncio.wait_for(up.closed_at.get(), 5)
        assert spillway.counted("abandoned") == 5
        text = (await spillway.get("/metrics", admin=True)).body.decode()
    assert 'spillway_upstream_cancel_seconds_count{lane="shared"} 5.0' in text


async def test_a_request_that_no_upstream_confirmed_is_estimated_not_zero() -> None:
    ask, script, seen = LEAVING["mid-stream"]
    async with scripted(script) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(ask).encode()))
        await reader.readuntil(seen)
        writer.close()
        await asyncio.wait_for(up.closed_at.get(), 5)
        assert spillway.counted("estimated_tokens") > 0


async def test_replies_on_one_client_connection_do_not_mix() -> None:
    async with scripted([reply(CHAT_REPLY)], [chat_stream("a")], [FULL]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            reader, writer = await spillway.connect()
            statuses = []
            for ask in (ASK, STREAM, ASK):
                writer.write(request_bytes("POST", CHAT, json.dumps(ask).encode()))
                statuses.append((await read_reply(reader)).status)
            writer.close()
    assert statuses == [200, 200, 503]


FULL_BURST = (
    STREAM_HEAD
    + chunked(b'data: {"error": {"message": "busy", "type": "Service Unavailable", "param": null, "code": 503}}\n\n')
    + LAST_CHUNK
)


@pytest.mark.parametrize("answer", [FULL, FULL_BURST], ids=["by its status", "in its first event"])
async def test_a_caller_that_insists_on_dedicated_is_told_when_the_engine_turns_it_away(answer: bytes) -> None:
    async with scripted([answer]) as gpu, scripted([chat_stream("a")]) as api:
        async with proxy(snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))) as spillway:
            got = await spillway.post(CHAT, STREAM, {"x-spillway-lane": "dedicated"})
            anyone = await spillway.post(CHAT, STREAM, {"x-spillway-lane": "auto"})
    assert (got.status, got.json["error"]["code"]) == (429, "dedicated_at_capacity")
    assert got.json["error"]["type"] == "rate_limit_error"
    assert int(got.headers["retry-after"]) >= 1
    assert got.headers["x-should-retry"] == "true"
    assert got.headers["x-spillway-route"] == "default"
    assert anyone.headers["x-spillway-target"] == "api"
    assert len(api.requests) == 1


async def test_an_engine_that_is_full_in_its_first_event_is_full_not_broken() -> None:
    async with scripted([FULL_BURST]) as gpu, proxy(snapshot_of(dedicated("gpu", gpu.url))) as spillway:
        got = await spillway.post(CHAT, STREAM)
    assert (got.status, got.json["error"]["code"]) == (503, "upstream_full")
    assert "retry-after" in got.headers


async def test_requests_leave_nothing_for_the_garbage_collector() -> None:
    """What is in a reference cycle is freed only by a full collection, which stops every stream while it runs."""
    async with scripted([reply(CHAT_REPLY)], [chat_stream("a")]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            gc.collect()
            gc.disable()
            try:
                reader, writer = await spillway.connect()
                for ask in (ASK, STREAM) * 20:
                    writer.write(request_bytes("POST", CHAT, json.dumps(ask).encode()))
                    await read_reply(reader)
                writer.close()
                for _ in range(5):
                    await spillway.post(CHAT, STREAM)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("proxy.")}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
    assert left == set()


async def test_a_request_that_is_cut_by_the_end_of_the_proxy_is_told_and_leaves_a_record() -> None:
    head = b"".join(chunked(event) for event in chat_events("a")[:2])
    async with scripted([STREAM_HEAD + head, HOLD]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        await reader.readuntil(b'"a"')
        spillway.spillway.data.cancel()
        rest = await reader.readuntil(b"0\r\n\r\n")
        await asyncio.wait_for(up.closed_at.get(), 1)
        writer.close()
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert b'"code":"shutting_down"' in rest
    ended = 'endpoint="chat",lane="dedicated",outcome="failed",reason="shut_down",route="default",target="gpu"'
    assert f"spillway_requests_total{{{ended}}} 1.0" in metrics


NEARLY_EMPTY = (
    "x-ratelimit-limit-requests: 100",
    "x-ratelimit-remaining-requests: 0",
    "x-ratelimit-reset-requests: 9s",
)


async def test_the_head_of_a_stream_holds_back_the_next_request_before_the_stream_has_ended() -> None:
    seen = asyncio.Event()
    wire = chat_stream("a").replace(b"\r\n", "\r\n".join(("", *NEARLY_EMPTY, "")).encode(), 1)
    first = wire.index(b"\r\n", wire.index(b'"a"')) + 2
    async with (
        scripted([wire[:first], seen, wire[first:]]) as up,
        proxy(snapshot_of(shared("api", up.url))) as spillway,
    ):
        reader, writer = await spillway.connect()
        writer.write(request_bytes("POST", CHAT, json.dumps(STREAM).encode()))
        await reader.readuntil(b'"a"')
        held = await spillway.post(CHAT, ASK)
        seen.set()
        assert await reader.readuntil(b"[DONE]")
        writer.close()
    assert held.status == 503
    assert 1 <= int(held.headers["retry-after"]) <= 10
    assert "0 of 100 requests left" in held.json["error"]["message"]
    assert len(up.requests) == 1


async def test_an_engines_own_headers_hold_nothing_back() -> None:
    answer = reply(CHAT_REPLY, "200 OK", *NEARLY_EMPTY)
    async with scripted([answer]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        assert [(await spillway.post(CHAT, ASK)).status for _ in range(3)] == [200, 200, 200]


async def test_a_refusal_without_a_word_about_quotas_holds_the_next_request_back() -> None:
    limited = reply({"error": {"message": "slow down"}}, "429 Too Many Requests", "retry-after-ms: 1")
    async with scripted([limited]) as up, proxy(snapshot_of(shared("api", up.url))) as spillway:
        assert (await spillway.post(CHAT, ASK)).status == 429
        assert (await spillway.post(CHAT, ASK)).status == 503
    assert len(up.requests) == 1


async def test_a_spillover_goes_to_no_target_that_must_wait() -> None:
    """The second target's quota ends while the first one is being asked."""
    held, empty = asyncio.Event(), reply(CHAT_REPLY, "200 OK", *NEARLY_EMPTY)
    async with scripted([held, FULL]) as gpu, scripted([empty], [chat_stream("a")]) as api:
        policy = snapshot_of(dedicated("gpu", gpu.url), shared("api", api.url))
        async with proxy(policy) as spillway:
            waiting = asyncio.create_task(spillway.post(CHAT, ASK))
            await gpu.arrived.get()
            assert (await spillway.post(CHAT, ASK, {"x-spillway-lane": "shared"})).status == 200
            held.set()
            answer = await waiting
    assert answer.status == 503
    assert len(api.requests) == 1


BANK = {"authorization": "Bearer sk-bank"}


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    """A store of one's own: rates are leased, and without one there is nothing to lease for a while."""
    with EmbeddedStore(tmp_path) as store:
        yield store.url


async def test_a_request_counts_while_it_runs_and_one_that_is_refused_never_did(store_url: str) -> None:
    held = asyncio.Event()
    bank = Tenant(name="bank", limits=Limits(rpm=3, concurrency=1))
    async with scripted([held, reply(CHAT_REPLY)], [reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), bank=bank), store_url=store_url) as spillway:
            waiting = asyncio.create_task(spillway.post(CHAT, ASK, BANK))
            await up.arrived.get()
            refused = [await spillway.post(CHAT, ASK, BANK) for _ in range(4)]
            held.set()
            served = [(await waiting).status, *[(await spillway.post(CHAT, ASK, BANK)).status for _ in range(3)]]
    assert {one.status for one in refused} == {429}
    assert refused[0].json["error"]["code"] == "rate_limit_exceeded"
    assert "1 of its 1 requests in flight" in refused[0].json["error"]["message"]
    assert served == [200, 200, 200, 429]


async def test_tokens_count_by_estimate_until_the_reply_tells(store_url: str) -> None:
    held = asyncio.Event()
    bank = Tenant(name="bank", limits=Limits(tpm=200))
    async with scripted([held, reply(CHAT_REPLY)], [chat_stream("a")]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), bank=bank), store_url=store_url) as spillway:
            waiting = asyncio.create_task(spillway.post(CHAT, {**ASK, "max_tokens": 150}, BANK))
            await up.arrived.get()
            early = await spillway.post(CHAT, {**STREAM, "max_tokens": 150}, BANK)
            held.set()
            await waiting
            for _ in range(3):
                # What was not used comes back with the next sync.
                async with asyncio.timeout(10):
                    while (await spillway.post(CHAT, {**STREAM, "max_tokens": 150}, BANK)).status != 200:
                        await asyncio.sleep(0.05)
    assert early.status == 429
    assert "tokens a minute" in early.json["error"]["message"]


@pytest.mark.parametrize("phase", ["before the reply", "mid-stream"])
async def test_a_client_that_leaves_makes_room_for_the_next(phase: str, store_url: str) -> None:
    ask, script, seen = LEAVING[phase]
    bank = Tenant(name="bank", limits=Limits(concurrency=1))
    async with scripted(script, [reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), bank=bank), store_url=store_url) as spillway:
            reader, writer = await spillway.connect()
            writer.write(request_bytes("POST", CHAT, json.dumps(ask).encode(), BANK))
            await asyncio.wait_for(up.arrived.get(), 5)
            if seen:
                await reader.readuntil(seen)
            assert (await spillway.post(CHAT, ASK, BANK)).status == 429
            writer.close()
            await asyncio.wait_for(up.closed_at.get(), 5)
            assert (await spillway.post(CHAT, ASK, BANK)).status == 200


async def test_a_routes_limit_holds_all_of_its_callers_together(store_url: str) -> None:
    routes = (Route(name="default", require=Rules(limits=Limits(rpm=2))),)
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), routes=routes), store_url=store_url) as spillway:
            answers = [await spillway.post(CHAT, ASK) for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert 30 <= int(answers[-1].headers["retry-after"]) <= 32
    assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["1", "0", "0"]
    assert len(up.requests) == 2
