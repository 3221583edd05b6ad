"""What is asked of a model, as work for its engines: the one thing that everything about buying GPUs is worked out of.

Theory of operation
-------------------
A GPU is worth the requests that it keeps off the shared bill, and it can keep off what fits into it *while it comes*:
the slack of the TTFT objective carries a burst over about one and a half times itself, and nothing longer. So demand
is metered in bins of 1 to 1.5 times that objective, two or three seconds. In each, the engine time of the requests that
arrived, divided by the bin's length, is the demand D in work-seconds per second: the number of engines that would be
busy if engines had nothing to do but work.

Bins are kept as one histogram an hour. Each hour also keeps, for each app, the sums from which the work of its requests
on *any* engine follows, and their price at any provider, since both are linear in them:

    work  = d (in - cached) + e attended + b out + c read       (`routing.work`, of which these are the terms)
    price = in, cached and out, each times its rate

Another engine therefore scales the histograms by the ratio of the two works, and needs no second metering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.trace import App, Trace
from proxy.meters.work_buckets import LAST, LEAST, PER_OCTAVE
from proxy.policy.engine_profile import EngineProfile

Numbers = NDArray[np.int64] | NDArray[np.float64]
SUMS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "attended_tokens", "read_tokens")
"""What is summed for each app and hour.

`cached_tokens` are those of the input that a prefix cache spared. `attended_tokens` is the sum of (in^2 - cached^2)/2,
how many tokens stood before each token of the prompts; `read_tokens` that of out (in + out/2), before each of the
answers.
"""
HOUR_S = 3600.0
DAY_HOURS = 24


def work_edges() -> NDArray[np.float64]:
    """The edges of the meters' buckets (`meters.work_buckets`), in engines; the first begins at 0."""
    return np.concatenate(([0.0], LEAST * 2.0 ** (np.arange(LAST + 1) / PER_OCTAVE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What was asked for over some hours, of one model.

    `counts[h, i]` is how many bins of `bin_s` seconds in hour h had a demand, in work-seconds per second on an engine
    of `profile`, between `edges[i]` and `edges[i + 1]`; bins without a request are in the first bucket. An hour that
    was not watched throughout has fewer of them. `sums[h, a]` are the `SUMS` of app a in hour h. `began_at_s` is the
    Unix time at which hour 0 begins, None where nobody knows. All work counts, in whichever lane it was served.
    """

    name: str
    bin_s: float
    profile: EngineProfile
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    apps: tuple[App, ...]
    began_at_s: float | None = None

    @property
    def seconds(self) -> NDArray[np.float64]:
        """How much of each hour was watched."""
        watched: NDArray[np.float64] = self.counts.sum(axis=1) * self.bin_s
        return watched

    @property
    def days(self) -> NDArray[np.int64]:
        """Which day each hour is of, counted from the first: days of the calendar (UTC) where it is known."""
        hours = np.arange(len(self.counts))
        offset = 0 if self.began_at_s is None else int(self.began_at_s // HOUR_S) % DAY_HOURS
        return (hours + offset) // DAY_HOURS

    def work_s(self, profile: EngineProfile) -> NDArray[np.float64]:
        """The work of each hour and app on an engine of `profile`, in seconds."""
        work: NDArray[np.float64] = self.sums @ work_rates(profile)
        return work

    def on(self, profile: EngineProfile) -> Demand:
        """The same demand, metered as the work of another engine."""
        ratio = _ratio(self.work_s(profile).sum(), self.work_s(self.profile).sum())
        return replace(self, profile=profile, edges=self.edges * ratio)

    def grown(self, factor: float) -> Demand:
        """`factor` times the demand, bursts and all."""
        return replace(self, edges=self.edges * factor, sums=self.sums * factor)

    def excess(self, capacity: float) -> NDArray[np.float64]:
        """What of each hour's work arrives beyond `capacity` (work-seconds per second), in work-seconds.

        Within a bucket, demand is taken to be spread evenly.
        """
        low, high = self.edges[:-1], self.edges[1:]
        above = np.clip(high - capacity, 0.0, None)
        whole = (low + high) / 2 - capacity
        part = above**2 / (2 * (high - low))
        seconds: NDArray[np.float64] = self.counts @ np.where(low >= capacity, whole, part) * self.bin_s
        return seconds


def work_rates(profile: EngineProfile) -> NDArray[np.float64]:
    """What each of the `SUMS` weighs, in seconds of an engine."""
    d, e = profile.prefill_token_s, profile.attention_s
    return np.array([0.0, d, -d, profile.sequence_s, e, profile.context_token_s])


def of_trace(trace: Trace, profile: EngineProfile, bin_s: float) -> Demand:
    """The demand of a trace, request by request; prefix caches are not reckoned with. The last bin may be cut short."""
    bins = max(1, int(np.ceil(trace.span_s / bin_s)))
    hours = int(np.ceil(bins * bin_s / HOUR_S))
    terms = request_sums(trace.input_tokens, trace.output_tokens)
    sums = np.zeros((hours, len(trace.apps), len(SUMS)))
    place = np.minimum((trace.arrival_s // bin_s).astype(np.int64), bins - 1)
    np.add.at(sums, (hour_of_bin(place, bin_s), trace.app), terms)
    work = np.bincount(place, weights=terms @ work_rates(profile), minlength=bins) / bin_s
    edges = work_edges()
    return Demand(
        name=trace.name,
        bin_s=bin_s,
        profile=profile,
        edges=edges,
        counts=histogram(work, hour_of_bin(np.arange(bins), bin_s), hours, edges),
        sums=sums,
        apps=trace.apps,
        began_at_s=trace.began_at_s,
    )


def request_sums(input_tokens: Numbers, output_tokens: Numbers) -> NDArray[np.float64]:
    """The `SUMS` of each request by itself, none of it cached: one row a request."""
    into, out = input_tokens.astype(np.float64), output_tokens.astype(np.float64)
    columns = (np.ones_like(into), into, np.zeros_like(into), out, into**2 / 2, out * (into + out / 2))
    return np.stack(columns, axis=1)


def hour_of_bin(index: NDArray[np.int64], bin_s: float) -> NDArray[np.int64]:
    """The hour that a bin is counted in: the one in which it begins."""
    return (index * bin_s // HOUR_S).astype(np.int64)


def histogram(
    work: NDArray[np.float64], hour: NDArray[np.int64], hours: int, edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many of the bins of each hour lie in each bucket; those beyond the last edge are in the last."""
    buckets = len(edges) - 1
    place = np.clip(np.searchsorted(edges, work, side="right") - 1, 0, buckets - 1)
    counts = np.bincount(hour * buckets + place, minlength=hours * buckets)
    return counts.reshape(hours, buckets).astype(np.float64)


def _ratio(one: float, other: float) -> float:
    return one / other if other else 1.0
