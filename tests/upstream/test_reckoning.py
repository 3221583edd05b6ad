"""The rule for what no upstream confirmed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.routing.outcome import Failure, Usage
from proxy.upstream.reckoning import Seen, TokensPerEvent, has_begun, is_credible, reckon

TOKENS = st.integers(0, 10**6)


def seen(**more: Any) -> Seen:
    return Seen(**{"target": "api", "input_tokens": 100, **more})


def reckoned(reported: Usage | None, **more: Any) -> Usage:
    return reckon(reported, seen(**more), TokensPerEvent())


TRUE = Usage(input_tokens=120, output_tokens=40, cached_input_tokens=64, reasoning_tokens=8, service_tier="flex")


def test_a_report_of_the_end_that_can_be_true_is_taken_as_it_is() -> None:
    assert reckoned(TRUE, events=32) is TRUE
    assert reckoned(TRUE, size_bytes=9000) is TRUE
    assert reckoned(TRUE, events=32, allowed_tokens=40) is TRUE


@pytest.mark.parametrize("failure", [Failure.CLIENT_LEFT, Failure.BROKEN])
def test_also_where_the_stream_ended_badly_after_it(failure: Failure) -> None:
    began = has_begun(200, failure, error_came_first=False)
    assert reckoned(TRUE, events=32, began=began) is TRUE


@pytest.mark.parametrize("reported", [None, Usage()], ids=["none", "all zero"])
def test_no_usage_is_estimated_from_what_passed(reported: Usage | None) -> None:
    assert reckoned(reported, events=7) == Usage(input_tokens=100, output_tokens=7, estimated=True)
    assert reckoned(reported, size_bytes=401) == Usage(input_tokens=100, output_tokens=101, estimated=True)
    assert reckoned(reported, size_bytes=401, allowed_tokens=60).output_tokens == 60
    assert reckoned(reported, size_bytes=401, generates=False) == Usage(input_tokens=100, estimated=True)


def test_a_cut_stream_costs_the_greater_of_what_was_reported_early_and_of_what_passed() -> None:
    """Anthropic tells the input at the start, with a first token of output."""
    start = Usage(input_tokens=3210, output_tokens=1, cached_input_tokens=3000, cache_write_tokens=200)
    cut = reckoned(start, events=500, is_final=False)
    assert cut == Usage(
        input_tokens=3210, output_tokens=500, cached_input_tokens=3000, cache_write_tokens=200, estimated=True
    )
    assert reckoned(Usage(input_tokens=50, output_tokens=30), events=9, is_final=False).output_tokens == 30


@pytest.mark.parametrize(
    ("reported", "more", "charged"),
    [
        (Usage(output_tokens=40), {"events": 32}, (100, 40)),
        (Usage(input_tokens=120, output_tokens=5), {"events": 32}, (120, 32)),
        (Usage(input_tokens=120), {"events": 1}, (120, 1)),
        (Usage(input_tokens=120), {"size_bytes": 8000}, (120, 2000)),
        (Usage(input_tokens=120, output_tokens=900), {"allowed_tokens": 300, "events": 250}, (120, 900)),
    ],
    ids=["no input", "fewer than half", "no output", "no output for kilobytes", "more than was allowed"],
)
def test_a_report_that_cannot_be_true_costs_the_greater_and_is_marked(
    reported: Usage, more: dict[str, Any], charged: tuple[int, int]
) -> None:
    assert not is_credible(reported, seen(**more))
    got = reckoned(reported, **more)
    assert (got.input_tokens, got.output_tokens, got.estimated) == (*charged, True)


@pytest.mark.parametrize(
    ("reported", "more"),
    [
        (Usage(input_tokens=120, output_tokens=1), {"events": 4}),
        (Usage(input_tokens=120, output_tokens=50), {"allowed_tokens": 1}),
        (Usage(input_tokens=120, output_tokens=9000, reasoning_tokens=8900), {"allowed_tokens": 100}),
        (Usage(input_tokens=120), {"size_bytes": 900_000, "allowed_tokens": 0}),
        (Usage(input_tokens=120), {"size_bytes": 900_000, "generates": False}),
        (Usage(input_tokens=120), {"size_bytes": 600}),
    ],
    ids=[
        "the frame of a stream",
        "a template",
        "reasoning beyond the limit",
        "scores of a prompt",
        "vectors",
        "refused",
    ],
)
def test_what_may_well_be_true_is_believed(reported: Usage, more: dict[str, Any]) -> None:
    assert reckoned(reported, **more) is reported


def test_what_never_began_cost_nothing_and_what_began_costs_its_input() -> None:
    assert reckoned(None, began=False) == Usage()
    assert reckoned(None) == Usage(input_tokens=100, estimated=True)
    assert reckoned(None, input_tokens=0).input_tokens == 1
    assert reckoned(Usage(input_tokens=70), began=False, is_final=False).input_tokens == 70


@pytest.mark.parametrize(
    ("status", "failure", "error_came_first", "began"),
    [
        (200, None, False, True),
        (200, Failure.BROKEN, False, True),
        (200, Failure.IDLE_TIMEOUT, False, True),
        (200, Failure.FULL, False, False),
        (200, Failure.FAULTED, True, False),
        (429, Failure.FULL, False, False),
        (500, Failure.FAULTED, False, False),
        (400, Failure.REJECTED, False, False),
        (None, Failure.CONNECT, False, False),
        (None, Failure.CONNECT_TIMEOUT, False, False),
        (None, Failure.BROKEN, False, False),
        (None, Failure.CLIENT_LEFT, False, True),
        (None, Failure.FIRST_TOKEN_TIMEOUT, False, True),
        (None, Failure.TOTAL_TIMEOUT, False, True),
        (None, Failure.SHUT_DOWN, False, True),
    ],
)
def test_who_is_taken_to_have_read_the_input(
    status: int | None, failure: Failure | None, error_came_first: bool, began: bool
) -> None:
    assert has_begun(status, failure, error_came_first=error_came_first) is began


@pytest.mark.parametrize(
    ("reported", "named", "asked", "charged"),
    [
        (Usage(service_tier="priority", input_tokens=1), "", "", "priority"),
        (None, "flex", "priority", "flex"),
        (None, "", "priority", "priority"),
        (None, "", "flex", ""),
    ],
)
def test_a_cheaper_tier_that_nobody_confirmed_is_not_reckoned_with(
    reported: Usage | None, named: str, asked: str, charged: str
) -> None:
    assert reckoned(reported, is_final=False, tier=named, asked_tier=asked).service_tier == charged


@given(st.none() | st.builds(Usage, input_tokens=TOKENS, output_tokens=TOKENS), TOKENS, TOKENS, st.booleans())
def test_once_begun_nothing_is_free_and_no_less_than_what_was_said_or_seen(
    reported: Usage | None, estimate: int, events: int, is_final: bool
) -> None:
    got = reckoned(reported, input_tokens=estimate, events=events, is_final=is_final)
    said = reported or Usage()
    assert got.input_tokens + got.output_tokens > 0
    assert got.input_tokens >= said.input_tokens
    assert got.output_tokens >= said.output_tokens
    assert got.estimated or (got is reported and is_final)
    assert not got.estimated or got.output_tokens >= events


def test_an_event_is_a_token_until_replies_have_told_otherwise() -> None:
    per_event = TokensPerEvent()
    assert per_event.tokens("api", 10) == 10
    for _ in range(50):
        per_event.observe("api", 20, 70)
    assert per_event.tokens("api", 10) == 35
    assert per_event.tokens("api", 1) == 4
    assert per_event.tokens("other", 10) == 10


def test_fewer_tokens_than_events_are_not_learned_from() -> None:
    per_event = TokensPerEvent()
    for _ in range(50):
        per_event.observe("api", 20, 15)
        per_event.observe("api", 0, 15)
    assert per_event.tokens("api", 10) == 10


def test_one_odd_reply_does_not_decide() -> None:
    per_event = TokensPerEvent()
    per_event.observe("api", 1, 60)
    assert per_event.tokens("api", 100) < 220
    for _ in range(30):
        per_event.observe("api", 50, 50)
    assert per_event.tokens("api", 100) <= 104


def test_estimates_go_by_what_was_learned_from_reports() -> None:
    per_event = TokensPerEvent()
    for _ in range(60):
        reckon(Usage(input_tokens=100, output_tokens=90), seen(events=30), per_event)
    cut = reckon(None, seen(events=10, is_final=False), per_event)
    assert cut.output_tokens == 30
    reckon(Usage(input_tokens=100, output_tokens=1), seen(events=300), per_event)
    assert per_event.tokens("api", 10) == 30
