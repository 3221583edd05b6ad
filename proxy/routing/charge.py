"""What one attempt cost, in the two kinds of money that there are."""

from __future__ import annotations

import msgspec

from proxy.policy.model import Lane
from proxy.routing.outcome import Usage


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt's bill. Dedicated tokens cost nothing at the margin: their GPUs are paid by the hour.

    `priced` is False when a shared target's price is unknown: `nano_usd` is then 0 for want of a figure, which is
    counted apart and never taken for free. `price_source` is `gpu-hours`, `policy`, `litellm <version>` or `unknown`.
    `work_us` is the engine time that the tokens took of a dedicated replica, in microseconds, by the model of
    `work`; 0 on a shared target. `estimated` says that no upstream confirmed the counts.
    """

    target: str
    lane: Lane
    nano_usd: int
    usage: Usage
    price_source: str
    priced: bool
    work_us: int = 0
    estimated: bool = False
