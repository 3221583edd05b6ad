"""What vLLM answers reaches the client as vLLM wrote it."""

import re
from typing import Any

import httpx
import pytest

from tests.engine.asks import (
    ANTHROPIC_TOOLS,
    GENERATING,
    MESSAGES,
    OPENAI_TOOLS,
    RESPONSES_TOOLS,
    SCHEMA,
    chat,
    completion,
    messages,
    responses,
)
from tests.engine.replies import differences, events, normalised
from tests.engine.spillway import Spillway

NEW_EACH_TIME = re.compile(rb'"(id|call_id)":"(chatcmpl|cmpl|resp|msg|fc|chatcmpl-tool)[-_][^"]*"|"created(_at)?":\d+')

REPLIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", chat()),
    "chat with logprobs": ("/chat/completions", chat(logprobs=True, top_logprobs=3)),
    "two choices": ("/chat/completions", chat(n=2, seed=3, temperature=0.8)),
    "stop word": ("/chat/completions", chat(stop=["e"], max_tokens=60)),
    "tool call": ("/chat/completions", chat(**OPENAI_TOOLS)),
    "structured output": (
        "/chat/completions",
        chat(
            max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "known", "schema": SCHEMA}}
        ),
    ),
    "vLLM's own fields": (
        "/chat/completions",
        chat(top_k=1, min_tokens=8, ignore_eos=True, return_token_ids=True, prompt_logprobs=1),
    ),
    "vLLM's choice": ("/chat/completions", chat(structured_outputs={"choice": ["yes", "no"]})),
    "unknown field": ("/chat/completions", chat(unheard_of={"deep": [1, 2.5, None, "\u00e9\U0001f600"]})),
    "completion": ("/completions", completion(echo=True, logprobs=2)),
    "several prompts": ("/completions", completion(prompt=["One", "Two"])),
    "token ids as prompt": ("/completions", completion(prompt=[300, 301, 302])),
    "responses": ("/responses", responses()),
    "responses tool call": ("/responses", responses(**RESPONSES_TOOLS)),
    "messages": ("/messages", messages(system="Be brief.")),
    "messages tool call": ("/messages", messages(**ANTHROPIC_TOOLS)),
    "count tokens": ("/messages/count_tokens", {"model": "tiny", "messages": MESSAGES}),
}
STREAMS = {
    "chat": ("/chat/completions", chat()),
    "chat with usage": ("/chat/completions", chat(stream_options={"include_usage": True})),
    "chat with continuous usage": (
        "/chat/completions",
        chat(max_tokens=2, stream_options={"include_usage": True, "continuous_usage_stats": True}),
    ),
    "chat without usage": ("/chat/completions", chat(stream_options={"include_usage": False})),
    "chat with logprobs": ("/chat/completions", chat(logprobs=True, top_logprobs=2)),
    "one token": ("/chat/completions", chat(max_tokens=1)),
    "stop word": ("/chat/completions", chat(stop=["e"], max_tokens=60)),
    "tool call": ("/chat/completions", chat(**OPENAI_TOOLS)),
    "completion": ("/completions", completion()),
    "completion with usage": ("/completions", completion(stream_options={"include_usage": True})),
    "responses": ("/responses", responses()),
    "responses tool call": ("/responses", responses(**RESPONSES_TOOLS)),
    "messages": ("/messages", messages()),
    "messages tool call": ("/messages", messages(**ANTHROPIC_TOOLS)),
}


@pytest.mark.parametrize("name", REPLIES)
def test_reply_is_the_engines_to_the_byte(name: str, direct: httpx.Client, proxied: httpx.Client) -> None:
    path, body = REPLIES[name]
    expected, seen = direct.post(path, json=body), proxied.post(path, json=body)
    assert (seen.status_code, seen.headers["content-type"]) == (200, expected.headers["content-type"])
    assert NEW_EACH_TIME.sub(b"", seen.content) == NEW_EACH_TIME.sub(b"", expected.content)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_has_the_engines_events(name: str, direct: httpx.Client, proxied: httpx.Client) -> None:
    path, body = STREAMS[name]
    expected, seen = direct.post(path, json=body | {"stream": True}), proxied.post(path, json=body | {"stream": True})
    assert (seen.status_code, seen.headers["content-type"]) == (200, expected.headers["content-type"])
    wanted, got = normalised(events(expected.content)), normalised(events(seen.content))
    assert not list(differences(wanted, got))


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_reply_says_where_it_comes_from(path: str, stream: bool, proxied: httpx.Client) -> None:
    headers = proxied.post(path, json=GENERATING[path](stream=stream), headers={"x-request-id": "asked-1"}).headers
    assert headers["x-request-id"] == "asked-1"
    assert (headers["x-spillway-target"], headers["x-spillway-lane"]) == ("engine", "dedicated")
    assert (headers["x-spillway-route"], headers["x-spillway-attempts"]) == ("default", "1")
    assert headers["x-spillway-reason"]


def test_engine_never_sees_the_clients_key(proxied: httpx.Client, spillway: Spillway) -> None:
    """The engine asks for a key of its own, which the client does not have: only the proxy's works."""
    assert proxied.post("/completions", json=completion()).status_code == 200
    log = spillway.log.read_text()
    assert "sk-spillway-tests" not in log
    assert "engine-key" not in log
