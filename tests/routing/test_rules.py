"""Rules that depend on the request: the estimate of its price."""

from __future__ import annotations

import pytest
from proxy.policy.model import Price
from proxy.routing.rules import ASSUMED_OUTPUT_TOKENS, estimated_nano_usd
from tests.routing.policies import dedicated, facts, price, shared


@pytest.mark.parametrize(
    ("input_tokens", "max_output_tokens", "nano_usd"),
    [(0, 0, 0), (1, 0, 1_000), (1000, 500, 1_500_000), (10, None, (10 + ASSUMED_OUTPUT_TOKENS) * 1_000)],
)
def test_a_request_is_estimated_at_its_longest(input_tokens: int, max_output_tokens: int | None, nano_usd: int) -> None:
    asked = facts(input_tokens=input_tokens, max_output_tokens=max_output_tokens)
    assert estimated_nano_usd(shared(price=price(1)), asked) == nano_usd


def test_an_estimate_is_rounded_up() -> None:
    tiny = Price(input_nano_usd_per_mtok=1, output_nano_usd_per_mtok=1)
    assert estimated_nano_usd(shared(price=tiny), facts(input_tokens=1, max_output_tokens=0)) == 1


def test_a_dedicated_slot_costs_nothing_more_and_an_unknown_price_is_unknown() -> None:
    assert estimated_nano_usd(dedicated(), facts(input_tokens=10**6)) == 0
    assert estimated_nano_usd(shared(), facts()) is None
