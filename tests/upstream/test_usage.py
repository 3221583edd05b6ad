"""Token counts of every protocol, and counts that nobody should believe."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.routing.outcome import Usage
from proxy.upstream.usage import MAX_TOKENS, merge, read_usage

COUNT = st.none() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=3) | st.booleans() | st.just([])
NAMES = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
]
PARTS = ["cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"]
DETAILS = [
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
]
HOSTILE = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(NAMES, COUNT),
        **dict.fromkeys(
            DETAILS,
            COUNT | st.fixed_dictionaries({}, optional=dict.fromkeys(PARTS, COUNT)),
        ),
        "cache_creation": COUNT | st.fixed_dictionaries({}, optional={"ephemeral_1h_input_tokens": COUNT}),
        "service_tier": COUNT | st.text(),
    },
)


def read(usage: Any, **around: Any) -> Usage | None:
    return read_usage(json.dumps({**around, "usage": usage}))


REPORTS = {
    "vllm chat": (
        (
            b'{"id":"x","usage":{"prompt_tokens":7,"total_tokens":11,"completion_tokens":4,"prompt_tokens_details":null,'
            b'"completion_tokens_details":null},"prompt_logprobs":null}'
        ),
        Usage(input_tokens=7, output_tokens=4),
    ),
    "openai chat": (
        (
            b'{"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":'
            b'{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":256,'
            b'"accepted_prediction_tokens":0}}}'
        ),
        Usage(input_tokens=2006, output_tokens=300, cached_input_tokens=1920, reasoning_tokens=256),
    ),
    "embeddings": (b'{"usage":{"prompt_tokens":8,"total_tokens":8}}', Usage(input_tokens=8)),
    "responses": (
        (
            b'{"object":"response","usage":{"input_tokens":6,"input_tokens_details":{"cached_tokens":2,'
            b'"cache_write_tokens":0,"input_tokens_per_turn":[]},"output_tokens":3,'
            b'"output_tokens_details":{"reasoning_tokens":1,"tool_output_tokens":0},"total_tokens":9}}'
        ),
        Usage(input_tokens=6, output_tokens=3, cached_input_tokens=2, reasoning_tokens=1),
    ),
    "response.completed": (
        b'{"response":{"usage":{"input_tokens":6,"output_tokens":3}},"type":"response.completed"}',
        Usage(input_tokens=6, output_tokens=3),
    ),
    "anthropic, cached": (
        (
            b'{"type":"message","usage":{"input_tokens":10,"cache_creation_input_tokens":200,'
            b'"cache_read_input_tokens":3000,"output_tokens":42,"service_tier":"standard"}}'
        ),
        Usage(input_tokens=3210, output_tokens=42, cached_input_tokens=3000, cache_write_tokens=200),
    ),
    "anthropic, kept for an hour": (
        (
            b'{"type":"message","usage":{"input_tokens":10,"cache_creation_input_tokens":200,"cache_creation":'
            b'{"ephemeral_5m_input_tokens":50,"ephemeral_1h_input_tokens":150},"cache_read_input_tokens":0,'
            b'"output_tokens":42,"service_tier":"batch"}}'
        ),
        Usage(
            input_tokens=210,
            output_tokens=42,
            cache_write_tokens=200,
            cache_write_1h_tokens=150,
            service_tier="batch",
        ),
    ),
    "openai chat, heard and spoken": (
        (
            b'{"service_tier":"default","usage":{"prompt_tokens":120,"completion_tokens":300,"prompt_tokens_details":'
            b'{"cached_tokens":0,"audio_tokens":90},"completion_tokens_details":{"reasoning_tokens":0,'
            b'"audio_tokens":250}}}'
        ),
        Usage(input_tokens=120, output_tokens=300, audio_input_tokens=90, audio_output_tokens=250),
    ),
    "openai chat, priority": (
        b'{"usage":{"prompt_tokens":7,"completion_tokens":3},"service_tier":"priority"}',
        Usage(input_tokens=7, output_tokens=3, service_tier="priority"),
    ),
    "responses, flex and written": (
        (
            b'{"type":"response.completed","response":{"service_tier":"flex","usage":{"input_tokens":600,'
            b'"input_tokens_details":{"cached_tokens":100,"cache_write_tokens":400},"output_tokens":3}}}'
        ),
        Usage(input_tokens=600, output_tokens=3, cached_input_tokens=100, cache_write_tokens=400, service_tier="flex"),
    ),
    "message_start": (
        (
            b'{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_read_input_tokens":null,'
            b'"output_tokens":1}}}'
        ),
        Usage(input_tokens=25, output_tokens=1),
    ),
    "message_start, priority": (
        (
            b'{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_creation_input_tokens":8,'
            b'"output_tokens":1,"service_tier":"priority"}}}'
        ),
        Usage(input_tokens=33, output_tokens=1, cache_write_tokens=8, service_tier="priority"),
    ),
    "message_delta": (
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}',
        Usage(output_tokens=15),
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_each_protocols_report_is_read(name: str) -> None:
    document, expected = REPORTS[name]
    assert read_usage(document) == expected
    assert read_usage(document.decode()) == expected


@pytest.mark.parametrize("around", [{"message": "hi"}, {"response": "hi"}, {"message": None}, {"response": [1]}])
def test_members_that_mean_something_else_elsewhere_hide_nothing(around: dict[str, Any]) -> None:
    """`message` and `response` carry usage in events only."""
    assert read({"prompt_tokens": 7}, **around) == Usage(input_tokens=7)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[DONE]",
        b"[]",
        b"null",
        b'"usage"',
        b"{}",
        b'{"usage":null}',
        b'{"usage":{}}',
        b'{"usage":7}',
        b'{"usage":{"total_tokens":7}}',
        b'{"message":"no"}',
        b'{"message":{"usage":null}}',
        b'{"response":null}',
        b'{"usage":{"prompt_tokens":1}',
        b"\xff\xfe",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"usage":{"prompt_tokens":1}}',
        b'{"response":' * 100_000,
        b'{"response":{"response":{"usage":{"prompt_tokens":1}}}}',
    ],
)
def test_what_cannot_be_read_is_not_guessed(document: bytes) -> None:
    assert read_usage(document) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": 3, "completion_tokens": -1},
        {"prompt_tokens": "7", "completion_tokens": 3},
        {"prompt_tokens": 7.5, "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": MAX_TOKENS + 1},
        {"input_tokens": 10**30, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 10**12},
    ],
)
def test_absurd_counts_are_as_good_as_none(usage: dict[str, Any]) -> None:
    """The request is then metered by an estimate, which is marked as one."""
    assert read(usage) is None


def test_a_part_is_never_more_than_its_whole() -> None:
    got = read(
        {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "cache_creation": {"ephemeral_1h_input_tokens": 900},
            **dict.fromkeys(DETAILS, dict.fromkeys(PARTS, 900)),
        }
    )
    assert got == Usage(
        input_tokens=7,
        output_tokens=3,
        cached_input_tokens=7,
        cache_write_tokens=7,
        cache_write_1h_tokens=7,
        audio_input_tokens=7,
        audio_output_tokens=3,
        reasoning_tokens=3,
    )


@pytest.mark.parametrize("tier", [None, 7, ["flex"], {"a": 1}, "a b", "x" * 100, ""])
def test_a_tier_that_is_no_word_hides_no_count(tier: Any) -> None:
    assert read({"prompt_tokens": 7, "service_tier": tier}, service_tier=tier) == Usage(input_tokens=7)


@given(HOSTILE)
def test_whatever_an_upstream_claims_the_counts_are_sane(usage: dict[str, Any]) -> None:
    got = read(usage)
    if got is not None:
        assert 0 <= got.cached_input_tokens <= got.input_tokens <= MAX_TOKENS
        assert 0 <= got.cache_write_1h_tokens <= got.cache_write_tokens <= got.input_tokens
        assert 0 <= got.audio_input_tokens <= got.input_tokens
        assert 0 <= got.audio_output_tokens <= got.output_tokens
        assert 0 <= got.reasoning_tokens <= got.output_tokens <= MAX_TOKENS
        assert not got.estimated


def test_the_two_ends_of_an_anthropic_stream_add_up() -> None:
    start = Usage(
        input_tokens=25,
        output_tokens=1,
        cached_input_tokens=5,
        cache_write_tokens=4,
        cache_write_1h_tokens=3,
        audio_input_tokens=2,
        service_tier="priority",
    )
    assert merge(None, start) is start
    merged = merge(start, Usage(output_tokens=15, reasoning_tokens=2, audio_output_tokens=6))
    assert merged == Usage(
        input_tokens=25,
        output_tokens=15,
        cached_input_tokens=5,
        reasoning_tokens=2,
        cache_write_tokens=4,
        cache_write_1h_tokens=3,
        audio_input_tokens=2,
        audio_output_tokens=6,
        service_tier="priority",
    )
