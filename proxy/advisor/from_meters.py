"""The demand that a running Spillway has metered, as the advisor takes it.

Theory of operation
-------------------
The meters keep an hour's bins as a histogram, of work on the engine that the policy had then, and beside it the sums
from which the work on any engine follows. So an hour that was metered by another profile is moved along the buckets,
which are logarithmic, by the ratio of the two works; a bucket that comes to lie across an edge is split. Bins without
work are not stored: they are what is left of the time that was watched. Where bins of two lengths were in use, those of
the less used one count for as much time as they covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.demand import HOUR_S, SUMS, Demand, work_edges, work_rates
from proxy.advisor.trace import App
from proxy.meters.demand_rows import AppHour, DemandHour, DemandRow, Watched
from proxy.meters.work_buckets import LAST, PER_OCTAVE
from proxy.policy.engine_profile import EngineProfile

_SAME = 0.005
"""A ratio of works so near to 1 is one of rounding."""
_US = 1e6


@dataclass(slots=True)
class Gathered:
    """The rows of one pool: of a dedicated target, or of a public model that has none."""

    name: str
    hours: list[DemandHour] = field(default_factory=list)
    apps: list[AppHour] = field(default_factory=list)

    def share(self, of: str) -> float:
        """What part of the pool's work is `captive`, `unpriced` or `refused` (`work_bins.SUMS`)."""
        whole = sum(row.sums.get("work_us", 0) for row in self.apps)
        return sum(row.sums.get(f"{of}_work_us", 0) for row in self.apps) / whole if whole else 0.0

    @property
    def bin_ms(self) -> int:
        """The length of bins that was used for most of the time."""
        covered: dict[int, int] = {}
        for hour in self.hours:
            covered[hour.bin_ms] = covered.get(hour.bin_ms, 0) + sum(hour.bins) * hour.bin_ms
        return max(covered, key=lambda bin_ms: covered[bin_ms])


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """What was read: since when and until when all was watched (Unix time), and the rows of each pool, by its names."""

    watched: Watched
    pools: dict[tuple[str, str], Gathered]


def gathered(rows: Iterable[DemandRow]) -> Meters:
    """The rows, by pool: its dedicated target, or the model that was asked for where there is none."""
    watched = Watched(from_s=0.0, to_s=0.0)
    pools: dict[tuple[str, str], Gathered] = {}

    def pool(row: DemandHour | AppHour) -> Gathered:
        return pools.setdefault((row.target, row.model), Gathered(row.target or row.model))

    for row in rows:
        match row:
            case Watched():
                watched = row
            case DemandHour():
                pool(row).hours.append(row)
            case AppHour():
                pool(row).apps.append(row)
    return Meters(watched=watched, pools=pools)


def demand_of(pool: Gathered, watched: Watched, profile: EngineProfile) -> Demand | None:
    """The demand of a pool, as work on an engine of `profile`; None where nothing was asked of it."""
    if not pool.hours or not pool.apps:
        return None
    first = int(min(watched.from_s, *(row.start_s for row in pool.hours)) // HOUR_S)
    hours = max(int(-(-watched.to_s // HOUR_S)), *(int(row.start_s // HOUR_S) + 1 for row in pool.hours)) - first
    apps = sorted({(row.tenant, row.key, row.asked) for row in pool.apps})
    place = {app: index for index, app in enumerate(apps)}
    sums, work_us = np.zeros((hours, len(apps), len(SUMS))), np.zeros(hours)
    for row in pool.apps:
        hour = int(row.start_s // HOUR_S) - first
        sums[hour, place[row.tenant, row.key, row.asked]] += [row.sums.get(name, 0) for name in SUMS]
        work_us[hour] += row.sums.get("work_us", 0)
    work_s = (sums @ work_rates(profile)).sum(axis=1)
    ratios = np.divide(work_s * _US, work_us, out=np.ones(hours), where=work_us > 0)
    return Demand(
        name=pool.name,
        bin_s=pool.bin_ms / 1000,
        profile=profile,
        edges=work_edges(),
        counts=_counts(pool, watched, first, ratios),
        sums=sums,
        apps=_apps(apps),
        began_at_s=first * HOUR_S,
    )


def _counts(pool: Gathered, watched: Watched, first: int, ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.zeros((len(ratios), LAST + 1))
    for row in pool.hours:
        hour = int(row.start_s // HOUR_S) - first
        counts[hour] += shifted(_padded(row.bins), float(ratios[hour])) * (row.bin_ms / pool.bin_ms)
    starts_s = (np.arange(len(ratios)) + first) * HOUR_S
    seen_s = np.clip(np.minimum(starts_s + HOUR_S, watched.to_s) - np.maximum(starts_s, watched.from_s), 0.0, None)
    idle = seen_s * 1000 / pool.bin_ms - counts.sum(axis=1)
    counts[:, 0] += np.clip(idle, 0.0, None)
    return counts


def _padded(bins: Sequence[int]) -> NDArray[np.float64]:
    counts = np.zeros(LAST + 1)
    counts[: len(bins)] = bins[: LAST + 1]
    return counts


def shifted(counts: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """The same bins, each with `ratio` times its work; what is in the first bucket is next to none, and stays there."""
    if ratio <= 0.0 or abs(ratio - 1.0) < _SAME:
        return counts
    steps = PER_OCTAVE * float(np.log2(ratio))
    whole = int(np.floor(steps))
    moved, part, places = np.zeros_like(counts), steps - whole, np.arange(1, len(counts))
    moved[0] = counts[0]
    for step, share in ((whole, 1.0 - part), (whole + 1, part)):
        np.add.at(moved, np.clip(places + step, 0, len(counts) - 1), counts[1:] * share)
    return moved


def _apps(apps: Sequence[tuple[str, str, str]]) -> tuple[App, ...]:
    several = len({model for _, _, model in apps}) > 1
    return tuple(
        App(name=f"{key or tenant}: {model}" if several else key or tenant, tenant=tenant, key=key, model=model)
        for tenant, key, model in apps
    )
