"""Rules that depend on the request: the estimate of its price."""

from __future__ import annotations

import pytest
from proxy.policy.price import LongRates, Price, Tariff
from proxy.routing.rules import ASSUMED_OUTPUT_TOKENS, estimated_nano_usd
from tests.routing.policies import dedicated, facts, price, shared


@pytest.mark.parametrize(
    ("input_tokens", "max_output_tokens", "nano_usd"),
    [(0, 0, 0), (1, 0, 1_000), (1000, 500, 1_500_000), (10, None, (10 + ASSUMED_OUTPUT_TOKENS) * 1_000)],
)
def test_a_request_is_estimated_at_its_longest(input_tokens: int, max_output_tokens: int | None, nano_usd: int) -> None:
    asked = facts(input_tokens=input_tokens, max_output_tokens=max_output_tokens)
    assert estimated_nano_usd(shared(price=price(1)), asked) == nano_usd


def test_every_choice_may_be_as_long_as_the_limit_allows() -> None:
    asked = facts(input_tokens=1000, max_output_tokens=500, choices=4)
    assert estimated_nano_usd(shared(price=price(1)), asked) == 3_000_000


TIERED = Price(
    input_nano_usd_per_mtok=10**9,
    output_nano_usd_per_mtok=10**9,
    above=(LongRates(input_nano_usd_per_mtok=3 * 10**9, output_nano_usd_per_mtok=10**9, above_tokens=5000),),
    tiers={
        name: Tariff(input_nano_usd_per_mtok=rate, output_nano_usd_per_mtok=rate)
        for name, rate in (("flex", 5 * 10**8), ("priority", 2 * 10**9))
    },
)


@pytest.mark.parametrize(
    ("tier", "parameters", "input_tokens", "nano_usd"),
    [
        ("", {}, 1000, 1_000_000),
        ("priority", {}, 1000, 2_000_000),
        ("flex", {}, 1000, 1_000_000),
        ("", {"service_tier": "priority"}, 1000, 2_000_000),
        ("priority", {"service_tier": "default"}, 1000, 1_000_000),
        ("", {}, 6000, 18_000_000),
        ("priority", {}, 6000, 18_000_000),
    ],
)
def test_the_tier_and_the_length_are_reckoned_with_and_no_discount_is(
    tier: str, parameters: dict[str, str], input_tokens: int, nano_usd: int
) -> None:
    asked = facts(input_tokens=input_tokens, max_output_tokens=0, service_tier=tier)
    assert estimated_nano_usd(shared(price=TIERED, parameters=parameters), asked) == nano_usd


def test_an_estimate_is_rounded_up() -> None:
    tiny = Price(input_nano_usd_per_mtok=1, output_nano_usd_per_mtok=1)
    assert estimated_nano_usd(shared(price=tiny), facts(input_tokens=1, max_output_tokens=0)) == 1


def test_a_dedicated_slot_costs_nothing_more_and_an_unknown_price_is_unknown() -> None:
    assert estimated_nano_usd(dedicated(), facts(input_tokens=10**6)) == 0
    assert estimated_nano_usd(shared(), facts()) is None
