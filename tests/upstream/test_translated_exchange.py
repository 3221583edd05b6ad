"""Translated upstreams against scripted servers: every endpoint, whole and streamed, in both directions."""

from __future__ import annotations

import asyncio
import base64
import importlib
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import orjson
import pytest
from proxy.policy.model import Endpoint
from proxy.routing.outcome import Failure
from proxy.upstream.base import Head
from proxy.upstream.translated import Translated
from pydantic import TypeAdapter
from tests.upstream import translated_events as said
from tests.upstream.conftest import Loading
from tests.upstream.translated_events import anthropic, openai
from tests.upstream.translated_play import BODIES, CANARY, LITELLM, PROVIDERS, USER, Sink, ask, attempt, call, serve
from tests.upstream.translated_server import Reply, Request, Script, Upstream

pytestmark = LITELLM


# loading


def test_loading_leaves_the_event_loop_running_and_the_network_alone(loading: Loading) -> None:
    assert loading.turns > 10
    assert loading.connects == []


def test_loading_silences_litellm(loading: Loading) -> None:
    litellm = sys.modules["litellm"]
    assert litellm.suppress_debug_info
    assert not litellm.telemetry
    assert not litellm.callbacks + litellm.success_callback + litellm.failure_callback


async def test_exchanges_opened_while_loading_are_all_served(translated: Translated) -> None:
    async with Upstream(openai()) as upstream:
        to = attempt("openai", upstream.url)
        sinks = await asyncio.gather(*(ask(translated, to, call(Endpoint.CHAT, messages=USER)) for _ in range(5)))
    assert [sink.status for sink in sinks] == [200] * 5


# chat


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_chat_whole(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.CHAT, messages=USER, tools=said.CHAT_TOOLS)
    sink, _ = await serve(translated, script(), provider, request)
    assert sink.status == 200
    reply = sink.json
    (choice,) = reply["choices"]
    assert set(reply) == {"id", "object", "created", "model", "choices", "usage"}
    assert reply["object"] == "chat.completion"
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Hello you"
    (tool,) = choice["message"]["tool_calls"]
    assert set(tool) == {"id", "type", "function"}
    assert orjson.loads(tool["function"]["arguments"]) == {"city": "Oslo"}
    _check_usage(provider, reply["usage"])
    _validate("openai.types.chat", "ChatCompletion", reply)


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_chat_streamed(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.CHAT, stream=True, messages=USER, tools=said.CHAT_TOOLS)
    sink, _ = await serve(translated, script(), provider, request)
    assert sink.heads == [Head(200, [(b"content-type", b"text/event-stream; charset=utf-8")])]
    assert sink.ended
    assert sink.body.endswith(b"data: [DONE]\n\n")
    *chunks, last = sink.events
    assert last["choices"] == []
    _check_usage(provider, last["usage"])
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello you"
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]
    deltas = [delta for choice in choices for delta in choice["delta"].get("tool_calls", ())]
    assert {delta["index"] for delta in deltas} == {0}
    assert [set(delta) for delta in deltas][1:] == [{"index", "function"}] * (len(deltas) - 1)
    assert deltas[0]["function"]["name"] == "weather"
    assert "".join(delta["function"]["arguments"] for delta in deltas) == '{"city":"Oslo"}'
    for chunk in sink.events:
        _validate("openai.types.chat", "ChatCompletionChunk", chunk)


async def test_chat_to_anthropic_sends_what_its_messages_api_wants(translated: Translated) -> None:
    history = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]  # fmt: skip
    request = call(Endpoint.CHAT, messages=history, tools=said.CHAT_TOOLS, max_tokens=9, stop=["x"], seed=3, user="u")
    _, upstream = await serve(translated, anthropic(), "anthropic", request)
    (sent,) = upstream.requests
    assert sent.path == "/v1/messages"
    assert sent.headers["x-api-key"] == CANARY
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.json["model"] == "m1"
    assert sent.json["system"] == [{"type": "text", "text": "be brief"}]
    assert sent.json["max_tokens"] == 9
    assert sent.json["stop_sequences"] == ["x"]
    assert sent.json["tools"][0]["input_schema"]["properties"] == said.WEATHER["properties"]
    (use,) = [block for block in sent.json["messages"][1]["content"] if block["type"] == "tool_use"]
    assert use["input"] == {"city": "Oslo"}
    assert sent.json["messages"][2]["content"][0]["tool_use_id"] == "call_1"
    assert "seed" not in sent.json


