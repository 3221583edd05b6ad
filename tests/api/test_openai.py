"""The data port's order of suspicion, what it does with bodies, and that every refusal leaves a record."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from proxy.policy.model import Capability, Tenant
from proxy.routing.decide import Router
from tests.harness import dedicated, proxy, request_bytes, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted
from tests.wire import wire

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
BODY = json.dumps(ASK).encode()
WAYS = pytest.mark.parametrize("way", [{}, {"direct": False}], ids=["direct", "ASGI"])
NOWHERE = "http://127.0.0.1:1/v1"


@WAYS
@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"content-encoding": "gzip", "content-type": "text/plain"}, b"{", "unsupported_content_encoding"),
        ({"content-type": "text/plain"}, b"{", "unsupported_media_type"),
        ({}, b"x" * 2000, "invalid_api_key"),
        ({"authorization": "Bearer sk-t"}, b"x" * 2000, "request_too_large"),
        ({"authorization": "Bearer sk-t"}, b"{", "invalid_json"),
        ({"authorization": "Bearer sk-t"}, b'{"model":"none","stream":3}', "invalid_request"),
        ({"authorization": "Bearer sk-t"}, b'{"model":"none"}', "model_not_found"),
    ],
)
async def test_the_first_thing_that_is_wrong_is_told_and_recorded(
    headers: dict[str, str], body: bytes, code: str, way: dict[str, Any]
) -> None:
    policy = snapshot_of(dedicated("gpu", NOWHERE), t=Tenant(name="t"))
    async with proxy(policy, max_body_bytes=1000, **way) as spillway:
        got = await spillway.post(CHAT, body, headers)
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    assert got.json["error"]["code"] == code
    rule = got.headers["x-spillway-reason"].removeprefix("refused: ")
    assert f'spillway_refusals_total{{endpoint="chat",rule="{rule}",status="{got.status}"}} 1.0' in metrics


@WAYS
async def test_a_body_may_come_in_pieces(way: dict[str, Any]) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
        async with wire(spillway.port) as client:
            whole = request_bytes("POST", CHAT, BODY)
            for at in range(0, len(whole), 7):
                await client.send(whole[at : at + 7])
                await asyncio.sleep(0)
            assert (await client.reply()).json == CHAT_REPLY
    assert up.requests[0].json["messages"] == ASK["messages"]


@WAYS
async def test_a_body_of_the_very_limit_is_served(way: dict[str, Any]) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url)), max_body_bytes=len(BODY), **way) as spillway:
            assert (await spillway.post(CHAT, BODY)).status == 200
            assert (await spillway.post(CHAT, BODY + b" ")).status == 413


@WAYS
async def test_a_client_that_leaves_before_its_request_is_whole_asked_for_nothing(way: dict[str, Any]) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
        async with wire(spillway.port) as client:
            await client.send(request_bytes("POST", CHAT, BODY)[:-5])
        assert (await spillway.post(CHAT, ASK)).status == 200
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
        assert spillway.spillway.data.in_flight == 0
    assert len(up.requests) == 1
    assert "outcome=" not in metrics.replace('outcome="ok"', "")


@WAYS
async def test_a_bug_costs_one_request(
    way: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up, proxy(snapshot_of(dedicated("gpu", up.url)), **way) as spillway:
        with monkeypatch.context() as broken:
            broken.setattr("proxy.relay.Forward", None)
            got = await spillway.post(CHAT, ASK)
        again = await spillway.post(CHAT, ASK)
    assert (got.status, got.json["error"]["code"]) == (500, "internal_error")
    assert got.headers["x-request-id"] in caplog.text
    assert again.status == 200


@WAYS
@pytest.mark.parametrize("body", [BODY, b"{"], ids=["served", "refused"])
async def test_a_request_keeps_the_policy_that_its_head_met(
    body: bytes, way: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Even when the other one knows neither its key nor its target."""
    async with scripted([reply(CHAT_REPLY)]) as up, scripted([reply(CHAT_REPLY)]) as elsewhere:
        before = snapshot_of(dedicated("gpu", up.url), t=Tenant(name="t"))
        after = replace(snapshot_of(dedicated("tpu", elsewhere.url), u=Tenant(name="u")), digest="e" * 64)
        async with proxy(before, **way) as spillway, wire(spillway.port) as client:
            whole = request_bytes("POST", CHAT, body, {"authorization": "Bearer sk-t"})
            await client.send(whole[: -len(body)])
            # What was sent earlier to the same loop has been read by the time that this is answered.
            assert (await spillway.get("/healthz")).status == 200
            spillway.spillway.adopt(Router(after))
            await client.send(whole[-len(body) :])
            got = await client.reply()
            later = await spillway.post(CHAT, body, {"authorization": "Bearer sk-t"})
            known = await spillway.post(CHAT, BODY, {"authorization": "Bearer sk-u"})
    lines = [json.loads(line)["policy"] for line in capfd.readouterr().out.splitlines()]
    assert lines == ["d" * 12, "e" * 12, "e" * 12]
    assert (later.status, known.status, known.headers["x-spillway-target"]) == (401, 200, "tpu")
    if body == BODY:
        assert got.status == 200
        assert (got.headers["x-spillway-target"], got.headers["x-spillway-policy"]) == ("gpu", "d" * 12)
    else:
        assert got.json["error"]["code"] == "invalid_json"


@WAYS
async def test_whoever_is_refused_once_its_key_is_known_is_on_record_by_name(
    way: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bank = {"authorization": "Bearer sk-bank"}
    policy = snapshot_of(dedicated("gpu", NOWHERE), bank=Tenant(name="bank", tags=frozenset({"gdpr"})))
    async with proxy(policy, **way) as spillway:
        await spillway.post(CHAT, {**ASK, "inference_geo": "us"}, bank)
        await spillway.post(CHAT, ASK, {**bank, "x-spillway-tags": "eval"})
        await spillway.post(CHAT, ASK)
        metrics = (await spillway.get("/metrics", admin=True)).body.decode()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]
    assert [(line["tenant"], line.get("tags"), line["refusal"]["code"]) for line in lines] == [
        ("bank", ["gdpr"], "geo_parameter_not_allowed"),
        ("bank", ["gdpr"], "tag_not_allowed"),
        ("anonymous", None, "invalid_api_key"),
    ]
    assert 'spillway_residency_blocked_total{route="none"} 1.0' in metrics


@WAYS
async def test_what_a_prompt_holds_and_when_it_came_decides(way: dict[str, Any]) -> None:
    """A picture does not go where only text is understood, however it is spelled; tools neither."""
    async with scripted([reply(CHAT_REPLY)]) as up:
        text_only = dedicated("text", up.url, supports=frozenset[Capability]())
        sighted = dedicated("sighted", up.url, supports=frozenset({Capability.VISION}))
        async with proxy(snapshot_of(text_only, sighted), **way) as spillway:
            picture = BODY.replace(b'"hi"', b'[{"type":"\\u0069mage_url","image_url":{"url":"https://e.com/a.png"}}]')
            words = await spillway.post(CHAT, BODY)
            seen = await spillway.post(CHAT, picture)
            tools = await spillway.post(CHAT, {**ASK, "tools": [{"type": "function", "function": {"name": "f"}}]})
    assert words.headers["x-spillway-target"] == "text"
    assert seen.headers["x-spillway-target"] == "sighted"
    assert (tools.status, tools.json["error"]["code"]) == (400, "unsupported_by_model")
