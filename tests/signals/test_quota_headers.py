"""What providers write into their headers, and what they leave out or get wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.signals.quota_headers import (
    DEFAULT_PERIOD_S,
    INPUT_TOKENS,
    MAX_PERIOD_S,
    OUTPUT_TOKENS,
    REQUESTS,
    TOKENS,
    Told,
    read,
)

WALL = 1_795_352_058.0  # 2026-11-22 12:54:18 UTC

OPENAI = """
x-ratelimit-limit-requests: 10000
x-ratelimit-remaining-requests: 9999
x-ratelimit-reset-requests: 6ms
x-ratelimit-limit-tokens: 2000000
x-ratelimit-remaining-tokens: 1998977
x-ratelimit-reset-tokens: 30.5ms
"""
GROQ = """
retry-after: 2
x-ratelimit-limit-requests: 14400
x-ratelimit-limit-tokens: 18000
x-ratelimit-remaining-requests: 14370
x-ratelimit-remaining-tokens: 17997
x-ratelimit-reset-requests: 2m59.56s
x-ratelimit-reset-tokens: 7.66s
"""
ANTHROPIC = """
anthropic-ratelimit-requests-limit: 1000
anthropic-ratelimit-requests-remaining: 999
anthropic-ratelimit-requests-reset: 2026-11-22T12:54:21Z
anthropic-ratelimit-input-tokens-limit: 80000
anthropic-ratelimit-input-tokens-remaining: 79000
anthropic-ratelimit-input-tokens-reset: 2026-11-22T12:54:18.500Z
anthropic-ratelimit-output-tokens-limit: 16000
anthropic-ratelimit-output-tokens-remaining: 16000
anthropic-ratelimit-output-tokens-reset: 2026-11-22T12:54:18+00:00
anthropic-ratelimit-tokens-limit: 96000
anthropic-ratelimit-tokens-remaining: 95000
anthropic-ratelimit-tokens-reset: 2026-11-22T07:54:20.5-05:00
"""
OPENROUTER = """
x-ratelimit-limit: 20
x-ratelimit-remaining: 0
x-ratelimit-reset: 1795352060500
"""


def headers(text: str) -> list[tuple[bytes, bytes]]:
    rows = [row.partition(": ") for row in text.strip().splitlines()]
    return [(b"content-type", b"application/json"), *((name.encode(), value.encode()) for name, _, value in rows)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OPENAI, [(REQUESTS, 10000, 9999, 0.006), (TOKENS, 2_000_000, 1_998_977, 0.0305)]),
        (GROQ, [(REQUESTS, 14400, 14370, 179.56), (TOKENS, 18000, 17997, 7.66)]),
        (
            ANTHROPIC,
            [
                (REQUESTS, 1000, 999, 4.0),
                (INPUT_TOKENS, 80000, 79000, 0.5),
                (OUTPUT_TOKENS, 16000, 16000, 1.0),
                (TOKENS, 96000, 95000, 2.5),
            ],
        ),
        (OPENROUTER, [(REQUESTS, 20, 0, 2.5)]),
        ("server: x", []),
    ],
    ids=["openai", "groq", "anthropic", "openrouter", "nobody"],
)
def test_the_providers_own_headers_are_understood(text: str, told: list[tuple[int, int, int, float]]) -> None:
    found = read(headers(text), WALL)
    assert [(one.unit, one.limit, one.remaining) for one in found] == [row[:3] for row in told]
    assert [one.reset_in_s for one in found] == pytest.approx([row[3] for row in told])


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("12ms", 0.012),
        ("1s", 2.0),
        ("6m0s", 361.0),
        ("1h2m3.5s", 3723.5),
        ("0s", 1.0),
        ("59", 60.0),
        ("0.25", 0.25),
        ("1d", 86401.0),
        (str(int(WALL) + 30), 31.0),
        (str(int(WALL) - 30), 1.0),
        (str(int(WALL * 1000) + 1500), 1.5),
        ("2026-11-22T12:54:00Z", 0.0),
        ("2026-11-22T12:54:18", 1.0),
        ("", DEFAULT_PERIOD_S),
        ("soon", DEFAULT_PERIOD_S),
        ("-5", DEFAULT_PERIOD_S),
        ("-5s", DEFAULT_PERIOD_S),
        ("nan", DEFAULT_PERIOD_S),
        ("inf", DEFAULT_PERIOD_S),
        ("²", DEFAULT_PERIOD_S),
        ("99999999", DEFAULT_PERIOD_S),
        ("2999-01-01T00:00:00Z", DEFAULT_PERIOD_S),
    ],
)
def test_a_reset_comes_in_many_forms_and_is_never_taken_to_be_early(reset: str, seconds: float) -> None:
    text = f"x-ratelimit-limit-requests: 10\nx-ratelimit-remaining-requests: 1\nx-ratelimit-reset-requests: {reset}"
    rows = [(name, value.encode()) for name, value in zip(*_columns(text), strict=True)]
    (told,) = read(rows, WALL)
    assert told.reset_in_s == pytest.approx(seconds)


def _columns(text: str) -> tuple[list[bytes], list[str]]:
    rows = [row.partition(":") for row in text.splitlines()]
    return [name.encode() for name, _, _ in rows], [value.strip() for _, _, value in rows]


@pytest.mark.parametrize(
    ("limit", "remaining", "told"),
    [
        ("-1", "-1", None),
        ("0", "0", None),
        ("10", "-1", None),
        ("10", "many", None),
        ("10", "", None),
        ("1e3", "5", None),
        ("9" * 30, "5", None),
        ("10", "9" * 400, None),
        ("", "0", Told(REQUESTS, None, 0, 2.0)),
        ("", "5", Told(REQUESTS, None, 5, 2.0)),
        ("10", "12", Told(REQUESTS, 10, 12, 2.0)),
        ("10.0", "3.7", Told(REQUESTS, 10, 3, 2.0)),
    ],
)
def test_what_is_absent_malformed_or_absurd_tells_nothing(limit: str, remaining: str, told: Told | None) -> None:
    rows = [(b"x-ratelimit-reset-requests", b"1s")]
    rows += [(b"x-ratelimit-limit-requests", limit.encode())] if limit else []
    rows += [(b"x-ratelimit-remaining-requests", remaining.encode())] if remaining else []
    assert read(rows, WALL) == (() if told is None else (told,))


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in headers(OPENAI + ANTHROPIC)]), st.binary(max_size=40))))
def test_no_header_whatsoever_does_harm(rows: list[tuple[bytes, bytes]]) -> None:
    for told in read(rows, WALL):
        assert told.remaining >= 0
        assert told.limit is None or told.limit > 0
        assert 0 <= told.reset_in_s <= MAX_PERIOD_S