async def test_reasoning_keeps_its_signature_so_that_the_conversation_can_go_on(translated: Translated) -> None:
    sink, _ = await serve(translated, anthropic(), "anthropic", call(Endpoint.CHAT, messages=USER))
    message = sink.json["choices"][0]["message"]
    assert message["reasoning_content"] == "which city"
    assert message["thinking_blocks"] == [{"type": "thinking", "thinking": "which city", "signature": "c2ln"}]


async def test_an_upstream_that_reports_no_usage_gets_none_invented(translated: Translated) -> None:
    script = openai(upto=7)
    sink, _ = await serve(translated, script, "openai", call(Endpoint.CHAT, stream=True, messages=USER))
    assert sink.ended
    assert not any("usage" in event for event in sink.events)


async def test_a_whole_reply_without_usage_gets_none_invented(translated: Translated) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.json({key: value for key, value in said.CHAT_COMPLETION.items() if key != "usage"})

    for provider in ("openai", "hosted_vllm"):
        sink, _ = await serve(translated, script, provider, call(Endpoint.CHAT, messages=USER))
        assert "usage" not in sink.json


async def test_a_long_burst_of_chunks_leaves_the_event_loop_to_others(translated: Translated) -> None:
    burst = 200

    async def script(_: Request, reply: Reply) -> None:
        await reply.start_stream(chunked=False)
        words = [said.chat_chunk({"content": f"{number} "}) for number in range(burst)]
        await reply.raw(
            b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in (*words, *said.CHAT_STREAM[6:]))
        )
        await reply.end_stream()

    async with Upstream(script) as upstream:
        sink, turns = Sink(), 0
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        translated.open(attempt("openai", upstream.url), request, sink)
        async with asyncio.timeout(20):
            await sink.arrived.wait()
            while not sink.over.is_set():
                await asyncio.sleep(0)
                turns += 1
    assert len(sink.blocks) > burst
    assert turns >= burst


# other providers, as far as they can be told apart from the two above


async def test_azure(translated: Translated) -> None:
    async with Upstream(openai()) as upstream:
        to = attempt("azure", f"http://127.0.0.1:{upstream.port}")
        for stream in (False, True):
            sink = await ask(translated, to, call(Endpoint.CHAT, stream=stream, messages=USER))
            assert b"Hello" in sink.body
            assert sink.ended
    assert {request.headers["api-key"] for request in upstream.requests} == {CANARY}
    assert all(request.path.startswith("/openai/deployments/m1/chat/completions?") for request in upstream.requests)


async def test_gemini(translated: Translated) -> None:
    async def script(request: Request, reply: Reply) -> None:
        if "stream" not in request.path:
            await reply.json(said.GEMINI_REPLY)
            return
        await reply.start_stream()
        await reply.event(said.GEMINI_REPLY)
        await reply.end_stream()

    async with Upstream(script) as upstream:
        to = attempt("gemini", f"http://127.0.0.1:{upstream.port}")
        whole = await ask(translated, to, call(Endpoint.CHAT, messages=USER))
        streamed = await ask(translated, to, call(Endpoint.CHAT, stream=True, messages=USER))
    assert whole.json["choices"][0]["message"]["content"] == "Hello you"
    assert (whole.json["usage"]["prompt_tokens"], whole.json["usage"]["completion_tokens"]) == (12, 42)
    assert (
        "".join(e["choices"][0]["delta"].get("content") or "" for e in streamed.events if e["choices"]) == "Hello you"
    )
    assert streamed.events[-1]["usage"]["completion_tokens"] == 42
    assert {request.headers["x-goog-api-key"] for request in upstream.requests} == {CANARY}
    assert CANARY not in "".join(request.path for request in upstream.requests)


