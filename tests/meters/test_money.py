"""Dollars stay integers, and round once."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.money import divide_half_even, format_usd, nano_usd_per_mtok


@given(st.integers(), st.integers(min_value=1))
def test_division_is_to_the_nearest_integer_ties_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@pytest.mark.parametrize(
    ("usd_per_token", "nano_usd"),
    [(1.04e-06, 1_040_000_000), (3e-07, 300_000_000), (3.75e-08, 37_500_000), (0.0, 0), (0.00015, 150_000_000_000)],
)
def test_a_price_list_s_floats_are_taken_as_the_decimals_they_were_written_as(
    usd_per_token: float, nano_usd: int
) -> None:
    assert nano_usd_per_mtok(usd_per_token) == nano_usd


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "$0.00"),
        (1_234_500_000_000, "$1,234.50"),
        (880_000_000, "$0.880"),
        (123_456, "$0.000123"),
        (1, "$0.000000001"),
        (-2_500_000_000, "-$2.50"),
    ],
)
def test_formatting_keeps_three_digits_of_small_amounts(nano_usd: int, text: str) -> None:
    assert format_usd(nano_usd) == text


@given(st.integers(min_value=0, max_value=10**15), st.integers(min_value=0, max_value=9))
def test_formatting_rounds_half_to_even(nano_usd: int, places: int) -> None:
    rounded = Decimal(nano_usd).scaleb(-9).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    assert format_usd(nano_usd, places) == f"${rounded:,.{places}f}"
