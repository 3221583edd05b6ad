"""What one attempt costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.charge import charge_of, token_cost_nano_usd
from proxy.policy.model import Lane, Price
from proxy.routing.outcome import Usage
from tests.meters.examples import LLAMA, TOGETHER, outcome

tokens = st.integers(min_value=0, max_value=10**7)
prices = st.integers(min_value=0, max_value=10**12)


@given(tokens, tokens, prices, prices)
def test_kinds_of_token_are_summed_before_the_one_rounding(inputs: int, outputs: int, a: int, b: int) -> None:
    price = Price(input_nano_usd_per_mtok=a, output_nano_usd_per_mtok=b)
    usage = Usage(input_tokens=inputs, output_tokens=outputs)
    assert token_cost_nano_usd(usage, price) == round(Fraction(inputs * a + outputs * b, 10**6))


@given(tokens, tokens, prices, prices)
def test_cached_tokens_cost_their_own_price_and_never_turn_a_charge_into_a_credit(
    inputs: int, cached: int, full: int, reduced: int
) -> None:
    price = Price(
        input_nano_usd_per_mtok=full, output_nano_usd_per_mtok=0, cached_input_nano_usd_per_mtok=min(full, reduced)
    )
    cost = token_cost_nano_usd(Usage(input_tokens=inputs, cached_input_tokens=cached), price)
    hit = min(inputs, cached)
    assert cost == round(Fraction((inputs - hit) * full + hit * min(full, reduced), 10**6))
    assert cost >= 0


def test_cached_tokens_without_a_price_of_their_own_cost_as_input() -> None:
    price = Price(input_nano_usd_per_mtok=10**9, output_nano_usd_per_mtok=0)
    usage = Usage(input_tokens=1_000_000, cached_input_tokens=900_000)
    assert token_cost_nano_usd(usage, price) == 10**9


def test_a_shared_attempt_costs_its_tokens() -> None:
    charge = charge_of(outcome(TOGETHER, Usage(input_tokens=1_000_000, output_tokens=500_000)))
    assert (charge.nano_usd, charge.lane, charge.price_source, charge.priced) == (
        1_320_000_000,
        Lane.SHARED,
        "policy",
        True,
    )


def test_a_dedicated_attempt_costs_nothing_at_the_margin() -> None:
    charge = charge_of(outcome(LLAMA))
    assert (charge.nano_usd, charge.lane, charge.price_source, charge.priced) == (0, Lane.DEDICATED, "gpu-hours", True)


def test_tokens_without_a_known_price_are_not_silently_free() -> None:
    unpriced = replace(TOGETHER, price=None)
    charge = charge_of(outcome(unpriced))
    assert (charge.nano_usd, charge.price_source, charge.priced) == (0, "unknown", False)
    assert charge_of(outcome(unpriced, Usage())).priced
