"""What a replay comes to: its bill, how many were served in time, how long they waited, and who they were.

Theory of operation
-------------------
A replay of a day has a row for each of a million requests; everything that a report says is a sum, a quantile or a
course over minutes of those rows, so it is worked out once and the rows can be forgotten. Attainment is the share of
*all* requests that were served within both objectives of their route: a refusal is a miss.

The bill of a span is not that of a month, but per hour it can be compared with other spans: a month has 730 hours.
Oscillation counts how often the share of requests that spilled, in windows of ten seconds, goes from one fifth or less
to four fifths or more, or back; a rule at peace with itself hardly ever does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.replayed import REFUSED, Replayed

HOURS_A_MONTH = 730
MINUTE_S = 60.0
WINDOW_S = 10.0
CALM, SPILLING = 0.2, 0.8
LEVELS = (50, 90, 95, 99)
SLOWER = np.logspace(0.0, -4.0, 161)
"""The shares of requests at which a distribution is kept: from all of them to one in ten thousand."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """In seconds; NaN of nothing."""

    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What became of some of the requests. `spilled` are among the `shared`, which cost `shared_nano_usd`."""

    name: str
    requests: int
    met: int
    refused: int
    dedicated: int
    shared: int
    spilled: int
    shared_nano_usd: int
    ttft_s: Quantiles
    pace_s: Quantiles
    e2e_s: Quantiles

    @property
    def attainment(self) -> float:
        """Served within the objectives, of all; NaN of nothing."""
        return self.met / self.requests if self.requests else float("nan")

    @property
    def spill_share(self) -> float:
        """Spilled, of all."""
        return self.spilled / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """Requests by the minute that they came in, and what those of each minute cost at shared targets."""

    requests: Counts
    met: Counts
    dedicated: Counts
    spilled: Counts
    preferred_shared: Counts
    refused: Counts
    shared_nano_usd: Counts

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def worst(self) -> int:
        """The minute in which the largest share of requests missed, of several the busiest."""
        asked = np.maximum(self.requests, 1)
        missed = (self.requests - self.met) / asked
        return int(np.lexsort((self.requests, missed))[-1])

    @property
    def attainment(self) -> Floats:
        """By minute; NaN where nobody came."""
        share: Floats = np.divide(self.met, self.requests, out=np.full(len(self), np.nan), where=self.requests > 0)
        return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """How long the slowest took: seconds that the shares `SLOWER` of the served requests exceeded."""

    ttft_s: Floats
    pace_s: Floats
    e2e_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that is reported of one replay. `tenants` and `apps` are empty where the trace does not tell them apart.

    `objectives` are the pairs of TTFT and pace, in seconds, that routes asked for. `reasons` says how many requests
    went where they went for each.
    """

    policy: str
    replicas: dict[str, int]
    span_s: float
    gpu_nano_usd: int
    whole: Part
    routes: tuple[Part, ...]
    tenants: tuple[Part, ...]
    apps: tuple[Part, ...]
    targets: tuple[Part, ...]
    reasons: dict[str, int]
    minutes: Minutes
    distributions: Distributions
    objectives: tuple[tuple[float, float], ...]
    oscillations_per_hour: float
    wall_s: float

    @property
    def hours(self) -> float:
        """How long the traffic was watched."""
        return self.span_s / 3600.0

    @property
    def nano_usd(self) -> int:
        """GPU hours and shared tokens."""
        return self.gpu_nano_usd + self.whole.shared_nano_usd

    def usd_per_hour(self, nano_usd: float) -> float:
        """A sum of this span as dollars an hour."""
        return nano_usd / 1e9 / self.hours

    def usd_per_month(self, nano_usd: float) -> float:
        """A sum of this span as dollars a month of such hours."""
        return self.usd_per_hour(nano_usd) * HOURS_A_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A run with what every part of it asks for, worked out once."""

    run: Replayed
    met: NDArray[np.bool_]
    dedicated: NDArray[np.bool_]
    refused: NDArray[np.bool_]


def figures(run: Replayed) -> Figures:
    """What `run` comes to."""
    rows = _Rows(run=run, met=run.met, dedicated=_on_dedicated(run), refused=run.target == REFUSED)
    return Figures(
        policy=run.policy,
        replicas=run.replicas,
        span_s=run.trace.span_s,
        gpu_nano_usd=run.gpu_nano_usd,
        whole=_part(rows, "all", np.arange(len(run.trace))),
        routes=tuple(_parts(rows, run.route, run.routes)),
        tenants=tuple(_by_name(rows, [app.tenant for app in run.trace.apps])),
        apps=tuple(_by_name(rows, [app.name for app in run.trace.apps])),
        targets=tuple(_parts(rows, run.target, run.targets)),
        reasons=_reasons(run),
        minutes=_minutes(rows),
        distributions=_distributions(run),
        objectives=_objectives(run),
        oscillations_per_hour=_oscillations(run) / (run.trace.span_s / 3600.0),
        wall_s=run.wall_s,
    )


