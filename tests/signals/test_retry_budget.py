"""Retries stay a tenth of the requests, with a floor for quiet times."""

from __future__ import annotations

import pytest
from proxy.signals.retry_budget import FLOOR_PER_S, MEMORY_S, RetryBudget

REST = int(FLOOR_PER_S * MEMORY_S)


def drained(budget: RetryBudget, now: float) -> int:
    """How many withdrawals succeed at once."""
    granted = 0
    while budget.withdraw(now):
        granted += 1
    return granted


def test_at_rest_it_grants_the_floor_and_then_refuses() -> None:
    budget = RetryBudget(0.0)
    assert drained(budget, 0.0) == REST
    assert budget.exhausted == 1


def test_time_refills_the_floor_and_no_more() -> None:
    budget = RetryBudget(0.0)
    drained(budget, 0.0)
    assert drained(budget, 1.0) == pytest.approx(FLOOR_PER_S, abs=1)
    assert drained(budget, 10_000.0) == pytest.approx(REST, abs=1)


def test_requests_earn_a_tenth_of_a_retry_each() -> None:
    budget = RetryBudget(0.0)
    drained(budget, 0.0)
    for _ in range(1000):
        budget.deposit(0.0)
    assert drained(budget, 0.0) == pytest.approx(100, abs=1)


def test_what_was_earned_fades() -> None:
    budget = RetryBudget(0.0)
    for _ in range(10_000):
        budget.deposit(0.0)
    assert drained(budget, 6 * MEMORY_S) < REST + 5


@pytest.mark.parametrize("requests_per_s", [1, 50, 1000])
def test_a_total_outage_is_retried_by_a_tenth_plus_the_floor(requests_per_s: int) -> None:
    """Every request fails for five minutes; what is granted beyond the first burst is bounded by share and floor."""
    budget, granted, seconds = RetryBudget(0.0), 0, 300
    for index in range(requests_per_s * seconds):
        now = index / requests_per_s
        budget.deposit(now)
        granted += budget.withdraw(now)
    allowed = (0.1 * requests_per_s + FLOOR_PER_S) * seconds
    assert granted <= allowed + REST
    assert granted >= min(0.9 * allowed, requests_per_s * seconds)


def test_a_clock_read_a_little_late_does_no_harm() -> None:
    budget = RetryBudget(100.0)
    drained(budget, 100.0)
    assert not budget.withdraw(99.0)
