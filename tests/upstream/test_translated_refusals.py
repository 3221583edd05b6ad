"""What a body cannot make a translated target do, and how a provider's refusal arrives."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from proxy.policy.model import Endpoint
from proxy.routing.outcome import Failure
from proxy.upstream.translated import Translated
from tests.upstream import translated_events as said
from tests.upstream.translated_events import anthropic, openai
from tests.upstream.translated_play import BODIES, CANARY, LITELLM, PROVIDERS, USER, ask, attempt, call, serve
from tests.upstream.translated_server import Reply, Request, Upstream

pytestmark = LITELLM


# what a body cannot do


@pytest.mark.parametrize("endpoint", list(BODIES))
async def test_configuration_in_a_body_is_ignored(translated: Translated, endpoint: Endpoint) -> None:
    """Not one of LiteLLM's own arguments gets through: the request and the key go to the target only."""
    async with Upstream(openai()) as evil, Upstream(openai()) as upstream:
        body = BODIES[endpoint] | {
            "api_base": evil.url,
            "base_url": evil.url,
            "aws_bedrock_runtime_endpoint": evil.url,
            "vertex_location": "us",
            "model": "another",
            "api_key": "theirs",
            "custom_llm_provider": "ollama",
            "user_config": {"model_list": [{"litellm_params": {"api_base": evil.url}}]},
            "fallbacks": [{"model": "openai/x", "api_base": evil.url}],
            "mock_response": "mocked",
            "extra_headers": {"x-evil": "1"},
            "extra_body": {"model": "another"},
            "inference_geo": "us",
            "litellm_metadata": {"a": 1},
            "timeout": 0.000001,
            "num_retries": 5,
            "model_info": {"supported_endpoints": ["/v1/messages"]},
        }  # fmt: skip
        sink = await ask(translated, attempt("openai", upstream.url), call(endpoint, **body))
    (sent,) = upstream.requests
    assert evil.requests == []
    assert sink.status == 200
    assert b"Hello you" in sink.body
    assert sent.headers["authorization"] == f"Bearer {CANARY}"
    assert "x-evil" not in sent.headers
    assert sent.json["model"] == "m1"
    assert set(sent.json) <= {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("part", [
    {"type": "image_url", "image_url": {"url": "{evil}/x.png"}},
    {"type": "file", "file": {"file_id": "{evil}/x.pdf"}},
])  # fmt: skip
async def test_no_url_in_a_message_is_fetched(translated: Translated, part: dict[str, Any]) -> None:
    async with Upstream(openai()) as evil, Upstream(anthropic()) as upstream:
        part = orjson.loads(orjson.dumps(part).replace(b"{evil}", evil.url.encode()))
        request = call(Endpoint.CHAT, messages=[{"role": "user", "content": [part]}])
        sink = await ask(translated, attempt("anthropic", upstream.url), request)
    assert evil.connections == 0
    assert sink.status in (200, 400)


async def test_redirects_are_not_followed(translated: Translated) -> None:
    for status in (301, 302, 307, 308):
        async with Upstream(openai()) as elsewhere:

            async def script(_: Request, reply: Reply, status: int = status, to: str = elsewhere.url) -> None:
                await reply.json({}, status, f"location: {to}/chat/completions\r\n")

            for provider, _ in PROVIDERS:
                for stream in (False, True):
                    request = call(Endpoint.CHAT, stream=stream, messages=USER)
                    sink, upstream = await serve(translated, script, provider, request)
                    assert sink.failure is not None
                    assert sink.failure.failure is Failure.PROTOCOL
                    assert len(upstream.requests) == 1
            assert elsewhere.connections == 0


async def test_a_key_in_the_environment_is_not_sent_to_a_target_without_one(
    translated: Translated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "HOSTED_VLLM_API_KEY"):
        monkeypatch.setenv(name, "sk-from-the-environment")
    for provider, script in PROVIDERS:
        async with Upstream(script()) as upstream:
            to = attempt(provider, upstream.url, key=None)
            await ask(translated, to, call(Endpoint.CHAT, messages=USER))
        assert "environment" not in str(upstream.requests[0].headers)


@pytest.mark.parametrize(
    ("endpoint", "body", "names"),
    [
        (Endpoint.CHAT, {"messages": "hi"}, "messages"),
        (Endpoint.CHAT, {"messages": USER, "n": 3}, "n"),
        (Endpoint.CHAT, {"messages": USER, "logprobs": True}, "logprobs"),
        (Endpoint.COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
        (Endpoint.COMPLETIONS, {"prompt": "a", "echo": True}, "echo"),
        (Endpoint.RESPONSES, {"input": "hi", "previous_response_id": "resp_1"}, "previous_response_id"),
        (Endpoint.RESPONSES, {"input": "hi", "tools": [{"type": "web_search"}]}, "web_search"),
    ],
)
async def test_what_cannot_be_translated_is_refused_by_name(
    translated: Translated, endpoint: Endpoint, body: dict[str, Any], names: str
) -> None:
    sink, upstream = await serve(translated, anthropic(), "anthropic", call(endpoint, **body))
    assert sink.status == 400
    assert names in sink.json["error"]["message"]
    assert upstream.requests == []


# errors


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529])
async def test_a_status_arrives_as_it_was_and_without_secrets(
    translated: Translated, status: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with Upstream(lambda *_: asyncio.sleep(0)) as upstream:

        async def script(_: Request, reply: Reply) -> None:
            text = f"no: key {CANARY} at {upstream.url} says maximum context length"
            await reply.json(
                {"error": {"message": text}}, status, "retry-after: 7\r\nx-ratelimit-remaining-tokens: 0\r\n"
            )

        upstream._script = script
        for provider, _ in PROVIDERS:
            for stream in (False, True):
                request = call(Endpoint.CHAT, stream=stream, messages=USER)
                sink = await ask(translated, attempt(provider, upstream.url), request)
                assert sink.status == status
                assert sink.heads[0].get(b"retry-after") == b"7"
                assert sink.heads[0].get(b"x-ratelimit-remaining-tokens") == b"0"
                error = sink.json["error"]
                assert error["message"].startswith("no: key *** at ***")
                assert error["code"] == "context_length_exceeded"
                assert CANARY not in sink.body.decode()
                assert str(upstream.port) not in sink.body.decode()
    assert len(upstream.requests) == 6
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


async def test_errors_of_messages_have_anthropics_shape(translated: Translated) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.json({"error": {"message": "slow down"}}, 429)

    sink, _ = await serve(translated, script, "openai", call(Endpoint.MESSAGES, **BODIES[Endpoint.MESSAGES]))
    assert sink.status == 429
    assert sink.json == {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}


async def test_an_error_in_the_first_event_is_a_status(translated: Translated) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.start_stream()
        await reply.event(said.ANTHROPIC_STREAM[0], "message_start")
        await reply.event(said.OVERLOADED, "error")
        await reply.end_stream()

    sink, _ = await serve(translated, script, "anthropic", call(Endpoint.CHAT, stream=True, messages=USER))
    assert sink.status == 529
    assert sink.json["error"]["message"] == "Overloaded"


@pytest.mark.parametrize("endpoint", list(BODIES))
async def test_an_error_in_mid_stream_is_an_event(translated: Translated, endpoint: Endpoint) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.start_stream()
        for event in said.ANTHROPIC_STREAM[:9]:
            await reply.event(event, event["type"])
        await reply.event(said.OVERLOADED, "error")
        await reply.end_stream()

    sink, _ = await serve(translated, script, "anthropic", call(endpoint, stream=True, **BODIES[endpoint]))
    assert sink.status == 200
    last = sink.events[-1]
    assert "Overloaded" in str(last)
    assert "error" in last or last["type"] == "error"
    assert b"[DONE]" not in sink.body
