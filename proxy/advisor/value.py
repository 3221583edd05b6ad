"""What demand would cost on shared targets, for each app on the cheapest one that it may use.

Theory of operation
-------------------
Only what is lawful has a price: an app whose prompts must not leave a region is worth what the providers of that region
charge, however cheap others are. Where an app may use none it is *captive*: it has no price, and its work must be
served by GPUs whatever they cost.

A price is linear in the sums that demand keeps, but for what a list charges for long prompts, service tiers and writes
to caches: those are left out here, and so a bill with many of them is a little higher than is reckoned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.breakeven import Mean
from proxy.advisor.demand import SUMS, Demand
from proxy.policy.engine_profile import EngineProfile
from proxy.policy.price import Rates

NANO_USD_AND_MTOK = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A shared target's name, its provider, and what it charges."""

    target: str
    provider: str
    price: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a demand is worth. `usd` is the price of each hour and app, `chosen` the target that it is the price of."""

    usd: NDArray[np.float64]
    chosen: tuple[Shared | None, ...]

    @property
    def captive(self) -> NDArray[np.bool_]:
        """Which apps may use no shared target at all."""
        return np.array([one is None for one in self.chosen], dtype=np.bool_)

    def scaled(self, factor: float) -> Value:
        """The same at other prices."""
        return Value(usd=self.usd * factor, chosen=self.chosen)


def price_rates(price: Rates) -> NDArray[np.float64]:
    """What each of the `SUMS` costs, in dollars."""
    into, out = price.input_nano_usd_per_mtok, price.output_nano_usd_per_mtok
    cached = price.cached_input_nano_usd_per_mtok
    less = 0 if cached is None else cached - into
    rates = {"input_tokens": into, "cached_tokens": less, "output_tokens": out}
    return np.array([rates.get(name, 0) for name in SUMS]) * NANO_USD_AND_MTOK


def value_of(demand: Demand, lawful: Sequence[Sequence[Shared]]) -> Value:
    """The price of `demand`, whose app i may use `lawful[i]`: of these, the cheapest for what it asks in all."""
    usd = np.zeros(demand.sums.shape[:2])
    chosen: list[Shared | None] = []
    for index, allowed in enumerate(lawful):
        whole = demand.sums[:, index].sum(axis=0)
        best = min(allowed, key=lambda one: float(whole @ price_rates(one.price)), default=None)
        chosen.append(best)
        if best is not None:
            usd[:, index] = demand.sums[:, index] @ price_rates(best.price)
    return Value(usd=usd, chosen=tuple(chosen))


def mean_request(demand: Demand, value: Value, profile: EngineProfile) -> Mean:
    """The mean of the requests that have a price; of all of them, at no price, where none has."""
    priced = ~value.captive if not value.captive.all() else value.captive
    sums = dict(zip(SUMS, demand.sums[:, priced].sum(axis=(0, 1)), strict=True))
    requests = max(1e-9, float(sums["requests"]))
    return Mean(
        input_tokens=float(sums["input_tokens"]) / requests,
        output_tokens=float(sums["output_tokens"]) / requests,
        work_s=float(demand.work_s(profile)[:, priced].sum()) / requests,
        usd=float(value.usd.sum()) / requests,
    )
