"""Errors as the vendors' SDKs read them: the exception, its fields, and whether they would try again."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest
from proxy.api.errors import DIALECTS, OPENAI, dialect_at
from proxy.policy.model import Endpoint, Tenant
from proxy.routing.plan import Refusal
from tests.harness import Proxy, dedicated, proxy, snapshot_of
from tests.scripted import CHAT_REPLY, chat_stream, reply, scripted

MESSAGES: Any = [{"role": "user", "content": "hi"}]
FULL = reply({"error": {"message": "busy", "code": 503}}, "503 Service Unavailable")
LIMITED = reply({"error": {"message": "slow down"}}, "429 Too Many Requests", "retry-after: 7")
BROKEN = reply({}, "500 Internal Server Error")
REFUSAL = Refusal(status=429, code="c", message="m", rule="r", param="p", retry_after_s=1.25, retryable=False)


def openai_client(spillway: Proxy, key: str = "sk-t") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{spillway.port}/v1", api_key=key, max_retries=0)


CASES = [
    (FULL, "sk-t", "m", openai.InternalServerError, 503, "overloaded_error"),
    (LIMITED, "sk-t", "m", openai.RateLimitError, 429, "rate_limit_error"),
    (BROKEN, "sk-t", "m", openai.InternalServerError, 502, "api_error"),
    (BROKEN, "sk-x", "m", openai.AuthenticationError, 401, "authentication_error"),
    (BROKEN, "sk-t", "n", openai.NotFoundError, 404, "not_found_error"),
]
IDS = ["full", "limited", "broken", "key", "model"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("answer", "key", "model", "error", "status", "_t"), CASES, ids=IDS)
async def test_openais_sdk_raises_what_it_should(
    answer: bytes, key: str, model: str, error: type[openai.APIStatusError], status: int, _t: str, stream: bool
) -> None:
    async with scripted([answer]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), t=Tenant(name="t"))) as spillway:
            async with openai_client(spillway, key) as client:
                with pytest.raises(error) as told:
                    await client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert told.value.status_code == status
    assert told.value.code
    assert told.value.type
    assert told.value.request_id


@pytest.mark.parametrize(("answer", "key", "model", "_o", "status", "kind"), CASES, ids=IDS)
async def test_anthropics_callers_read_their_own_kinds(
    answer: bytes, key: str, model: str, _o: Any, status: int, kind: str
) -> None:
    """Its SDK chooses the exception by the status, and shows `error.type` and `request_id` of the body."""
    async with scripted([answer]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), t=Tenant(name="t"))) as spillway:
            got = await spillway.post("/v1/messages", {"model": model, "max_tokens": 5}, {"x-api-key": key})
    assert got.status == status
    assert (got.json["type"], got.json["error"]["type"]) == ("error", kind)
    assert got.json["request_id"] == got.headers["x-request-id"]


async def test_the_wait_an_upstream_asks_for_is_passed_on() -> None:
    async with scripted([LIMITED]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post("/v1/chat/completions", {"model": "m"})
    assert (got.headers["retry-after"], got.headers["retry-after-ms"]) == ("7", "7000")


async def test_the_sdk_tries_again_where_that_helps_and_not_where_it_does_not() -> None:
    async with scripted([FULL], [reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
            client = openai_client(spillway).with_options(max_retries=2)
            await client.chat.completions.create(model="m", messages=MESSAGES)
            assert len(up.requests) == 2
            before = spillway.spillway.data.in_flight
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="n", messages=MESSAGES)
            await client.close()
    assert before == 0


@pytest.mark.parametrize("endpoint", Endpoint)
def test_every_endpoint_has_a_dialect_whose_bodies_and_events_are_json(endpoint: Endpoint) -> None:
    dialect = DIALECTS[endpoint]
    body = orjson.loads(dialect.body(REFUSAL, "req_1"))
    event = dialect.event(REFUSAL)
    data = orjson.loads(event[event.index(b"data: ") + 6 :])
    assert body["error"]["message"] == data["error"]["message"] == "m"
    assert event.endswith(b"\n\n")
    assert event.startswith(b"event: error\n") is (endpoint in {"responses", "messages", "count_tokens"})


def test_the_wait_is_rounded_up_for_those_who_read_seconds() -> None:
    headers = dict(OPENAI.headers(REFUSAL))
    assert headers[b"retry-after"] == b"2"
    assert headers[b"retry-after-ms"] == b"1250"
    assert headers[b"x-should-retry"] == b"false"
    assert headers[b"x-spillway-reason"] == b"refused: r"


def test_a_path_tells_whose_protocol_it_is() -> None:
    assert dialect_at("/v1/messages/nowhere") is DIALECTS[Endpoint.MESSAGES]
    assert dialect_at("/v1/nowhere") is OPENAI


async def test_text_of_a_caller_in_an_error_cannot_break_its_frame() -> None:
    nasty = 'x"}\n\ndata: [DONE]\n\n\r\n\u2028'
    async with scripted([chat_stream("a")]) as up, proxy(snapshot_of(dedicated("gpu", up.url))) as spillway:
        got = await spillway.post("/v1/chat/completions", {"model": nasty, "stream": True})
    assert got.status == 404
    assert nasty in got.json["error"]["message"]
    assert "\n" not in str(got.headers)
