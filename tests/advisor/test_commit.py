"""Commitments: never for a replica that idles, at once when the fee was paid without one, later in between."""

from __future__ import annotations

from math import inf

import pytest
from proxy.advisor.commit import Terms, commitment
from proxy.advisor.sizing import Sizing, size
from proxy.advisor.value import mean_request, value_of
from tests.advisor.weeks import DEAR, OFFER, PROFILE, demand

ALWAYS = (4.0,) * 4


def sized(levels: tuple[float, ...], per_s: float) -> Sizing:
    of = demand(per_s, levels)
    return size(of, OFFER, mean_request(of, value_of(of, [[DEAR]]), PROFILE).usd_per_work_s, most=4)


def test_a_replica_that_is_always_needed_is_worth_its_commitment_but_not_yet() -> None:
    found = commitment(sized(ALWAYS, 0.5), 1, Terms(discount=0.3, months=1))
    assert found.worth
    assert not found.due
    assert found.fee_usd == pytest.approx(0.7 * 5.98 * 730)
    assert found.flexible_usd_per_hour == pytest.approx(5.98)
    assert found.due_after_hours == pytest.approx(found.fee_usd / found.flexible_usd_per_hour)


def test_the_rule_says_so_once_the_fee_was_paid_without_it() -> None:
    found = commitment(sized(ALWAYS, 0.5), 1, Terms(discount=0.3, months=0.05))
    assert found.due
    assert found.paid_usd >= found.fee_usd


def test_a_replica_that_mostly_idles_is_rented_by_the_hour() -> None:
    found = commitment(sized((0.4,) * 4, 0.2), 2, Terms())
    assert not found.worth
    assert found.flexible_usd_per_hour < found.committed_usd_per_hour


def test_without_any_use_it_is_never_due() -> None:
    found = commitment(sized((0.01,) * 3, 0.01), 4, Terms())
    assert (found.worth, found.due, found.due_after_hours) == (False, False, inf)