def _part(rows: _Rows, name: str, which: NDArray[np.intp]) -> Part:
    run, dedicated, refused = rows.run, int(rows.dedicated[which].sum()), int(rows.refused[which].sum())
    return Part(
        name=name,
        requests=len(which),
        met=int(rows.met[which].sum()),
        refused=refused,
        dedicated=dedicated,
        shared=len(which) - dedicated - refused,
        spilled=int(run.spilled[which].sum()),
        shared_nano_usd=int(run.nano_usd[which].sum()),
        ttft_s=_quantiles(run.ttft_s[which]),
        pace_s=_quantiles(run.pace_s[which]),
        e2e_s=_quantiles(run.e2e_s[which]),
    )


def _parts(rows: _Rows, index: NDArray[np.integer], names: tuple[str, ...]) -> Iterator[Part]:
    """One for each name that requests have; those of nobody (`REFUSED`) are in none."""
    order = np.argsort(index, kind="stable")
    edges = np.searchsorted(index[order], np.arange(len(names) + 1))
    for number, name in enumerate(names):
        if edges[number] < edges[number + 1]:
            yield _part(rows, name, order[edges[number] : edges[number + 1]])


def _by_name(rows: _Rows, of_app: list[str]) -> Iterator[Part]:
    """By what an app has; nothing where all have the same."""
    place = {name: number for number, name in enumerate(dict.fromkeys(of_app))}
    if len(place) > 1:
        index = np.array([place[name] for name in of_app], np.int32)
        yield from _parts(rows, index[rows.run.trace.app], tuple(place))


def _on_dedicated(run: Replayed) -> NDArray[np.bool_]:
    dedicated = np.array([name in run.replicas for name in run.targets] + [False])
    chosen: NDArray[np.bool_] = dedicated[run.target]  # `REFUSED` is the last
    return chosen


def _quantiles(seconds: NDArray[np.float32]) -> Quantiles:
    known = seconds[np.isfinite(seconds)]
    if not len(known):
        return Quantiles(p50=np.nan, p90=np.nan, p95=np.nan, p99=np.nan)
    return Quantiles(
        **{f"p{level}": float(value) for level, value in zip(LEVELS, np.percentile(known, LEVELS), strict=True)}
    )


def _minutes(rows: _Rows) -> Minutes:
    run = rows.run
    minute = (run.trace.arrival_s / MINUTE_S).astype(np.int64)
    count = int(max(np.ceil(run.trace.span_s / MINUTE_S), minute[-1] + 1 if len(minute) else 1))

    def in_each(which: NDArray[np.bool_]) -> Counts:
        return np.bincount(minute[which], minlength=count)

    dollars = np.zeros(count, np.int64)
    np.add.at(dollars, minute, run.nano_usd)
    return Minutes(
        requests=np.bincount(minute, minlength=count),
        met=in_each(rows.met),
        dedicated=in_each(rows.dedicated),
        spilled=in_each(run.spilled),
        preferred_shared=in_each(~rows.dedicated & ~rows.refused & ~run.spilled),
        refused=in_each(rows.refused),
        shared_nano_usd=dollars,
    )


def _distributions(run: Replayed) -> Distributions:
    return Distributions(ttft_s=_slowest(run.ttft_s), pace_s=_slowest(run.pace_s), e2e_s=_slowest(run.e2e_s))


def _slowest(seconds: NDArray[np.float32]) -> Floats:
    known = seconds[np.isfinite(seconds)].astype(np.float64)
    if not len(known):
        return np.full(len(SLOWER), np.nan)
    found: Floats = np.quantile(known, 1.0 - SLOWER)
    return found


def _objectives(run: Replayed) -> tuple[tuple[float, float], ...]:
    pairs = np.unique(np.stack([run.ttft_objective_s, run.pace_objective_s]), axis=1).T
    return tuple((round(float(ttft), 6), round(float(pace), 6)) for ttft, pace in pairs)


def _oscillations(run: Replayed) -> int:
    """Changes between calm and spilling windows; windows between the two, or without requests, change nothing."""
    window = (run.trace.arrival_s / WINDOW_S).astype(np.int64)
    asked = np.bincount(window)
    share = np.bincount(window[run.spilled], minlength=len(asked))[asked > 0] / asked[asked > 0]
    decided = share[(share <= CALM) | (share >= SPILLING)] >= SPILLING
    return int(np.count_nonzero(decided[1:] != decided[:-1]))


def _reasons(run: Replayed) -> dict[str, int]:
    counted = np.bincount(run.reason[run.reason >= 0], minlength=len(run.reasons))
    found = {reason: int(count) for reason, count in zip(run.reasons, counted, strict=True) if count}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
