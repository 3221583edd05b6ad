"""Traces that nobody recorded, for replays that take a moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from proxy.advisor.trace import App, Trace


def steady(
    count: int, every_s: float, *, input_tokens: int = 1000, output_tokens: int = 200, apps: Sequence[App] = ()
) -> Trace:
    """Requests that are all alike and come one by one."""
    return Trace(
        name="steady",
        arrival_s=np.arange(count) * every_s,
        input_tokens=np.full(count, input_tokens, np.int64),
        output_tokens=np.full(count, output_tokens, np.int64),
        app=np.arange(count, dtype=np.int32) % max(1, len(apps)),
        apps=tuple(apps) or (App(name="chat"),),
        span_s=count * every_s,
    )


def crowd(count: int, rate: float, *, seed: int = 1, surge: float = 1.0) -> Trace:
    """Requests at random, `rate` a second, and `surge` times as many in the middle third."""
    draws = np.random.default_rng(seed)
    gaps = draws.exponential(1 / rate, count)
    gaps[count // 3 : 2 * count // 3] /= surge
    arrival_s = np.cumsum(gaps)
    return Trace(
        name="crowd",
        arrival_s=arrival_s,
        input_tokens=draws.integers(50, 2500, count),
        output_tokens=np.minimum(draws.geometric(1 / 180, count), 900).astype(np.int64),
        app=np.zeros(count, np.int32),
        apps=(App(name="chat"),),
        span_s=float(arrival_s[-1]),
    )
