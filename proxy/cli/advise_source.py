"""Where the demand comes from that `spillway advise` looks at: a trace, usage by the minutes, or a proxy's meters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from proxy.advisor.demand import Demand, of_trace
from proxy.advisor.disaggregate import Coarse, Textures, drawn_demand, textures
from proxy.advisor.metered import Meters, app_of, demand_of, gathered
from proxy.advisor.trace import App, Trace
from proxy.advisor.trace_files import read_trace
from proxy.advisor.trace_table import TraceUnreadable
from proxy.advisor.usage_files import is_usage, read_usage
from proxy.cli.advise_options import CannotAdvise
from proxy.cli.advise_question import Pool
from proxy.cli.meters_source import MetersUnavailable, rows_from
from proxy.meters.demand_rows import read_demand_line
from proxy.meters.work_pools import BIN_OF_OBJECTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Traffic request by request."""

    trace: Trace

    @property
    def apps(self) -> tuple[App, ...]:
        """Who asked."""
        return self.trace.apps

    def demand(self, pool: Pool) -> Demand | None:
        """What the pool's apps asked for."""
        mine = np.array([one.dedicated for one in pool.apps])
        chosen = mine[self.trace.app]
        if not chosen.any():
            return None
        trace = self.trace
        part = replace(
            trace,
            arrival_s=trace.arrival_s[chosen],
            input_tokens=trace.input_tokens[chosen],
            output_tokens=trace.output_tokens[chosen],
            app=trace.app[chosen],
            prefix=None,
        )
        return of_trace(part, pool.offer.profile, BIN_OF_OBJECTIVE * pool.ttft_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """Usage by the minutes, and what is known of the traffic within them."""

    usage: Coarse
    textures: Textures
    seed: int

    @property
    def apps(self) -> tuple[App, ...]:
        """Who asked."""
        return self.usage.apps

    def demand(self, pool: Pool) -> Demand | None:
        """What the pool's apps may have asked for."""
        usage = self.usage
        chosen = np.array([one.dedicated for one in pool.apps])[usage.app]
        if not chosen.any():
            return None
        part = replace(usage, requests=np.where(chosen, usage.requests, 0))
        draws = np.random.default_rng(self.seed)
        return drawn_demand(part, self.textures, pool.offer.profile, BIN_OF_OBJECTIVE * pool.ttft_s, draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What a running proxy metered."""

    meters: Meters

    @property
    def apps(self) -> tuple[App, ...]:
        """Who asked, in all pools."""
        rows = (row for pool in self.meters.pools.values() for row in pool.apps)
        askers = dict.fromkeys((row.tenant, row.key, row.asked) for row in rows)
        return tuple(map(app_of, askers))

    def aligned(self, pool: Pool, demand: Demand) -> Pool:
        """The pool with what is lawful for the apps of its own demand."""
        known = dict(zip(self.apps, pool.apps, strict=True))
        return replace(pool, apps=tuple(known[app] for app in demand.apps))

    def demand(self, pool: Pool) -> Demand | None:
        """What was asked of the pool."""
        for (target, _), lines in self.meters.pools.items():
            if target in pool.names:
                return demand_of(lines, self.meters.watched, pool.offer.profile)
        return None


Source = Traced | Summed | Metered


def from_file(path: Path, samples: Sequence[Path], began_at_s: float | None, seed: int) -> Traced | Summed:
    """A trace, or usage; told by its columns. Raises CannotAdvise."""
    try:
        if not is_usage(path):
            trace = read_trace(path)
            return Traced(trace=replace(trace, began_at_s=began_at_s or trace.began_at_s))
        usage = read_usage(path)
        usage = replace(usage, began_at_s=began_at_s or usage.began_at_s)
        fine = tuple(read_trace(sample) for sample in samples)
        return Summed(usage=usage, textures=textures(fine, usage.row_s), seed=seed)
    except TraceUnreadable as error:
        raise CannotAdvise(str(error)) from None


def from_meters(admin_url: str, from_s: float, to_s: float) -> Metered:
    """What the proxy behind `admin_url` metered between two points in time. Raises CannotAdvise."""
    path = f"/admin/demand?{urlencode({'from': int(from_s), 'to': int(to_s)})}"
    try:
        return Metered(meters=gathered(rows_from(path, admin_url, read_demand_line)))
    except MetersUnavailable as error:
        raise CannotAdvise(str(error)) from None
