"""What a breakdown of an upstream counts as, and what the caller reads of it."""

from __future__ import annotations

import pytest
from proxy.breakdowns import failure_of_break, refusal_of_breakdown
from proxy.policy.model import Endpoint, Target
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Cause

from tests.harness import dedicated, shared

GPU, API = dedicated("gpu"), shared("api")


def attempt(target: Target) -> Attempt:
    return Attempt(target=target, replica=0, model="up", ordinal=0, cause=Cause.PREFERRED, reason="test")


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.parametrize("target", [GPU, API], ids=["dedicated", "shared"])
def test_only_an_engine_that_announced_a_responses_stream_was_full(
    target: Target, endpoint: Endpoint, announced: bool
) -> None:
    full = target is GPU and endpoint is Endpoint.RESPONSES and announced
    found = failure_of_break(attempt(target), endpoint, announced=announced)
    assert found is (Failure.FULL if full else Failure.BROKEN)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure.CONNECT_TIMEOUT, 504, "upstream_timeout"),
        (Failure.FIRST_TOKEN_TIMEOUT, 504, "upstream_timeout"),
        (Failure.IDLE_TIMEOUT, 504, "upstream_timeout"),
        (Failure.TOTAL_TIMEOUT, 504, "upstream_timeout"),
        (Failure.BROKEN, 502, "upstream_stream_truncated"),
        (Failure.PROTOCOL, 502, "upstream_protocol"),
        (Failure.BUDGET, 429, "budget_exceeded"),
    ],
)
def test_what_the_caller_reads_of_it(failure: Failure, status: int, code: str) -> None:
    refusal = refusal_of_breakdown(attempt(GPU), failure, "died of it")
    assert (refusal.status, refusal.code) == (status, code)
    assert "`gpu`" in refusal.message


def test_a_break_that_means_full_reads_as_a_full_engine() -> None:
    refusal = refusal_of_breakdown(attempt(GPU), Failure.FULL, "the stream ended early")
    assert (refusal.status, refusal.code) == (503, "upstream_full")
    assert refusal.retry_after_s
