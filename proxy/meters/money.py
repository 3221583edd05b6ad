"""Dollars as integers.

Theory of operation
-------------------
All money is integer nano-USD (1e-9 dollar): a token at $0.0375 per million is 37.5 nano-USD, and sums of integers do
not depend on the order in which they are added. A price is nano-USD per *million* tokens, so a cost is tokens times
price, summed over the kinds of token, and divided by a million once, at the end, half to even. Binary floats never
hold money.
"""

from __future__ import annotations

from decimal import Decimal

NANO_PER_USD = 1_000_000_000
TOKENS_PER_MTOK = 1_000_000


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` as the nearest integer, ties to even; `denominator` is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def nano_usd_per_mtok(usd_per_token: float) -> int:
    """A price list's dollars per token as nano-USD per million tokens.

    JSON floats are read back through their shortest decimal form, which is what the list's author wrote; what is finer
    than a nano-USD per million tokens is rounded half to even.
    """
    return int((Decimal(repr(usd_per_token)) * (NANO_PER_USD * TOKENS_PER_MTOK)).to_integral_value())


def format_usd(nano_usd: int, places: int | None = None) -> str:
    """Dollars for people: `$1,234.50`, and as many decimals as three digits need below a dollar: `$0.000123`.

    `places` fixes the number of decimals.
    """
    usd = Decimal(nano_usd).scaleb(-9)
    if places is None:
        places = 2 if nano_usd == 0 or abs(usd) >= 1 else min(9, 2 - usd.adjusted())
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}${abs(usd):,.{places}f}"
