"""What is noted of an attempt when it begins: enough to charge it by estimate, should nothing more be heard of it."""

from __future__ import annotations

from typing import NamedTuple

from proxy.policy.model import Lane
from proxy.routing.plan import Attempt


class Begun(NamedTuple):
    """An attempt's note, apart from its series. `request` is 1 for a request's first attempt, `dedicated` for GPU time;
    prices are nano-USD per million tokens, 0 where there is none.
    """

    input_tokens: int
    request: int
    dedicated: int
    input_price: int
    output_price: int


def begun(attempt: Attempt, input_tokens: int) -> Begun:
    """The note of an attempt that begins."""
    target = attempt.target
    price = target.price
    return Begun(
        input_tokens,
        int(attempt.ordinal == 0),
        int(target.lane is Lane.DEDICATED),
        0 if price is None else price.input_nano_usd_per_mtok,
        0 if price is None else price.output_nano_usd_per_mtok,
    )
