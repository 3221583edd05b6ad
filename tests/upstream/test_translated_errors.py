"""A provider's errors in the caller's protocol, without secrets."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Lane, Secret, Target
from proxy.upstream.translated_errors import (
    MAX_MESSAGE_CHARS,
    Scrubber,
    error_event,
    error_in_stream,
    error_object,
    message_in,
)

KEY = "abcd.EFGH/odd+key=shape"
TARGET = Target(
    name="t", lane=Lane.SHARED, model="m", region="us", urls=("https://private.example:8443/v1",), api_key=Secret(KEY)
)


@given(st.text(), st.text())
def test_the_targets_secrets_never_get_through(before: str, after: str) -> None:
    for secret in (KEY, "https://private.example:8443/v1", "private.example:8443"):
        assert secret not in Scrubber(TARGET).clean(before + secret + after)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcdefghijklmnop1234",
        "GET https://generativelanguage.example/v1?key=AIzaSyA0123456789abcdef failed",
        "bad header Authorization: Bearer eyJhbGciOi.abc-def",
        "key AKIAIOSFODNN7EXAMPLE is not authorised",
    ],
)
def test_what_looks_like_a_key_or_a_url_is_blanked(text: str) -> None:
    cleaned = Scrubber(Target(name="t", lane=Lane.SHARED, model="m", region="us")).clean(text)
    assert "***" in cleaned
    assert not any(part in cleaned for part in ("abcdefghijklmnop1234", "AIzaSy", "eyJhb", "IOSFODNN7", "https://"))


def test_ordinary_words_are_left_alone() -> None:
    text = "This model's maximum context length is 8192 tokens; task-force, risk-averse, key facts"
    assert Scrubber(TARGET).clean(text) == text


def test_messages_are_bounded() -> None:
    assert len(Scrubber(TARGET).clean("x" * 10_000)) == MAX_MESSAGE_CHARS


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "openai", "type": "t"}}, "openai"),
        ({"type": "error", "error": {"type": "t", "message": "anthropic"}}, "anthropic"),
        ([{"error": {"code": 400, "message": "google"}}], "google"),
        ({"message": "aws"}, "aws"),
        ({"Message": "aws again"}, "aws again"),
        ({"object": "error", "message": "vllm"}, "vllm"),
        ({"error": "ollama"}, "ollama"),
        ({"detail": [{"loc": ["body"], "msg": "fastapi"}]}, "fastapi"),
        ({}, ""),
        ([], ""),
        (7, ""),
    ],
)
def test_the_message_is_found_wherever_providers_put_it(body: Any, message: str) -> None:
    assert message_in(orjson.dumps(body)) == message


def test_plain_text_is_a_message_and_a_page_is_not() -> None:
    assert message_in(b"upstream connect error\n") == "upstream connect error"
    assert message_in(b" <html><body>502 Bad Gateway") == ""


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (529, "server_error", "overloaded_error"),
    ],
)
def test_each_protocol_has_its_own_names(status: int, openai: str, anthropic: str) -> None:
    assert error_object(Endpoint.CHAT, status, "no")["error"]["type"] == openai
    body = error_object(Endpoint.MESSAGES, status, "no")
    assert body == {"type": "error", "error": {"type": anthropic, "message": "no"}}


@pytest.mark.parametrize("text", ["maximum context length is 8", "prompt is too long: 9 tokens > 8 maximum"])
def test_a_prompt_that_is_too_long_has_openais_code(text: str) -> None:
    assert error_object(Endpoint.CHAT, 400, text)["error"]["code"] == "context_length_exceeded"


def test_error_events_are_those_that_the_sdks_raise_on() -> None:
    assert error_event(Endpoint.CHAT, 500, "no").startswith(b'data: {"error":{"message":"no"')
    assert error_event(Endpoint.MESSAGES, 529, "no").startswith(b'event: error\ndata: {"type":"error","error":')
    assert error_event(Endpoint.RESPONSES, 500, "no").startswith(b'event: error\ndata: {"type":"error","code":')


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, (529, "busy")),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, (429, "slow")),
        ({"error": {"message": "no", "code": 503}}, (503, "no")),
        ({"error": {"message": "no", "code": "400"}}, (400, "no")),
        ({"error": {"message": "no", "code": "weird"}}, (500, "no")),
        ({"error": "no"}, (500, "no")),
        ({"error": None}, None),
        ({"choices": []}, None),
    ],
)
def test_an_error_event_has_a_status(event: Any, found: tuple[int, str] | None) -> None:
    piece = b"data: {}\n\nevent: x\ndata: " + orjson.dumps(event) + b"\n\n"
    assert error_in_stream(piece) == found
    assert error_in_stream(b'data: {"error"') is None
