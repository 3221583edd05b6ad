"""What coarse usage hides: the requests behind "194 of them in these ten minutes", drawn so that bins can be metered.

Theory of operation
-------------------
A GPU is kept busy, or overrun, within seconds. Usage that was summed over minutes says how much work there was, not how
it came, and taken at its face value it promises savings that nobody gets. So each row of usage is drawn apart again.

Within a row, the requests of one app are a renewal process with marks: gaps between arrivals are independent draws, and
so are the sizes of prompt and answer. Their *texture* is what gaps and sizes look like relative to their means:
multiplied by the row's own means it makes requests, and these are scaled so that the row's sums come out exactly. The
texture of an app is taken from a fine trace where there is one, by its own name, or that of all its apps together;
otherwise from `START`: gaps with the squared coefficient of variation 2, which for long spans is also the index of
dispersion of the counts, prompts with 0.5 and answers with 1.

What this does not know: bursts that several apps have in common, and drifts within a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma  # type: ignore[import-untyped,unused-ignore]

from proxy.advisor.demand import (
    HOUR_S,
    SUMS,
    Demand,
    Numbers,
    histogram,
    hour_of_bin,
    request_sums,
    work_edges,
    work_rates,
)
from proxy.advisor.trace import App, Trace
from proxy.policy.engine_profile import EngineProfile

GAP_SCV = 2.0
INPUT_SCV = 0.5
OUTPUT_SCV = 1.0
"""Squared coefficients of variation (variance ÷ mean²) to start from: between public traces of single apps."""
LEAST_REQUESTS = 100
"""An app with fewer in the fine trace borrows the texture of all of them."""
MOST_SAMPLES = 50_000
_GRID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """Samples that were seen where the mean was about 2 ** `level`: of pairs (prompt, answer), or of gaps."""

    level: int
    samples: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """How the requests of an app vary, relative to their means: `gaps` by requests a row, `sizes` by mean answer."""

    gaps: tuple[Grain, ...]
    sizes: tuple[Grain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """Usage in rows of `row_s` seconds. Row i is of `apps[app[i]]`, from `start_s[i]` after the beginning on."""

    name: str
    row_s: float
    start_s: NDArray[np.float64]
    app: NDArray[np.int32]
    requests: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    apps: tuple[App, ...]
    span_s: float
    began_at_s: float | None = None


def _quantiles(scv: float, count: int) -> NDArray[np.float64]:
    """Evenly likely values of a gamma distribution with mean 1 and this squared coefficient of variation."""
    values: NDArray[np.float64] = gamma.ppf((np.arange(count) + 0.5) / count, 1 / scv, scale=scv)
    return values


def _start() -> Texture:
    prompts, answers = np.meshgrid(_quantiles(INPUT_SCV, _GRID), _quantiles(OUTPUT_SCV, _GRID))
    sizes = np.stack((prompts.ravel(), answers.ravel()), axis=1)
    gaps = _quantiles(GAP_SCV, _GRID * _GRID)
    return Texture(gaps=(Grain(level=0, samples=gaps),), sizes=(Grain(level=0, samples=sizes),))


START = _start()
"""The texture of traffic that nobody has looked at closely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Textures:
    """By the app's name; `other` is for apps that were not seen."""

    apps: Mapping[str, Texture] = field(default_factory=dict)
    other: Texture = START

    def of(self, app: str) -> Texture:
        """The app's own, or that of the others."""
        return self.apps.get(app, self.other)


