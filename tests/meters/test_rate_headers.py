"""What a caller reads of its minute: the limit that will be reached first, as OpenAI's clients parse it."""

from __future__ import annotations

import pytest
from proxy.meters.contact import WHOLE, Contact
from proxy.meters.lease import Kind, Lease
from proxy.meters.rate_headers import go_duration, rate_headers


def lease(kind: Kind, limit: int, held: int, level: int = 0, elsewhere: int = 0) -> Lease:
    contact = Contact(1, 0.0)
    contact.answered(1, WHOLE, 1, away=False, sent_at=0.0, now=0.0)
    one = Lease("x", kind, limit, contact, enforced=True, now=0.0)
    one.ask(0.0, spare=False)
    one.told(held, level, elsewhere)
    return one


def test_the_tightest_scope_is_told_for_requests_and_tokens_each() -> None:
    tenant = lease(Kind.REQUESTS, 600, 100, 20, 30), lease(Kind.TOKENS, 6000, 500)
    key = lease(Kind.REQUESTS, 60, 59), lease(Kind.TOKENS, 60_000, 60_000)
    assert dict(rate_headers([tenant[0], key[0]], [tenant[1], key[1]], 0.0)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"500",
        b"x-ratelimit-reset-tokens": b"55s",
    }
    assert dict(rate_headers([tenant[0]], [tenant[1]], 0.0))[b"x-ratelimit-remaining-requests"] == b"150"


def test_what_is_not_limited_is_not_told() -> None:
    assert rate_headers((), (), 0.0) == ()
    assert [name for name, _ in rate_headers((), [lease(Kind.TOKENS, 10, 10)], 0.0)] == [
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ]


def test_a_refusal_says_that_nothing_is_left_of_what_it_lacked() -> None:
    pair = [lease(Kind.REQUESTS, 60, 0, elsewhere=7)], [lease(Kind.TOKENS, 6000, 500)]
    told = dict(rate_headers(*pair, 0.0, refused_tokens=400))
    assert told[b"x-ratelimit-remaining-requests"] == b"0"
    assert told[b"x-ratelimit-reset-requests"] == b"1m0s"
    assert told[b"x-ratelimit-remaining-tokens"] == b"500"
    assert dict(rate_headers(*pair, 0.0, refused_tokens=501))[b"x-ratelimit-remaining-tokens"] == b"0"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, b"0s"),
        (1, b"1ms"),
        (120, b"120ms"),
        (1000, b"1s"),
        (8640, b"8.64s"),
        (59_999, b"59.999s"),
        (60_000, b"1m0s"),
        (90_951, b"1m30.951s"),
        (360_000, b"6m0s"),
        (3_600_000, b"1h0m0s"),
    ],
)
def test_durations_are_written_as_go_does(ms: int, text: bytes) -> None:
    assert go_duration(ms) == text
