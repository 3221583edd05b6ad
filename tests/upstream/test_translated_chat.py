"""Replies in exactly OpenAI's shape, from what LiteLLM dumps."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from proxy.upstream import translated_chat as chat
from proxy.upstream.usage import read_usage

DUMP: dict[str, Any] = {"id": "chatcmpl-1", "created": 7, "model": "m", "object": "chat.completion"}


def whole(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return DUMP | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]} | more


def piece(delta: dict[str, Any], finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta} | ({"finish_reason": finish_reason} if finish_reason else {})
    return DUMP | {"choices": [choice]}


def test_what_litellm_adds_is_left_out() -> None:
    message = {
        "role": "assistant",
        "content": "x",
        "provider_specific_fields": {"citations": []},
        "tool_calls": [{"index": 2, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cache_read_input_tokens": 0, "speed": "x"}
    shaped = chat.completion(whole(message, usage=usage, moderation={}))
    assert shaped == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "x",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def test_a_message_without_text_says_null() -> None:
    assert chat.completion(whole({"role": "assistant"}))["choices"][0]["message"]["content"] is None


def test_a_usage_of_zeros_was_never_reported() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert "usage" not in chat.completion(whole({"content": "x"}, usage=zeros))


def test_usage_keeps_the_details_that_were_reported() -> None:
    found = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "text_tokens": 6, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 2, "text_tokens": 3},
    }
    assert chat.usage(found) == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_what_was_written_to_a_cache_for_an_hour_can_still_be_priced() -> None:
    writes = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 60}
    details = {"cache_write_tokens": 160, "cache_creation_token_details": writes}
    told = chat.usage({"prompt_tokens": 200, "completion_tokens": 5, "prompt_tokens_details": details})
    assert told["cache_creation"] == writes
    usage = read_usage(orjson.dumps({"usage": told}))
    assert usage is not None
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (160, 60)


@pytest.mark.parametrize("delta", [{}, {"content": ""}, {"reasoning_content": ""}, {"provider_specific_fields": {}}])
def test_a_chunk_that_says_nothing_is_dropped(delta: dict[str, Any]) -> None:
    assert chat.chunk(piece(delta)) is None


def test_the_first_chunk_may_have_empty_content() -> None:
    shaped = chat.chunk(piece({"role": "assistant", "content": ""}))
    assert shaped is not None
    assert shaped["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]


def test_only_the_first_delta_of_a_tool_call_has_an_id_and_a_type() -> None:
    first = {"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    later = {"index": 1, "type": "function", "function": {"arguments": "{"}}
    shaped = [chat.chunk(piece({"tool_calls": [call], "content": ""})) for call in (first, later)]
    deltas = [chunk["choices"][0]["delta"] for chunk in shaped if chunk is not None]
    assert deltas == [{"tool_calls": [first]}, {"tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}]


def test_log_probabilities_survive() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1}]}
    dump = piece({"content": "x"})
    dump["choices"][0]["logprobs"] = logprobs
    shaped = chat.chunk(dump)
    assert shaped is not None
    assert shaped["choices"][0]["logprobs"] == logprobs


def test_a_stream_ends_with_its_usage_and_done() -> None:
    last = chat.chunk(piece({}, "stop"))
    assert last is not None
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    event, done = chat.ChatStream().finish(last, usage).strip().split(b"\n\n")
    assert done == b"data: [DONE]"
    body = orjson.loads(event.removeprefix(b"data: "))
    assert (body["choices"], body["usage"]) == ([], usage)
    assert chat.ChatStream().finish(last, None) == b"data: [DONE]\n\n"


def test_a_text_stream_has_text_and_no_roles() -> None:
    stream = chat.TextStream()
    role, text, end = (
        chat.chunk(piece({"role": "assistant", "content": ""})),
        chat.chunk(piece({"content": "x"})),
        chat.chunk(piece({}, "length")),
    )
    assert role is not None
    assert text is not None
    assert end is not None
    assert stream.feed(role) == b""
    body = orjson.loads(stream.feed(text).removeprefix(b"data: "))
    assert (body["id"], body["object"]) == ("cmpl-1", "text_completion")
    assert body["choices"] == [{"index": 0, "text": "x", "logprobs": None, "finish_reason": None}]
    assert orjson.loads(stream.feed(end).removeprefix(b"data: "))["choices"][0]["finish_reason"] == "length"


def test_embeddings_come_as_they_were_asked_for() -> None:
    packed = chat.embeddings({"data": [{"embedding": [1.0]}], "model": "m"}, as_base64=True)
    assert packed["data"][0]["embedding"] == "AACAPw=="
    given = {"data": [{"embedding": "AACAPw=="}], "model": "m"}
    assert chat.embeddings(given, as_base64=True)["data"][0]["embedding"] == "AACAPw=="
    assert chat.embeddings(given, as_base64=False)["data"][0]["embedding"] == [1.0]
