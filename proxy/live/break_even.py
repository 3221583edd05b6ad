"""What a million tokens cost on the dedicated targets together, and what the same tokens cost at shared prices.

Theory of operation
-------------------
The second is the break-even line: while the first is below it, the GPUs pay. Only targets of which both are known are
in either, so that the two always speak of the same tokens; weighted by tokens, not by target.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.meters.money import TOKENS_PER_MTOK
from proxy.meters.report import Period
from proxy.policy.model import Lane


class BreakEven(NamedTuple):
    """Nano-USD per million tokens; both None where no dedicated target can be compared."""

    dedicated: float | None = None
    shared: float | None = None


def break_even(period: Period | None) -> BreakEven:
    """Of one period."""
    tokens, own, shared = 0, 0, 0
    for row in () if period is None else period.targets:
        if row.lane is not Lane.DEDICATED or row.nano_usd is None or row.shared_nano_usd is None:
            continue
        tokens += row.input_tokens + row.output_tokens
        own += row.nano_usd
        shared += row.shared_nano_usd
    if not tokens:
        return BreakEven()
    return BreakEven(own * TOKENS_PER_MTOK / tokens, shared * TOKENS_PER_MTOK / tokens)
