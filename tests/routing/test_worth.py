"""A request is worth what it saves in a second of engine time, and stays away from engines that others pay more for."""

from __future__ import annotations

import pytest
from proxy.policy.engine_profile import ASSUMED
from proxy.routing.predict import Steps
from proxy.routing.readings import NO_OUTLOOK, Outlook
from proxy.routing.worth import density_nano_usd_per_s, worth_less
from tests.routing.policies import dedicated, facts, price

STEPS = Steps(dedicated("gpus", replicas=2, profile=ASSUMED))
ASKED = facts(input_tokens=1000, max_output_tokens=200)
PRICES = [price(1.0), None, price(0.2)]


def test_a_density_is_the_cheapest_price_for_each_second_of_work() -> None:
    found = density_nano_usd_per_s(STEPS, PRICES, ASKED, NO_OUTLOOK)
    assert found == pytest.approx(1200 * 0.2 * 1000 / STEPS.work_s(1000, 0, 200.0))


def test_a_cached_prompt_is_worth_more_for_it_takes_less_time() -> None:
    cached = Outlook(hits={"gpus": (0, 512)})
    found = density_nano_usd_per_s(STEPS, PRICES, ASKED, cached)
    assert found == pytest.approx(1200 * 0.2 * 1000 / STEPS.work_s(1000, 512, 200.0))
    whole = Outlook(hits={"gpus": (4096, 0)})
    assert density_nano_usd_per_s(STEPS, PRICES, ASKED, whole) == pytest.approx(
        1200 * 0.2 * 1000 / STEPS.work_s(1000, 999, 200.0)
    )


def test_what_is_below_the_bid_is_told_with_both_figures() -> None:
    density = density_nano_usd_per_s(STEPS, PRICES, ASKED, NO_OUTLOOK)
    assert density is not None
    assert worth_less(STEPS, PRICES, ASKED, Outlook(bid_nano_usd_per_s=density)) is None
    outbid = worth_less(STEPS, PRICES, ASKED, Outlook(bid_nano_usd_per_s=2 * density))
    assert outbid is not None
    usd_per_hour = density * 3600 / 1e9
    assert (outbid.target, outbid.rule, outbid.hard) == ("gpus", "bid", False)
    assert outbid.observed == f"worth ${usd_per_hour:.2f} an engine hour"
    assert outbid.limit == f"${2 * usd_per_hour:.2f} an engine hour"


def test_without_a_price_there_is_nothing_to_compare() -> None:
    assert density_nano_usd_per_s(STEPS, [None], ASKED, NO_OUTLOOK) is None
    assert worth_less(STEPS, [], ASKED, Outlook(bid_nano_usd_per_s=1e12)) is None