@pytest.mark.parametrize("whole_stream", [True, False])
async def test_bedrock(translated: Translated, monkeypatch: pytest.MonkeyPatch, whole_stream: bool) -> None:
    """Signed with credentials from the environment, in the target's region, and streamed in AWS's own framing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def script(request: Request, reply: Reply) -> None:
        if not request.path.endswith("stream"):
            await reply.json(said.CONVERSE_REPLY)
            return
        await reply.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\nconnection: close\r\n\r\n"
        )
        for kind, event in said.CONVERSE_STREAM[: None if whole_stream else 3]:
            await reply.raw(said.aws_frame(kind, event))
        reply.drop()

    async with Upstream(script) as upstream:
        to = attempt("bedrock", f"http://127.0.0.1:{upstream.port}", key=None, region="eu-west-1")
        to = msgspec.structs.replace(to, model="converse/anthropic.claude-3-5-sonnet-20240620-v1:0")
        whole = await ask(translated, to, call(Endpoint.CHAT, messages=USER))
        streamed = await ask(translated, to, call(Endpoint.CHAT, stream=True, messages=USER))
    assert whole.json["choices"][0]["message"]["content"] == "Hello you"
    assert all("/eu-west-1/bedrock/aws4_request" in request.headers["authorization"] for request in upstream.requests)
    assert (
        "".join(e["choices"][0]["delta"].get("content") or "" for e in streamed.events if e["choices"]) == "Hello you"
    )
    if whole_stream:
        assert streamed.events[-1]["usage"]["completion_tokens"] == 42
    else:
        assert streamed.failure is not None
        assert streamed.failure.failure is Failure.BROKEN


# the other endpoints


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_messages_whole(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.MESSAGES, messages=USER, max_tokens=64, tools=said.MESSAGES_TOOLS, system="be brief")
    sink, upstream = await serve(translated, script(), provider, request)
    reply = sink.json
    assert reply["id"].startswith("msg_")
    assert (reply["type"], reply["role"], reply["stop_reason"]) == ("message", "assistant", "tool_use")
    text, tool = reply["content"][-2:]
    assert text == {"type": "text", "text": "Hello you"}
    assert (tool["type"], tool["name"], tool["input"]) == ("tool_use", "weather", {"city": "Oslo"})
    usage = reply["usage"]
    assert usage["input_tokens"] == (12 if provider == "anthropic" else 8)
    assert (usage["cache_read_input_tokens"], usage["output_tokens"]) == (4, 42)
    sent = upstream.requests[0]
    assert sent.path == ("/v1/messages" if provider == "anthropic" else "/v1/chat/completions")


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_messages_streamed(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.MESSAGES, stream=True, messages=USER, max_tokens=64, tools=said.MESSAGES_TOOLS)
    sink, _ = await serve(translated, script(), provider, request)
    assert sink.ended
    assert sink.body.count(b"event: ") == len(sink.events)
    message = _accumulate(sink.events)
    blocks = message["content"]
    assert [block["type"] for block in blocks][-2:] == ["text", "tool_use"]
    assert blocks[-2]["text"] == "Hello you"
    assert blocks[-1]["input"] == {"city": "Oslo"}
    if provider == "anthropic":
        assert blocks[0] == {"type": "thinking", "thinking": "which city", "signature": "c2ln"}
    assert message["stop_reason"] == "tool_use"
    assert message["usage"]["input_tokens"] == (12 if provider == "anthropic" else 8)
    assert message["usage"]["output_tokens"] == 42


async def test_messages_tool_names_too_long_for_openai_come_back_whole(translated: Translated) -> None:
    name = "a_tool_with_a_name_that_openai_would_refuse_" + "x" * 60
    shortened = ""

    async def script(request: Request, reply: Reply) -> None:
        nonlocal shortened
        shortened = request.json["tools"][0]["function"]["name"]
        function = {"name": shortened, "arguments": "{}"}
        message = {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": function},
        ]}  # fmt: skip
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        await reply.json({**said.CHAT_COMPLETION, "choices": [choice]})

    tools = [{"name": name, "input_schema": said.WEATHER}]
    sink, _ = await serve(
        translated, script, "openai", call(Endpoint.MESSAGES, **BODIES[Endpoint.MESSAGES], tools=tools)
    )
    assert len(shortened) <= 64
    assert sink.json["content"][0]["name"] == name


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_responses_whole(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.RESPONSES, input="hi", instructions="be brief", tools=said.RESPONSES_TOOLS)
    sink, upstream = await serve(translated, script(), provider, request)
    reply = sink.json
    assert reply["id"].startswith("resp_")
    assert reply["status"] == "completed"
    message, tool = reply["output"][-2:]
    assert message["content"][0]["text"] == "Hello you"
    assert (tool["type"], tool["name"], orjson.loads(tool["arguments"])) == (
        "function_call",
        "weather",
        {"city": "Oslo"},
    )
    assert reply["usage"]["output_tokens"] == 42
    assert reply["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 0}
    _validate("openai.types.responses", "Response", reply)
    sent = upstream.requests[0].json
    assert "be brief" in orjson.dumps(sent).decode()


@pytest.mark.parametrize(("provider", "script"), PROVIDERS)
async def test_responses_streamed(translated: Translated, provider: str, script: Callable[[], Script]) -> None:
    request = call(Endpoint.RESPONSES, stream=True, input="hi", tools=said.RESPONSES_TOOLS)
    sink, _ = await serve(translated, script(), provider, request)
    events = sink.events
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events][:2] == ["response.created", "response.in_progress"]
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == "Hello you"
    done = events[-1]
    assert done["type"] == "response.completed"
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done["response"]["output"] == items
    assert items[-1]["arguments"] == '{"city":"Oslo"}'
    assert done["response"]["usage"]["total_tokens"] == done["response"]["usage"]["input_tokens"] + 42
    for event in events:
        _validate("openai.types.responses", "ResponseStreamEvent", event)


async def test_completions_whole_and_streamed(translated: Translated) -> None:
    for provider, script in PROVIDERS:
        sink, _ = await serve(translated, script(), provider, call(Endpoint.COMPLETIONS, prompt="hi"))
        assert sink.json["object"] == "text_completion"
        assert sink.json["choices"][0]["text"] == "Hello you"
        _validate("openai.types", "Completion", {**sink.json, "choices": [_stopped(sink.json["choices"][0])]})
        sink, _ = await serve(translated, script(), provider, call(Endpoint.COMPLETIONS, stream=True, prompt="hi"))
        *chunks, last = sink.events
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello you"
        assert last["usage"]["completion_tokens"] == 42
        assert sink.body.endswith(b"data: [DONE]\n\n")


async def test_embeddings_as_floats_and_as_the_base64_that_the_sdk_asks_for(translated: Translated) -> None:
    async def script(request: Request, reply: Reply) -> None:
        assert request.path == "/v1/embeddings"
        data = [
            {"object": "embedding", "index": i, "embedding": [0.5, -2.0]} for i, _ in enumerate(request.json["input"])
        ]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        await reply.json({"object": "list", "data": data, "model": "m1", "usage": usage})

    for provider in ("openai", "hosted_vllm"):
        plain, _ = await serve(translated, script, provider, call(Endpoint.EMBEDDINGS, input=["a", "b"]))
        assert [item["embedding"] for item in plain.json["data"]] == [[0.5, -2.0]] * 2
        assert plain.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
        request = call(Endpoint.EMBEDDINGS, input=["a"], encoding_format="base64")
        packed, _ = await serve(translated, script, provider, request)
        assert struct.unpack("<2f", base64.b64decode(packed.json["data"][0]["embedding"])) == (0.5, -2.0)


async def test_count_tokens_counts_here(translated: Translated) -> None:
    body = {"messages": [{"role": "user", "content": "one two three four"}], "system": "be brief"}
    short, upstream = await serve(translated, anthropic(), "bedrock", call(Endpoint.COUNT_TOKENS, **body))
    longer = call(Endpoint.COUNT_TOKENS, **body, tools=said.MESSAGES_TOOLS)
    more, _ = await serve(translated, anthropic(), "bedrock", longer)
    assert set(short.json) == {"input_tokens"}
    assert 6 <= short.json["input_tokens"] < more.json["input_tokens"]
    assert upstream.requests == []


# what the tests above compare with


def _check_usage(provider: str, usage: dict[str, Any]) -> None:
    prompt = 16 if provider == "anthropic" else 12
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (prompt, 42, prompt + 42)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    if provider != "anthropic":
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 7


def _stopped(choice: dict[str, Any]) -> dict[str, Any]:
    """A legacy completion cannot stop for a tool, as the scripted upstream does."""
    return {**choice, "finish_reason": "stop"}


def _validate(module: str, name: str, document: Any) -> None:
    """The OpenAI SDK's own model accepts the document."""
    _adapter(module, name).validate_python(document)


@cache
def _adapter(module: str, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(importlib.import_module(module), name))


def _accumulate(events: list[Any]) -> dict[str, Any]:
    """A Messages stream put together as the Anthropic SDK does it, strictly: one open block at a time, in order."""
    message: dict[str, Any] = {}
    current: dict[str, Any] | None = None
    arguments = ""
    for event in events:
        kind = event["type"]
        if kind == "message_start":
            message = {**event["message"], "content": []}
        elif kind == "content_block_start":
            assert current is None
            assert event["index"] == len(message["content"])
            current, arguments = dict(event["content_block"]), ""
        elif kind == "content_block_delta":
            assert current is not None
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                arguments += delta["partial_json"]
            else:
                field = delta["type"].removesuffix("_delta")
                current[field] += delta[field]
        elif kind == "content_block_stop":
            assert current is not None
            if current["type"] == "tool_use":
                current["input"] = orjson.loads(arguments)
            message["content"].append(current)
            current = None
        elif kind == "message_delta":
            message |= event["delta"]
            message["usage"] |= event["usage"]
    assert current is None
    assert events[-1]["type"] == "message_stop"
    return message
