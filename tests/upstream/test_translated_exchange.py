"""Translated upstreams against scripted servers. LiteLLM is imported once, for the whole module."""

from __future__ import annotations

import asyncio
import base64
import importlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import msgspec
import orjson
import pytest
from proxy.policy.model import Endpoint, Lane, Secret, Target, Timeouts
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Cause
from proxy.upstream.base import Call, Exchange, Head
from proxy.upstream.errors import UpstreamError
from proxy.upstream.translated import Translated
from pydantic import TypeAdapter
from tests.upstream import translated_events as said
from tests.upstream.translated_events import anthropic, openai
from tests.upstream.translated_server import Reply, Request, Script, Upstream

# One worker imports LiteLLM, not each of them. The filters are its own, for warnings of its pydantic
# models, which pytest resets before every test.
pytestmark = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*conflict with protected namespace.*"),
    pytest.mark.filterwarnings("ignore:.*Accessing the.*attribute on the instance is deprecated.*"),
]

CANARY = "sk-canary-do-not-leak-0123456789"
USER = [{"role": "user", "content": "hi"}]
ABORT_LIMIT_S = 0.25

PROVIDERS = [("anthropic", anthropic), ("openai", openai), ("hosted_vllm", openai)]
BODIES: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"messages": USER},
    Endpoint.COMPLETIONS: {"prompt": "hi"},
    Endpoint.MESSAGES: {"messages": USER, "max_tokens": 64},
    Endpoint.RESPONSES: {"input": "hi"},
}


class Sink:
    """Records what the relay would get."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.blocks: list[bytes] = []
        self.failure: UpstreamError | None = None
        self.ended = False
        self.over = asyncio.Event()
        self.arrived = asyncio.Event()
        self.exchange: Exchange | None = None
        self.after: Callable[[Sink], None] = lambda _: None

    def on_head(self, head: Head) -> None:
        assert not self.over.is_set()
        self.heads.append(head)

    def on_data(self, data: bytes) -> None:
        assert self.heads
        assert not self.over.is_set()
        self.blocks.append(data)
        self.arrived.set()
        self.after(self)

    def on_end(self) -> None:
        self.ended = True
        self._finish()

    def on_failure(self, error: UpstreamError) -> None:
        self.failure = error
        self._finish()

    def _finish(self) -> None:
        assert not self.over.is_set()
        self.over.set()

    @property
    def status(self) -> int:
        (head,) = self.heads
        return head.status

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The decoded `data` of each event, `[DONE]` left out; a name must agree with the type."""
        found = []
        for block in self.body.decode().strip().split("\n\n"):
            *name, data = block.split("\n")
            if data == "data: [DONE]":
                continue
            event = orjson.loads(data.removeprefix("data: "))
            if name:
                assert name == [f"event: {event['type']}"]
            found.append(event)
        return found

    @property
    def text(self) -> str:
        """The text of a chat stream."""
        return "".join(event["choices"][0]["delta"].get("content") or "" for event in self.events if event["choices"])


def call(endpoint: Endpoint, *, stream: bool = False, **body: Any) -> Call:
    members = {key: msgspec.Raw(orjson.dumps(value)) for key, value in body.items()}
    return Call(request_id="r1", endpoint=endpoint, body=members, headers=[], stream=stream)


def attempt(
    provider: str, url: str, *, key: str | None = CANARY, timeouts: Timeouts | None = None, region: str = "eu"
) -> Attempt:
    target = Target(
        name="t",
        lane=Lane.SHARED,
        model="m1",
        region=region,
        urls=(url,),
        provider=provider,
        api_key=Secret(key) if key else None,
        timeouts=timeouts or Timeouts(),
    )
    return Attempt(target=target, replica=0, model="m1", ordinal=0, cause=Cause.PREFERRED, reason="")


async def ask(translated: Translated, to: Attempt, request: Call) -> Sink:
    sink = Sink()
    sink.exchange = translated.open(to, request, sink)
    async with asyncio.timeout(20):
        await sink.over.wait()
    return sink


