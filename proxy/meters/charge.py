"""What one attempt cost.

Theory of operation
-------------------
A shared attempt costs its tokens at the target's price. A dedicated attempt costs nothing at the margin: its GPUs are
paid by the hour whether it runs or not, and `gpu_hours` accrues that. Tokens of a shared target whose price nobody
knows are not free: the charge says `priced=False`, and the ledger counts it apart.
"""

from __future__ import annotations

from proxy.meters.money import TOKENS_PER_MTOK, divide_half_even
from proxy.policy.model import Lane, Price
from proxy.routing.charge import Charge
from proxy.routing.outcome import Outcome, Usage

BY_THE_HOUR = "gpu-hours"
UNKNOWN = "unknown"


def token_cost_nano_usd(usage: Usage, price: Price) -> int:
    """The price of `usage`: all kinds of token summed first, rounded half to even once."""
    cached = usage.cached_input_tokens
    total = usage.input_tokens * price.input_nano_usd_per_mtok + usage.output_tokens * price.output_nano_usd_per_mtok
    if cached and price.cached_input_nano_usd_per_mtok is not None:
        # An upstream that reports more cached than prompt tokens must not turn the charge into a credit.
        discount = price.input_nano_usd_per_mtok - price.cached_input_nano_usd_per_mtok
        total -= min(cached, usage.input_tokens) * discount
    return divide_half_even(total, TOKENS_PER_MTOK)


def charge_of(outcome: Outcome) -> Charge:
    """The charge for one attempt, from its usage and the price that its target carries."""
    target = outcome.attempt.target
    usage = outcome.usage
    price = target.price
    if target.lane is Lane.DEDICATED:
        nano_usd, source, priced = 0, BY_THE_HOUR, True
    elif price is None:
        nano_usd, source, priced = 0, UNKNOWN, not (usage.input_tokens or usage.output_tokens)
    else:
        nano_usd, source, priced = token_cost_nano_usd(usage, price), price.source, True
    return Charge(
        target=target.name, lane=target.lane, nano_usd=nano_usd, usage=usage, price_source=source, priced=priced
    )
