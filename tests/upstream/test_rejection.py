"""What an upstream's bad news means, and what the caller is told of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint
from proxy.routing.outcome import Failure
from proxy.upstream.base import Head
from proxy.upstream.rejection import failure_in_stream, failure_of, refusal_of, retry_after_s
from tests.harness import dedicated

GPU = dedicated("gpu", "http://gpu.internal/v1")
NOW = 1_795_352_058.0
VLLM_FULL = "The engine is currently busy and cannot accept new requests. Please try again later."
VLLM_TOO_LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens"
)


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        ((429, 503, 529), Failure.FULL),
        ((401, 403), Failure.CREDENTIALS),
        ((404,), Failure.MISSING),
        ((400, 402, 405, 410, 413, 415, 418, 422, 451, 499), Failure.REJECTED),
        ((300, 301, 302, 307, 308, 408, 409, 500, 501, 502, 504, 520, 599), Failure.FAULTED),
    ],
)
def test_every_status_is_some_kind_of_failure(statuses: tuple[int, ...], failure: Failure) -> None:
    assert {failure_of(status) for status in statuses} == {failure}


# in a stream

IN_STREAM: list[tuple[dict[str, Any], Failure]] = [
    ({"message": VLLM_FULL, "type": "Service Unavailable", "param": None, "code": 503}, Failure.FULL),
    ({"message": "slow down", "code": 429}, Failure.FULL),
    ({"type": "overloaded_error", "message": "Overloaded"}, Failure.FULL),
    ({"type": "rate_limit_error", "message": "Rate limited"}, Failure.FULL),
    ({"code": "rate_limit_exceeded", "message": "Rate limit reached"}, Failure.FULL),
    (
        {
            "type": "internal_error",
            "message": "2 validation errors for ChatCompletionStreamResponse\nmodel\n  Field required [type=missing, "
            "input_value={'error': {'message': 'Th...am': None, 'code': 503}}, input_type=dict]",
        },
        Failure.FULL,
    ),
    ({"message": "cuda out of memory", "code": 500}, Failure.FAULTED),
    ({"code": "server_error", "message": "gone"}, Failure.FAULTED),
    ({"message": None}, Failure.FAULTED),
    ({"code": [503], "type": {"a": 1}}, Failure.FAULTED),
    ({}, Failure.FAULTED),
]


@pytest.mark.parametrize(("error", "failure"), IN_STREAM)
def test_an_error_event_is_full_or_a_fault(error: dict[str, Any], failure: Failure) -> None:
    assert failure_in_stream(error) is failure


# retry-after


def wished(*headers: tuple[bytes, bytes]) -> float | None:
    return retry_after_s(Head(429, list(headers)), NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"1.5", 1.5),
        (b"86400", 86_400.0),
        (b"86401", None),
        (b"9" * 400, None),
        (b"-1", None),
        (b"", None),
        (b".", None),
        (b"soon", None),
        (b"nan", None),
        (b"inf", None),
        (b"\xff", None),
        (b"1e3", None),
        (b"Sun, 99 Nov 2026 13:00:00 GMT", None),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", None),
        (formatdate(NOW + 30, usegmt=True).encode(), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC)).encode(), 30.0),
        (formatdate(NOW + 30).encode(), 30.0),
        (b"Sun, 31 Dec 9999 23:59:59 GMT", None),
        (b"Mon, 01 Jan 0001 00:00:00 +2359", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value: bytes, seconds: float | None) -> None:
    assert wished((b"retry-after", value)) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"250", 0.25), (b"-250", None), (b"x", None), (b"nan", None), (b"inf", None)]
)
def test_milliseconds_are_preferred(value: bytes, seconds: float | None) -> None:
    assert wished((b"retry-after", b"7"), (b"retry-after-ms", value)) == seconds


def test_no_wish_is_none() -> None:
    assert wished((b"x-retry-after", b"7")) is None


@given(st.sampled_from([b"retry-after", b"retry-after-ms"]), st.binary() | st.text().map(str.encode), st.floats(0, 2e9))
@example(b"retry-after", b"Mon, 01 Jan 0001 00:00:00 -2359", 0.0)
def test_whatever_the_wish_it_is_a_day_at_most_or_ignored(name: bytes, value: bytes, now: float) -> None:
    seconds = retry_after_s(Head(503, [(name, value)]), now)
    assert seconds is None or 0 <= seconds <= 86_400


# what the caller is told


def told(status: int, body: Any = b"", endpoint: Endpoint = Endpoint.CHAT) -> Any:
    return refusal_of(GPU, endpoint, status, body if isinstance(body, bytes) else json.dumps(body).encode())


SECRET = {"error": {"message": "bad key sk-secret", "type": "sk-secret", "code": "sk-secret", "param": "sk-secret"}}


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (429, (429, "rate_limit_error", "rate_limit_exceeded")),
        (503, (503, "server_error", "upstream_full")),
        (529, (503, "server_error", "upstream_full")),
        (401, (502, "server_error", "upstream_credentials_rejected")),
        (403, (502, "server_error", "upstream_credentials_rejected")),
        (500, (502, "server_error", "upstream_error")),
        (307, (502, "server_error", "upstream_error")),
        (409, (502, "server_error", "upstream_error")),
    ],
)
@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_what_is_not_the_callers_fault_is_told_without_the_upstreams_words(
    status: int, answer: tuple[int, str, str], endpoint: Endpoint
) -> None:
    refusal = told(status, SECRET, endpoint)
    assert (refusal.status, refusal.type, refusal.code) == answer
    assert "sk-secret" not in repr(refusal)
    assert "`gpu`" in refusal.message
    assert refusal.verbatim is None
    assert (refusal.retry_after_s is not None) is (answer[0] != 502)


MINE = {
    "vllm": {"error": {"message": "temperature must be non-negative", "type": "BadRequestError", "code": 400}},
    "openai": {"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "bad_n"}},
}


@pytest.mark.parametrize("name", MINE)
def test_the_callers_own_mistake_is_passed_on_to_the_byte(name: str) -> None:
    body = json.dumps(MINE[name], indent=1).encode()
    refusal = told(400, body)
    assert (refusal.status, refusal.verbatim) == (400, body)


def test_each_protocols_caller_gets_its_own_shape() -> None:
    anthropic = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    openai = {"error": {"message": "no", "type": "Bad Request", "param": None, "code": 400}}
    for endpoint in Endpoint:
        speaks_anthropic = endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)
        assert (told(400, anthropic, endpoint).verbatim is not None) is speaks_anthropic
        assert (told(400, openai, endpoint).verbatim is None) is speaks_anthropic
        for body in (anthropic, openai):
            assert (told(400, body, endpoint).message, told(400, body, endpoint).status) == ("no", 400)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xff",
        {"detail": "Not Found"},
        {"error": None},
        {"error": {}},
        {"error": {"message": ""}},
        {"error": {"message": 7}},
        {"error": []},
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [400, 404, 405, 422])
def test_what_cannot_be_read_is_told_in_our_words(body: Any, status: int) -> None:
    refusal = told(status, body)
    assert refusal.status == status
    assert refusal.message == f"target `gpu` answered {status}" or refusal.verbatim is not None
    assert refusal.type == "invalid_request_error"


@pytest.mark.parametrize("body", [{"error": "prompt too long"}, {"message": "prompt too long", "code": 400}])
def test_other_servers_shapes_are_understood(body: Any) -> None:
    """TGI and llama.cpp, and vLLM before its errors had an envelope."""
    refusal = told(400, body)
    assert (refusal.message, refusal.code, refusal.verbatim) == ("prompt too long", "invalid_request", None)


def test_a_python_exceptions_name_is_no_error_type_and_a_number_no_code() -> None:
    body = {"type": "error", "error": {"type": "BadRequestError", "message": "no", "code": 400, "param": 7}}
    refusal = told(400, body)
    assert (refusal.type, refusal.code, refusal.param) == ("invalid_request_error", "invalid_request", None)


def test_a_prompt_too_long_has_openais_code_for_it() -> None:
    body = {"error": {"message": VLLM_TOO_LONG, "type": "BadRequestError", "code": 400}}
    assert told(400, body).code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "model_not_found"),
        (413, "request_too_large"),
        (415, "unsupported_media_type"),
        (422, "unprocessable_entity"),
    ],
)
def test_a_status_has_its_code(status: int, code: str) -> None:
    assert told(status, {"detail": "no"}).code == code
