"""Break-even: the figures of the economics report, and what never pays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.advisor.breakeven import HOURS_A_MONTH, Mean, break_even
from proxy.advisor.demand import request_sums, work_rates
from proxy.policy.engine_profiles import PROFILES
from tests.advisor.weeks import OFFER, np_tokens

H200 = replace(OFFER, profile=PROFILES["70b-fp8-1xh200"], usd_per_hour=3.50)


def mean(into: int, out: int, usd_in: float, usd_out: float, offer=OFFER) -> Mean:  # type: ignore[no-untyped-def]
    work_s = float((request_sums(*np_tokens(into, out)) @ work_rates(offer.profile))[0])
    return Mean(input_tokens=into, output_tokens=out, work_s=work_s, usd=(into * usd_in + out * usd_out) / 1e6)


def test_capacity_is_what_the_fixed_part_of_a_step_leaves() -> None:
    assert OFFER.capacity == pytest.approx(0.68)
    assert replace(OFFER, itl_s=0.01).capacity == 0.0


@pytest.mark.parametrize(
    ("into", "out", "price", "utilisation"),
    [
        (1155, 211, (0.72, 0.72), 0.27),
        (1155, 211, (0.23, 0.40), 0.77),
        (1155, 211, (0.13, 0.40), 1.14),
        (1155, 211, (0.10, 0.32), 1.47),
        (962, 96, (1.04, 1.04), 0.18),
    ],
)
def test_the_table_of_the_report_on_two_h100(
    into: int, out: int, price: tuple[float, float], utilisation: float
) -> None:
    found = break_even(OFFER, mean(into, out, *price))
    assert found.utilisation == pytest.approx(utilisation, rel=0.1)  # theirs is of all requests, not of the mean one
    assert found.ever == (utilisation < 1)


def test_volumes_of_the_report() -> None:
    found = break_even(OFFER, mean(1155, 211, 0.72, 0.72))
    assert found.full_requests_per_s == pytest.approx(6.2, rel=0.02)
    assert found.requests_per_s == pytest.approx(1.7, rel=0.02)
    assert found.tokens_per_month == pytest.approx(6.1e9, rel=0.02)
    assert found.usd_per_mtok == pytest.approx(0.197, rel=0.02)


def test_the_smaller_replica_halves_the_volume_that_is_needed() -> None:
    large = break_even(OFFER, mean(1155, 211, 0.72, 0.72))
    small = break_even(H200, mean(1155, 211, 0.72, 0.72, H200))
    assert small.requests_per_s == pytest.approx(1.0, rel=0.03)
    assert small.requests_per_s < 0.6 * large.requests_per_s


def test_a_replica_at_break_even_costs_what_shared_tokens_cost() -> None:
    chat = mean(1155, 211, 0.72, 0.72)
    found = break_even(OFFER, chat)
    assert found.requests_per_s * chat.usd * 3600 * HOURS_A_MONTH == pytest.approx(OFFER.usd_per_hour * HOURS_A_MONTH)


def test_what_costs_nothing_elsewhere_never_pays() -> None:
    found = break_even(OFFER, Mean(input_tokens=0, output_tokens=0, work_s=0, usd=0))
    assert not found.ever
    assert found.requests_per_s == float("inf")
