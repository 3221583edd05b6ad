"""The demand that a running proxy has metered, from the lines of its admin port."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from proxy.advisor.demand import HOUR_S, SUMS, Demand, work_edges
from proxy.advisor.trace import App
from proxy.meters.demand_rows import AppHour, DemandHour, DemandRow, Watched
from proxy.policy.engine_profile import EngineProfile

Asker = tuple[str, str, str]
"""Who asks, as meters know it: tenant, key and public model."""


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

    `profile` is the engine by which its bins were metered. An hour without a line had no demand. Where the length of
    bins was changed, the hours before are left out.
    """
    bin_ms = max(pool.hours, key=lambda row: row.start_s, default=None)
    if bin_ms is None or watched.to_s <= watched.from_s:
        return None
    hours = [row for row in pool.hours if row.bin_ms == bin_ms.bin_ms]
    from_s = max(watched.from_s, float(min(row.start_s for row in hours)) if len(hours) < len(pool.hours) else 0.0)
    first = int(from_s // HOUR_S)
    count = int(np.ceil(watched.to_s / HOUR_S)) - first
    edges = work_edges()
    counts = np.zeros((count, len(edges) - 1))
    for row in hours:
        place = int(row.start_s // HOUR_S) - first
        if 0 <= place < count:
            bins = np.array(row.bins[: counts.shape[1]], dtype=np.float64)
            counts[place, : len(bins)] += bins
    begin = (first + np.arange(count)) * HOUR_S
    seconds = np.minimum(begin + HOUR_S, watched.to_s) - np.maximum(begin, from_s)
    counts[:, 0] += np.maximum(0.0, seconds * 1000 / bin_ms.bin_ms - counts.sum(axis=1))
    askers = sorted({(row.tenant, row.key, row.asked) for row in pool.apps})
    sums = np.zeros((count, len(askers), len(SUMS)))
    for app in pool.apps:
        place = int(app.start_s // HOUR_S) - first
        if 0 <= place < count:
            index = askers.index((app.tenant, app.key, app.asked))
            sums[place, index] += [app.sums.get(name, 0) for name in SUMS]
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


def app_of(asker: Asker) -> App:
    """The app of a tenant, a key and a public model."""
    tenant, key, model = asker
    name = "/".join(word for word in (key or tenant, model) if word)
    return App(name=name, tenant=tenant, key=key, model=model)