async def serve(translated: Translated, script: Script, provider: str, request: Call) -> tuple[Sink, Upstream]:
    async with Upstream(script) as upstream:
        return await ask(translated, attempt(provider, upstream.url), request), upstream


class Loading:
    """What happened while LiteLLM was imported: turns of the event loop, and attempts to connect."""

    turns = 0
    connects: list[Any] = []


@pytest.fixture(scope="module")
def loading() -> Loading:
    async def load() -> None:
        translated = Translated()
        warm = asyncio.create_task(translated.warm())
        while not warm.done():
            await asyncio.sleep(0.01)
            Loading.turns += 1
        await warm
        await translated.aclose()

    def refuse(_: socket.socket, address: Any) -> None:
        Loading.connects.append(address)
        raise OSError("no network at import")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        asyncio.run(load())
    return Loading()


@pytest.fixture
async def translated(loading: Loading) -> AsyncIterator[Translated]:
    translated = Translated()
    yield translated
    await translated.aclose()


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


async def test_nobody_listening_is_a_connect_failure(translated: Translated) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        for provider, _ in PROVIDERS:
            sink = await ask(translated, attempt(provider, url), call(Endpoint.CHAT, messages=USER))
            assert sink.failure is not None
            assert sink.failure.failure is Failure.CONNECT
            assert "127.0.0.1" not in sink.failure.detail


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"", Failure.BROKEN),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", Failure.BROKEN),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Failure.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Failure.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}", Failure.PROTOCOL),
    ],
)
async def test_a_broken_reply_is_a_failure_and_is_not_tried_again(
    translated: Translated, sent: bytes, failure: Failure
) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.raw(sent)
        reply.drop()

    for provider, _ in PROVIDERS:
        sink, upstream = await serve(translated, script, provider, call(Endpoint.CHAT, messages=USER))
        assert sink.failure is not None
        assert sink.failure.failure is failure
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("endpoint", list(BODIES))
@pytest.mark.parametrize("way", ["ends", "drops", "drops unframed"])
@pytest.mark.parametrize(("provider", "events"), [
    ("anthropic", said.ANTHROPIC_STREAM[:-2]),
    ("openai", said.CHAT_STREAM[:6]),
])  # fmt: skip
async def test_a_truncated_stream_never_looks_whole(
    translated: Translated, endpoint: Endpoint, way: str, provider: str, events: list[Any]
) -> None:
    """LiteLLM makes up a finish reason here, and its adapters the events that belong to it."""
    upto = len(events)
    for stop in (0, 1, upto // 2, upto):

        async def script(_: Request, reply: Reply, stop: int = stop) -> None:
            await reply.start_stream(chunked=way != "drops unframed")
            for event in events[:stop]:
                await reply.event(event, event.get("type"))
            await reply.end_stream() if way == "ends" else reply.drop()

        sink, upstream = await serve(translated, script, provider, call(endpoint, stream=True, **BODIES[endpoint]))
        assert sink.failure is not None
        assert sink.failure.failure is Failure.BROKEN
        assert not any(end in sink.body for end in (b"[DONE]", b"message_stop", b"response.completed"))
        assert b'"finish_reason":"' not in sink.body
        assert len(upstream.requests) == 1


async def test_a_drop_after_the_finish_reason_is_still_a_drop(translated: Translated) -> None:
    async def script(_: Request, reply: Reply) -> None:
        await reply.start_stream()
        for chunk in said.CHAT_STREAM[:7]:
            await reply.event(chunk)
        reply.drop()

    sink, _ = await serve(translated, script, "openai", call(Endpoint.CHAT, stream=True, messages=USER))
    assert sink.failure is not None
    assert sink.failure.failure is Failure.BROKEN


# abort, pause, close


class Waiting:
    """A script that says `events`, then waits for the client to close, and notes when it did."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events
        self.reached = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, request: Request, reply: Reply) -> None:
        if request.json.get("stream") and self._events:
            await reply.start_stream()
            for event in self._events:
                await reply.event(event, event.get("type"))
        self.reached.set()
        await reply.gone()
        self.closed.set()


@pytest.mark.parametrize("endpoint", list(BODIES))
@pytest.mark.parametrize(("provider", "events"), [
    ("anthropic", said.ANTHROPIC_STREAM[:9]),
    ("openai", said.CHAT_STREAM[:3]),
    ("hosted_vllm", said.CHAT_STREAM[:3]),
])  # fmt: skip
@pytest.mark.parametrize("phase", ["whole", "before the first token", "mid-stream"])
async def test_abort_closes_the_upstream_connection_at_once(
    translated: Translated, endpoint: Endpoint, provider: str, events: list[Any], phase: str
) -> None:
    script = Waiting(events if phase == "mid-stream" else [])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(endpoint, stream=phase != "whole", **BODIES[endpoint])
        exchange = translated.open(attempt(provider, upstream.url), request, sink)
        async with asyncio.timeout(20):
            await script.reached.wait()
            if phase == "mid-stream":
                await sink.arrived.wait()
        seen = len(sink.blocks)
        exchange.abort()
        exchange.abort()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()
    assert len(sink.blocks) == seen
    assert not sink.over.is_set()


async def test_a_sink_may_abort_while_it_is_being_fed(translated: Translated) -> None:
    """The relay does so when it finds an error in the stream."""
    script = Waiting(said.CHAT_STREAM[:5])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        exchange = translated.open(attempt("openai", upstream.url), request, sink)
        sink.after = lambda _: exchange.abort()
        async with asyncio.timeout(20):
            await sink.arrived.wait()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()
    assert len(sink.blocks) == 1


async def test_pause_stops_the_flow_and_resume_goes_on_without_loss(translated: Translated) -> None:
    total = 400
    filler = "x" * 4000
    written = 0

    async def script(_: Request, reply: Reply) -> None:
        nonlocal written
        await reply.start_stream()
        for number in range(total):
            await reply.event(said.chat_chunk({"content": f"{number} {filler} "}))
            written = number + 1
        for chunk in said.CHAT_STREAM[6:]:
            await reply.event(chunk)
        await reply.end_stream()

    async with Upstream(script) as upstream:
        sink = Sink()
        paused = asyncio.Event()

        def pause(sink: Sink) -> None:
            if len(sink.blocks) == 3:
                exchange.pause()
                paused.set()

        sink.after = pause
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        exchange = translated.open(attempt("openai", upstream.url), request, sink)
        async with asyncio.timeout(20):
            await paused.wait()
            before = -1
            while written != before:  # until the sockets' buffers are full
                before = written
                await asyncio.sleep(0.05)
        assert len(sink.blocks) == 3
        assert not sink.over.is_set()
        exchange.resume()
        async with asyncio.timeout(20):
            await sink.over.wait()
    assert sink.text.split()[::2] == [str(number) for number in range(total)]


async def test_closing_ends_what_is_running(loading: Loading) -> None:
    translated = Translated()
    script = Waiting(said.CHAT_STREAM[:3])
    async with Upstream(script) as upstream:
        sink = Sink()
        request = call(Endpoint.CHAT, stream=True, messages=USER)
        translated.open(attempt("openai", upstream.url), request, sink)
        async with asyncio.timeout(20):
            await sink.arrived.wait()
        await translated.aclose()
        async with asyncio.timeout(ABORT_LIMIT_S):
            await script.closed.wait()


async def test_connections_are_kept_alive_between_exchanges(translated: Translated) -> None:
    for provider, script in PROVIDERS:
        async with Upstream(script()) as upstream:
            to = attempt(provider, upstream.url)
            for stream in (False, True, True, False):
                await ask(translated, to, call(Endpoint.CHAT, stream=stream, messages=USER))
            assert upstream.connections == 1
            assert len(upstream.requests) == 4


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
