"""LiteLLM's providers against vLLM: a real server on the far side of a real translation."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engine import spillway as proxies
from tests.engine.asks import ANTHROPIC_TOOLS, MESSAGES, OPENAI_TOOLS, chat, messages
from tests.engine.fixtures import client
from tests.engine.replies import events
from tests.engine.spillway import Spillway
from tests.engine.vllm import Engine

BOTH_WAYS = """
version: 1
targets:
  speaks-messages:
    lane: shared
    provider: anthropic
    url: {keyless}
    model: tiny
    api_key: ${{ENGINE_KEY}}
    price: {{input: 3, output: 15}}
  speaks-chat:
    lane: shared
    provider: openai
    url: {guarded}
    model: tiny
    endpoints: [chat]
    api_key: ${{ENGINE_KEY}}
    price: {{input: 3, output: 15}}
models:
  to-messages: [speaks-messages]
  to-chat: [speaks-chat]
"""


@pytest.fixture(scope="module")
def translating(small_engine: Engine, engine: Engine, logs: Path) -> Iterator[Spillway]:
    policy = BOTH_WAYS.format(keyless=small_engine.url, guarded=engine.url)
    with proxies.spillway(logs / "translating", policy) as running:
        yield running


@pytest.fixture(scope="module")
def http(translating: Spillway) -> Iterator[httpx.Client]:
    with client(translating.url, proxies.KEY) as opened:
        yield opened


def test_chat_is_answered_by_a_messages_server(http: httpx.Client, direct: httpx.Client) -> None:
    expected = direct.post("/chat/completions", json=chat()).json()
    seen = http.post("/chat/completions", json=chat(model="to-messages"))
    assert seen.status_code == 200, seen.text
    body = seen.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == expected["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "length"
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert body["usage"][count] == expected["usage"][count]


def test_chat_streams_from_a_messages_server(http: httpx.Client, translating: Spillway) -> None:
    whole = http.post("/chat/completions", json=chat(model="to-messages")).json()
    reply = http.post("/chat/completions", json=chat(model="to-messages", stream=True))
    *chunks, done = [event["data"] for event in events(reply.content)]
    assert done == "[DONE]"
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"]["role"] == "assistant"
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert [choice["finish_reason"] for choice in choices if choice.get("finish_reason")] == ["length"]
    attempt = translating.record_of(reply.headers["x-request-id"])["attempts"][0]
    assert (attempt["input_tokens"], attempt["output_tokens"]) == (
        whole["usage"]["prompt_tokens"],
        whole["usage"]["completion_tokens"],
    )
    assert not attempt["estimated"]


def test_chat_stream_reports_usage_when_asked(http: httpx.Client) -> None:
    body = chat(model="to-messages", stream=True, stream_options={"include_usage": True})
    chunks = [event["data"] for event in events(http.post("/chat/completions", json=body).content)][:-1]
    reported = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert [usage["completion_tokens"] for usage in reported] == [8]
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tool_call_comes_back_from_a_messages_server(stream: bool, http: httpx.Client) -> None:
    tool_choice = {"type": "function", "function": {"name": "note"}}
    body = chat(**OPENAI_TOOLS | {"model": "to-messages", "tool_choice": tool_choice, "stream": stream})
    reply = http.post("/chat/completions", json=body)
    if stream:
        choices = [event["data"]["choices"][0] for event in events(reply.content) if event["data"] != "[DONE]"]
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or []]
        name, arguments = calls[0]["function"]["name"], "".join(call["function"]["arguments"] or "" for call in calls)
    else:
        (call,) = reply.json()["choices"][0]["message"]["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    assert name == "note"
    assert isinstance(json.loads(arguments)["known"], bool)


def test_messages_is_answered_by_a_chat_server(http: httpx.Client, direct: httpx.Client) -> None:
    expected = direct.post("/messages", json=messages()).json()
    seen = http.post("/messages", json=messages(model="to-chat"))
    assert seen.status_code == 200, seen.text
    body = seen.json()
    assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", "max_tokens")
    assert [block["text"] for block in body["content"]] == [block["text"] for block in expected["content"]]
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (
        expected["usage"]["input_tokens"],
        expected["usage"]["output_tokens"],
    )


def test_messages_streams_from_a_chat_server(http: httpx.Client) -> None:
    whole = http.post("/messages", json=messages(model="to-chat")).json()
    stream = events(http.post("/messages", json=messages(model="to-chat", stream=True)).content)
    names = [event["event"] for event in stream]
    assert (names[0], names[1], names[-1]) == ("message_start", "content_block_start", "message_stop")
    assert all(event["event"] == event["data"]["type"] for event in stream)
    deltas = [event["data"]["delta"] for event in stream if event["event"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == whole["content"][0]["text"]
    (last,) = [event["data"] for event in stream if event["event"] == "message_delta"]
    assert (last["delta"]["stop_reason"], last["usage"]["output_tokens"]) == ("max_tokens", 8)


def test_tool_use_comes_back_from_a_chat_server(http: httpx.Client) -> None:
    body = http.post("/messages", json=messages(**ANTHROPIC_TOOLS | {"model": "to-chat"})).json()
    (block,) = [block for block in body["content"] if block["type"] == "tool_use"]
    assert block["name"] == "note"
    assert isinstance(block["input"]["known"], bool)


def test_native_messages_need_no_translation(http: httpx.Client, direct: httpx.Client) -> None:
    seen = http.post("/messages", json=messages(model="to-messages")).json()
    assert seen["content"] == direct.post("/messages", json=messages()).json()["content"]


def test_refusal_is_translated_too(http: httpx.Client) -> None:
    reply = http.post("/chat/completions", json=chat(model="to-messages", max_tokens=100_000))
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert "max_model_len" in error["message"]
    assert {"message", "type", "param", "code"} <= error.keys()


def test_counting_tokens_is_free(http: httpx.Client, translating: Spillway) -> None:
    reply = http.post("/messages/count_tokens", json={"model": "to-messages", "messages": MESSAGES})
    assert reply.json()["input_tokens"] == 7
    attempt = translating.record_of(reply.headers["x-request-id"])["attempts"][0]
    assert (attempt["input_tokens"], attempt["output_tokens"], attempt["nano_usd"]) == (0, 0, 0)
