"""The demand that a running proxy has metered, from the lines of its admin port.

Theory of operation
-------------------
The meters keep an hour's bins as a histogram, of work on the engine that the policy had then, and beside it the sums
from which the work on any engine follows. So an hour that was metered by another profile than the one that is asked
about is moved along the buckets, which are logarithmic, by the ratio of the two works; a bucket that comes to lie
across an edge is split.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.demand import HOUR_S, SUMS, Demand, work_edges, work_rates
from proxy.advisor.trace import App
from proxy.meters.demand_rows import AppHour, DemandHour, DemandRow, Watched
from proxy.meters.work_buckets import PER_OCTAVE
from proxy.policy.engine_profile import EngineProfile

Asker = tuple[str, str, str]
"""Who asks, as meters know it: tenant, key and public model."""
_SAME = 0.005
"""A ratio of works so near to 1 is one of rounding."""
_US = 1e6


@dataclass(slots=True)
class Gathered:
    """The lines of one pool."""

    name: str
    hours: list[DemandHour] = field(default_factory=list)
    apps: list[AppHour] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """What was read: since when and until when all was watched (Unix time), and each pool's lines."""

    watched: Watched
    pools: dict[tuple[str, str], Gathered]


def gathered(rows: Iterable[DemandRow]) -> Meters:
    """The lines, by pool: its dedicated target, or the model that was asked for where there is none."""
    watched = Watched(from_s=0.0, to_s=0.0)
    pools: dict[tuple[str, str], Gathered] = {}
    for row in rows:
        match row:
            case Watched():
                watched = row
            case DemandHour():
                _pool(pools, row).hours.append(row)
            case AppHour():
                _pool(pools, row).apps.append(row)
            case _:
                pass
    return Meters(watched=watched, pools=pools)


def _pool(pools: dict[tuple[str, str], Gathered], row: DemandHour | AppHour) -> Gathered:
    return pools.setdefault((row.target, row.model), Gathered(row.target or row.model))


def demand_of(pool: Gathered, watched: Watched, profile: EngineProfile) -> Demand | None:
    """The demand of a pool, in bins of the length that was in use last; None where nothing was watched.

    The work is that on an engine of `profile`, by whatever it was metered. An hour without a line had no demand. Where
    the length of bins was changed, the hours before are left out.
    """
    bin_ms = max(pool.hours, key=lambda row: row.start_s, default=None)
    if bin_ms is None or watched.to_s <= watched.from_s:
        return None
    hours = [row for row in pool.hours if row.bin_ms == bin_ms.bin_ms]
    from_s = max(watched.from_s, float(min(row.start_s for row in hours)) if len(hours) < len(pool.hours) else 0.0)
    first = int(from_s // HOUR_S)
    count = int(np.ceil(watched.to_s / HOUR_S)) - first
    askers = sorted({(row.tenant, row.key, row.asked) for row in pool.apps})
    sums, work_us = np.zeros((count, len(askers), len(SUMS))), np.zeros(count)
    for app in pool.apps:
        place = int(app.start_s // HOUR_S) - first
        if 0 <= place < count:
            index = askers.index((app.tenant, app.key, app.asked))
            sums[place, index] += [app.sums.get(name, 0) for name in SUMS]
            work_us[place] += app.sums.get("work_us", 0)
    work_s = (sums @ work_rates(profile)).sum(axis=1)
    ratios = np.divide(work_s * _US, work_us, out=np.ones(count), where=work_us > 0)
    edges = work_edges()
    counts = np.zeros((count, len(edges) - 1))
    for row in hours:
        place = int(row.start_s // HOUR_S) - first
        if 0 <= place < count:
            bins = np.zeros(len(edges) - 1)
            bins[: len(row.bins)] = row.bins[: len(bins)]
            counts[place] += moved(bins, float(ratios[place]))
    begin = (first + np.arange(count)) * HOUR_S
    seconds = np.minimum(begin + HOUR_S, watched.to_s) - np.maximum(begin, from_s)
    counts[:, 0] += np.maximum(0.0, seconds * 1000 / bin_ms.bin_ms - counts.sum(axis=1))
    return Demand(
        name=pool.name,
        bin_s=bin_ms.bin_ms / 1000,
        profile=profile,
        edges=edges,
        counts=counts,
        sums=sums,
        apps=tuple(map(app_of, askers)),
        began_at_s=first * HOUR_S,
    )


def moved(counts: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """The same bins, each with `ratio` times its work; what is in the first bucket is next to none, and stays there."""
    if ratio <= 0.0 or abs(ratio - 1.0) < _SAME:
        return counts
    steps = PER_OCTAVE * float(np.log2(ratio))
    whole = int(np.floor(steps))
    there, part, places = np.zeros_like(counts), steps - whole, np.arange(1, len(counts))
    there[0] = counts[0]
    for step, share in ((whole, 1.0 - part), (whole + 1, part)):
        np.add.at(there, np.clip(places + step, 0, len(counts) - 1), counts[1:] * share)
    return there


def app_of(asker: Asker) -> App:
    """The app of a tenant, a key and a public model."""
    tenant, key, model = asker
    name = "/".join(word for word in (key or tenant, model) if word)
    return App(name=name, tenant=tenant, key=key, model=model)
