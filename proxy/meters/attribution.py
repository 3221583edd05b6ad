"""Whose GPU time it was: the busy part of each hour, divided by the work that was done in it.

Theory of operation
-------------------
A dedicated target is paid by the hour, so no request has a price of its own. What is known is how long its replicas
were busy in an hour, and how much engine time each caller's requests took (`work_us`, the work of the economics report:
prefill and decode by the tokens that each had). The busy time, and the money for it, is divided in proportion to that
work. The rest of what was provisioned is idle, and nobody's.

Work is counted when a request ends. Where an hour was busy with requests that all ended later, its busy time is
*unclaimed*. Replicas that are reserved and do not run cost money and have no time; that money is idle, too.

Parts are whole milliseconds and nano-USD and sum to the whole exactly: by the largest remainder (Hamilton's method),
ties broken by the claimant's name, so that the order of the rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from proxy.meters.aggregates import Grain, Row
from proxy.meters.gpu_hours import GpuRow, GpuTotals

Share = TypeVar("Share", str, int, "Claimant")
"""By what a whole is divided; ties are broken by its order."""


class Claimant(NamedTuple):
    """On whose behalf work was done. `key` is empty for a tenant's unnamed key."""

    tenant: str
    key: str
    model: str
    route: str


class Portion(NamedTuple):
    """Some GPU time and what it cost: milliseconds of one GPU, and nano-USD."""

    gpu_ms: int
    nano_usd: int

    @property
    def gpu_s(self) -> float:
        """The time in seconds of one GPU."""
        return self.gpu_ms / 1000.0


class Attribution(NamedTuple):
    """All that was provisioned: what each claimant had, what was busy with nobody's work that ended, what was idle."""

    portions: Mapping[Claimant, Portion]
    unclaimed: Portion
    idle: Portion


class HourOfTarget(NamedTuple):
    """One target in the hour from `start_s`, Unix time."""

    start_s: int
    target: str
    attribution: Attribution


def attribute(gpu: GpuTotals, work_us: Mapping[Claimant, int]) -> Attribution:
    """The time and the money of `gpu`, divided by the work of each."""
    busy = Portion(gpu.busy_gpu_ms, gpu.busy_nano_usd)
    idle = Portion(gpu.idle_gpu_ms, gpu.idle_nano_usd)
    claims = {claimant: work for claimant, work in work_us.items() if work > 0}
    if not claims:
        return Attribution({}, busy, idle)
    time, money = divide(busy.gpu_ms, claims), divide(busy.nano_usd, claims)
    return Attribution({claimant: Portion(time[claimant], money[claimant]) for claimant in claims}, Portion(0, 0), idle)


def divide(whole: int, weights: Mapping[Share, int]) -> dict[Share, int]:
    """`whole` in proportion to the weights, which are above 0; the parts sum to it exactly."""
    total = sum(weights.values())
    parts = {claimant: whole * weight // total for claimant, weight in weights.items()}
    left = whole - sum(parts.values())
    by_remainder = sorted(weights, key=lambda claimant: (-(whole * weights[claimant] % total), claimant))
    for claimant in by_remainder[:left]:
        parts[claimant] += 1
    return parts


def attribute_hours(gpu_rows: Iterable[GpuRow], rows: Iterable[Row]) -> Iterator[HourOfTarget]:
    """Each target's hours, in the order of `gpu_rows`; `rows` are what was counted in those hours."""
    work_us: dict[tuple[int, str], dict[Claimant, int]] = {}
    for row in rows:
        series, work = row.series, row.counts.get("work_us", 0)
        if work and row.grain is Grain.HOUR:
            claimant = Claimant(series.tenant, series.key, series.model, series.route)
            claims = work_us.setdefault((row.start_s, series.target), {})
            claims[claimant] = claims.get(claimant, 0) + work
    for gpu in gpu_rows:
        yield HourOfTarget(gpu.start_s, gpu.target, attribute(gpu.totals, work_us.get((gpu.start_s, gpu.target), {})))
