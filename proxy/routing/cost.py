"""What tokens cost at a price: one sum, used before a request is sent, while it streams, and when it is charged.

Theory of operation
-------------------
Prices are nano-USD per million tokens, so a cost is tokens times price, summed over the kinds of token and divided by a
million once, at the end, half to even.
"""

from __future__ import annotations

from proxy.policy.model import Price
from proxy.routing.outcome import Usage

TOKENS_PER_MTOK = 1_000_000


def cost_nano_usd(price: Price, usage: Usage) -> int:
    """The price of `usage` in nano-USD."""
    cached = usage.cached_input_tokens
    total = usage.input_tokens * price.input_nano_usd_per_mtok + usage.output_tokens * price.output_nano_usd_per_mtok
    if cached and price.cached_input_nano_usd_per_mtok is not None:
        # An upstream that reports more cached than prompt tokens must not turn the charge into a credit.
        discount = price.input_nano_usd_per_mtok - price.cached_input_nano_usd_per_mtok
        total -= min(cached, usage.input_tokens) * discount
    quotient, remainder = divmod(total, TOKENS_PER_MTOK)
    twice = 2 * remainder
    return quotient + (twice > TOKENS_PER_MTOK or (twice == TOKENS_PER_MTOK and quotient & 1))
