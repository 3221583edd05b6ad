"""Made-up demand for the advisor's tests: days of requests at rates by the hour, few and long enough to be quick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from proxy.advisor.breakeven import Offer
from proxy.advisor.demand import Demand, of_trace
from proxy.advisor.trace import App, Trace
from proxy.advisor.value import Shared
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.policy.price import Price

PROFILE = LLAMA_70B_FP8_2XH100
OFFER = Offer(name="llama", profile=PROFILE, usd_per_hour=5.98, itl_s=0.05)
MONDAY_S = 1_794_787_200.0
"""The 16th of November 2026, 0:00 UTC."""
DAYTIME = (0.3,) * 8 + (1.6,) * 10 + (0.7,) * 6
"""Relative to the mean, by the hour."""


def price(into: float, out: float) -> Price:
    return Price(input_nano_usd_per_mtok=round(into * 1e9), output_nano_usd_per_mtok=round(out * 1e9))


def shared(name: str, into: float, out: float) -> Shared:
    return Shared(target=name, provider=name, price=price(into, out))


DEAR = shared("bedrock", 0.72, 0.72)
CHEAP = shared("deepinfra", 0.23, 0.40)


def days(
    per_s: float, levels: Sequence[float], *, seed: int = 1, apps: int = 1, began_at_s: float | None = MONDAY_S
) -> Trace:
    """Poisson arrivals of long prompts (6,000 + 600 tokens on average), a day for each of `levels`."""
    draws = np.random.default_rng(seed)
    hourly = np.outer(levels, DAYTIME).ravel() * per_s * 3600
    counts = draws.poisson(hourly)
    arrivals = np.sort(np.repeat(np.arange(len(hourly)) * 3600.0, counts) + draws.uniform(0, 3600, counts.sum()))
    return Trace(
        name="made up",
        arrival_s=arrivals,
        input_tokens=draws.integers(3000, 9000, len(arrivals)),
        output_tokens=1 + draws.gamma(1.0, 600.0, len(arrivals)).astype(np.int64),
        app=draws.integers(0, apps, len(arrivals)).astype(np.int32),
        apps=tuple(App(name=f"app {index}") for index in range(apps)),
        span_s=len(hourly) * 3600.0,
        began_at_s=began_at_s,
    )


def demand(per_s: float, levels: Sequence[float], *, seed: int = 1, apps: int = 1) -> Demand:
    return of_trace(days(per_s, levels, seed=seed, apps=apps), PROFILE, 3.0)


def np_tokens(into: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """One request's tokens, as columns."""
    return np.array([into]), np.array([out])