def textures(traces: tuple[Trace, ...], row_s: float) -> Textures:
    """How the traffic of fine traces varies within rows of `row_s` seconds; without any, the start values."""
    gaps: dict[str, list[_Seen]] = {}
    sizes: dict[str, list[_Seen]] = {}
    for trace in traces:
        for index, app in enumerate(trace.apps):
            chosen = trace.app == index
            if chosen.any():
                row = (trace.arrival_s[chosen] // row_s).astype(np.int64)
                gaps.setdefault(app.name, []).append(_relative_gaps(trace.arrival_s[chosen], row, row_s))
                sizes.setdefault(app.name, []).append(_relative_sizes(trace, chosen, row))
    known = {name: _texture(gaps[name], sizes[name]) for name in gaps if _count(sizes[name]) >= LEAST_REQUESTS}
    if not known:
        return Textures()
    other = _texture([one for some in gaps.values() for one in some], [one for some in sizes.values() for one in some])
    return Textures(apps=known, other=other)


_Seen = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The level of each sample, and the samples."""


def _count(seen: list[_Seen]) -> int:
    return sum(len(levels) for levels, _ in seen)


def _texture(gaps: list[_Seen], sizes: list[_Seen]) -> Texture:
    return Texture(gaps=_grains(gaps, START.gaps), sizes=_grains(sizes, START.sizes))


def _grains(seen: list[_Seen], otherwise: tuple[Grain, ...]) -> tuple[Grain, ...]:
    """The samples by level, thinned evenly where they are many; levels hardly seen are left to their neighbours."""
    levels, samples = (np.concatenate([one[part] for one in seen]) for part in (0, 1))
    found = [(int(level), samples[levels == level]) for level in np.unique(levels)]
    enough = [
        Grain(level=level, samples=some[:: max(1, len(some) // MOST_SAMPLES)])
        for level, some in found
        if len(some) >= LEAST_REQUESTS
    ]
    return tuple(enough) or otherwise


def _level(mean: Numbers) -> NDArray[np.int64]:
    return np.rint(np.log2(np.maximum(mean, 1.0))).astype(np.int64)


def _relative_gaps(arrival_s: NDArray[np.float64], row: NDArray[np.int64], row_s: float) -> _Seen:
    """Gaps between two arrivals of one row, relative to the row's mean."""
    within = row[1:] == row[:-1]
    requests = np.bincount(row)[row[1:]]
    gaps = np.diff(arrival_s) * requests / row_s
    return _level(requests[within]), gaps[within]


def _relative_sizes(trace: Trace, chosen: NDArray[np.bool_], row: NDArray[np.int64]) -> _Seen:
    """Tokens of prompts and answers, relative to the means of their row."""
    tokens = (trace.input_tokens[chosen], trace.output_tokens[chosen])
    means = [(np.bincount(row, weights=one) / np.maximum(1, np.bincount(row)))[row] for one in tokens]
    relative = [one / np.maximum(mean, 1e-9) for one, mean in zip(tokens, means, strict=True)]
    return _level(means[1]), np.stack(relative, axis=1)


def drawn_demand(
    usage: Coarse, known: Textures, profile: EngineProfile, bin_s: float, draws: np.random.Generator
) -> Demand:
    """The demand in bins of `bin_s` seconds of requests as they may have been."""
    bins = max(1, int(np.ceil(usage.span_s / bin_s)))
    hours = int(np.ceil(bins * bin_s / HOUR_S))
    sums = np.zeros((hours, len(usage.apps), len(SUMS)))
    work = np.zeros(bins)
    rates = work_rates(profile)
    for index, app in enumerate(usage.apps):
        rows = np.flatnonzero((usage.app == index) & (usage.requests > 0))
        if len(rows):
            arrival_s, terms = _drawn(usage, rows, known.of(app.name), draws)
            place = np.minimum((arrival_s // bin_s).astype(np.int64), bins - 1)
            hour = hour_of_bin(place, bin_s)
            sums[:, index] = np.stack([np.bincount(hour, weights=term, minlength=hours) for term in terms.T], axis=1)
            work += np.bincount(place, weights=terms @ rates, minlength=bins)
    edges = work_edges()
    counts = histogram(work / bin_s, hour_of_bin(np.arange(bins), bin_s), hours, edges)
    return Demand(
        name=usage.name,
        bin_s=bin_s,
        profile=profile,
        edges=edges,
        counts=counts,
        sums=sums,
        apps=usage.apps,
        began_at_s=usage.began_at_s,
    )


def _drawn(
    usage: Coarse, rows: NDArray[np.int64], texture: Texture, draws: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When the requests of one app came, and the sums of each by itself."""
    requests, tokens = usage.requests[rows], (usage.input_tokens[rows], usage.output_tokens[rows])
    order = np.repeat(np.arange(len(rows)), requests)
    gaps = _samples(texture.gaps, START.gaps, _level(requests), requests + 1, draws)
    arrival_s = usage.start_s[rows][order] + usage.row_s * _places(requests, gaps)
    sizes = _samples(texture.sizes, START.sizes, _level(tokens[1] / requests), requests, draws)
    scaled = []
    for column, total in enumerate(tokens):
        drawn = np.bincount(order, weights=sizes[:, column], minlength=len(rows))
        scaled.append(sizes[:, column] * (total / np.maximum(drawn, 1e-9))[order])
    return arrival_s, request_sums(scaled[0], scaled[1])


def _samples(
    grains: tuple[Grain, ...],
    start: tuple[Grain, ...],
    level: NDArray[np.int64],
    count: NDArray[np.int64],
    draws: np.random.Generator,
) -> NDArray[np.float64]:
    """So many samples for each row, one row after the other, of the grain whose level is nearest to the row's."""
    distance = np.abs(level[:, None] - np.array([grain.level for grain in grains]))
    alike = distance.min(axis=1) <= 1
    nearest = np.repeat(np.where(alike, distance.argmin(axis=1), len(grains)), count)
    grains = (*grains, *start)
    found = np.empty((len(nearest), *grains[0].samples.shape[1:]))
    for index, grain in enumerate(grains):
        here = np.flatnonzero(nearest == index)
        found[here] = grain.samples[draws.integers(0, len(grain.samples), len(here))]
    return found


def _places(requests: NDArray[np.int64], gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where in its row each request stands, from 0 to 1: n requests are told apart by n + 1 gaps that fill the row."""
    ends = np.cumsum(requests + 1)
    upto = np.cumsum(gaps + 1e-9)
    before = np.concatenate(([0.0], upto[ends[:-1] - 1]))
    row = np.repeat(np.arange(len(requests)), requests + 1)
    places = (upto - before[row]) / (upto[ends - 1] - before)[row]
    return np.minimum(np.delete(places, ends - 1), 1 - 1e-9)
