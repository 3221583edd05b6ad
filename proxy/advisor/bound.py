"""What any policy has to pay at least, even one that knows the future: the yardstick of a replay.

Theory of operation
-------------------
A policy pays for replicas by the hour and for what it spills by the token, and meets the SLO with every request. Who
knows all arrivals and lengths, pools all replicas perfectly and cuts requests as he likes pays the cost of the cheapest
flow (`fluid`), for the best number of replicas; nobody pays less, except by serving some too late or not at all.

A replica does 1 - a/L seconds of work in a second, where a is what a step costs whatever is in it and L the longest
step: with longer ones, who decodes all along falls behind his pace. For engines whose chunks keep their steps within L
this is exact. Others may take longer steps while nobody's pace suffers, and then do more; a profile with `step_s=0`
gives the bound that holds for them too.

The rates of every optimum bound the cost of *any* number of replicas, since the bound is linear in it:

    shared cost at j replicas  >=  shared cost at k  -  (j - k) * worth of a replica at k

so that the search may stop where the next replica is worth less than it costs, and a bound that was worked out at one
price of a replica can be told for any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.bound_dual import ascend
from proxy.advisor.bound_program import optimum
from proxy.advisor.engine_work import decode_s, prefill_s
from proxy.advisor.fluid import Floats, Fluid, pour
from proxy.advisor.replayed import MIN_PACE_TOKENS
from proxy.advisor.trace import Trace
from proxy.policy.engine_profile import EngineProfile

HOUR_S = 3600.0
EXACT_UP_TO = 80_000
"""Requests and blocks of a programme that HiGHS solves in seconds: about an hour of traffic."""
_MOST_BINS = 2**18
_BINS_PER_TTFT = 2
_USUAL_TTFT_S = 2.0


class Method(StrEnum):
    """How the rates of a bound were found."""

    EXACT = "linear programme"
    DUAL = "dual ascent"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTerms:
    """The setting: one replica's profile and price, and the SLO, of all requests alike or of each.

    `pace_s` is the objective for the time per output token (`replayed`), and infinite objectives bind nobody: such
    requests have until the end of the trace. `longest_step_s` is L; None is the loosest pace. `bin_s` is the width of
    the bins of time; None is half the tightest TTFT objective, or as fine as a quarter of a million bins are.
    """

    profile: EngineProfile
    replica_nano_usd_per_hour: int
    ttft_s: float | Floats
    pace_s: float | Floats
    longest_step_s: float | None = None
    bin_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The least that is paid beside `replicas` replicas, over the whole trace.

    `shared_nano_usd` goes to the shared lane: infinite where these replicas cannot hold what may not be spilled.
    `replica_worth_nano_usd` is the most that one more of them saves there. `kept` is the share of each request that
    stays on dedicated GPUs in the cheapest flow, which cuts requests: all sums over it are true, no single one need be.
    """

    replicas: int
    shared_nano_usd: float
    replica_worth_nano_usd: float
    kept: NDArray[np.float32]
    method: Method

    def shared_beside(self, replicas: int) -> float:
        """What the shared lane is paid at least beside another number of replicas, by this optimum's rates."""
        more = replicas - self.replicas
        if more == 0 or (more < 0 and math.isinf(self.shared_nano_usd)):
            return self.shared_nano_usd
        return self.shared_nano_usd - more * self.replica_worth_nano_usd if self._tells_of_others else -math.inf

    @property
    def _tells_of_others(self) -> bool:
        return math.isfinite(self.shared_nano_usd) and math.isfinite(self.replica_worth_nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The least that any policy pays for a trace of `span_s` seconds, by number of replicas: `options` ascend in it.

    `all_shared_nano_usd` is what it costs without any replica; infinite where some requests may not be spilled.
    """

    options: tuple[Option, ...]
    span_s: float
    replica_nano_usd_per_hour: int
    all_shared_nano_usd: float

    @property
    def best(self) -> Option:
        """The cheapest option."""
        return min(self.options, key=self.cost)

    @property
    def nano_usd(self) -> float:
        """The bound: GPU hours and shared tokens together."""
        return self.cost(self.best)

    @property
    def replicas(self) -> int:
        """How many replicas the bound takes."""
        return self.best.replicas

    @property
    def method(self) -> Method:
        """How the bound was found."""
        return self.best.method

    @property
    def usd_per_hour(self) -> float:
        """The bound, by the hour."""
        return self.nano_usd / 1e9 / self.span_s * HOUR_S

    @property
    def spilled_share(self) -> float:
        """Which share of the requests it spills."""
        return 1.0 - float(self.best.kept.mean()) if self.best.kept.size else 0.0

    @property
    def spilled_value_share(self) -> float:
        """Which share of the shared lane's price of everything it pays there all the same."""
        return self.best.shared_nano_usd / self.all_shared_nano_usd if self.all_shared_nano_usd else 0.0

    def cost(self, option: Option) -> float:
        """What an option costs in all, in nano-USD."""
        return option.shared_nano_usd + self._replicas_nano_usd(option.replicas)

    def beside(self, replicas: int) -> float:
        """A bound, in nano-USD, for policies that run so many replicas, whether or not that is one of the options."""
        shared = max(option.shared_beside(replicas) for option in self.options)
        return max(shared, 0.0) + self._replicas_nano_usd(replicas)

    def at(self, replica_nano_usd_per_hour: int) -> Bound:
        """The bound at another price of a replica: over its options only, so work it out for all that may be best."""
        return replace(self, replica_nano_usd_per_hour=replica_nano_usd_per_hour)

    def _replicas_nano_usd(self, replicas: int) -> float:
        return replicas * self.replica_nano_usd_per_hour * self.span_s / HOUR_S


def lower_bound(
    trace: Trace,
    price_nano_usd: NDArray[np.int64] | Floats,
    terms: BoundTerms,
    *,
    replicas: Iterable[int] | None = None,
    hit_tokens: NDArray[np.int64] | int = 0,
    method: Method | None = None,
) -> Bound:
    """The least that any policy pays for `trace` while every request meets the SLO.

    `price_nano_usd` is each request's price in the shared lane, infinite where none may serve it. `replicas` are the
    numbers to look at; None finds the best of all. `hit_tokens` of each prompt need no reading (`most_hits` is valid
    for any cache). `method` None solves the programme exactly where it is small enough, at least for the best number.
    Raises `ValueError` for prices below zero, for a replica that costs nothing, and for no numbers of replicas.
    """
    price = np.asarray(price_nano_usd, dtype=np.float64)
    if len(price) != len(trace) or not (price >= 0).all():
        raise ValueError("every request has a price, of zero or more")
    if terms.replica_nano_usd_per_hour <= 0:
        raise ValueError("a replica costs something: say its price by the hour")
    hopeless = _hopeless(trace, price, terms, hit_tokens)
    fluid = fluid_of(trace, np.where(hopeless, 0.0, price), terms, hit_tokens)
    solver = _Solver(fluid, terms.replica_nano_usd_per_hour * trace.span_s / HOUR_S)
    counts = None if replicas is None else sorted(set(replicas))
    if counts is not None and (not counts or counts[0] < 0):
        raise ValueError("say at least one number of replicas, of zero or more")
    if method is None and len(fluid) + fluid.levels * fluid.bins > EXACT_UP_TO:
        method = Method.DUAL
    if counts is None:
        counts = solver.search(_guess(trace, fluid, solver.replica_nano_usd))
    options = {None: solver.sharpest, Method.DUAL: solver.dual, Method.EXACT: solver.exact}[method](counts)
    spilled_anyway = float(price[hopeless].sum())
    for option in options:
        option.kept[hopeless] = 0.0
    return Bound(
        options=tuple(replace(one, shared_nano_usd=one.shared_nano_usd + spilled_anyway) for one in options),
        span_s=trace.span_s,
        replica_nano_usd_per_hour=terms.replica_nano_usd_per_hour,
        all_shared_nano_usd=float(price.sum()),
    )


def _hopeless(trace: Trace, price: Floats, terms: BoundTerms, hit_tokens: NDArray[np.int64] | int) -> NDArray[np.bool_]:
    """Which prompts no single replica can read in time, though it had nothing else to do: pooling is perfect, but a
    prompt is read by one. What must not be spilled stays, and makes any number of replicas infinitely dear or not.
    """
    alone_s = terms.profile.step_s + prefill_s(trace, terms.profile, hit_tokens)
    return (alone_s > terms.ttft_s) & np.isfinite(price)


def fluid_of(trace: Trace, price: Floats, terms: BoundTerms, hit_tokens: NDArray[np.int64] | int = 0) -> Fluid:
    """The trace as a fluid: work from the true lengths, windows from the SLO."""
    prefill_by_s = trace.arrival_s + terms.ttft_s
    answer_s = np.maximum(trace.output_tokens - 1, MIN_PACE_TOKENS) * terms.pace_s
    decode_by_s = prefill_by_s + answer_s
    soon_s = trace.arrival_s + np.minimum(terms.ttft_s, _USUAL_TTFT_S) + np.where(np.isfinite(answer_s), answer_s, 0.0)
    end_s = max(trace.span_s, float(np.max(np.where(np.isfinite(decode_by_s), decode_by_s, soon_s), initial=0.0)))
    step_s = terms.profile.step_s
    pace_s = terms.pace_s if terms.longest_step_s is None else terms.longest_step_s
    longest_s = float(np.max(pace_s, initial=step_s))
    return pour(
        price=price,
        prefill_s=prefill_s(trace, terms.profile, hit_tokens),
        decode_s=decode_s(trace, terms.profile),
        arrival_s=trace.arrival_s,
        prefill_by_s=np.minimum(prefill_by_s, end_s),
        decode_by_s=np.minimum(decode_by_s, end_s),
        bin_s=terms.bin_s or _bin_s(terms.ttft_s, end_s),
        capacity=1 - step_s / longest_s if step_s else 1.0,
    )


def _bin_s(ttft_s: float | Floats, end_s: float) -> float:
    objectives = np.atleast_1d(ttft_s)
    tightest = float(objectives.min(initial=np.inf))
    return max((tightest if np.isfinite(tightest) else _USUAL_TTFT_S) / _BINS_PER_TTFT, end_s / _MOST_BINS)


def _guess(trace: Trace, fluid: Fluid, replica_nano_usd: float) -> int:
    """A number of replicas to begin with: the last that is worth its price if work is done in the bin it comes in."""
    if not fluid.capacity_s or not len(fluid):
        return 1
    bins = (trace.arrival_s / max(trace.span_s, 1e-9) * fluid.bins).astype(np.int64).clip(0, fluid.bins - 1)
    engines = np.bincount(bins, weights=fluid.prefill_s + fluid.decode_s, minlength=fluid.bins) / fluid.capacity_s
    full_nano_usd = fluid.capacity_s * fluid.bins * fluid.typical_rate
    count = 1
    while full_nano_usd * float(np.clip(engines - count, 0, 1).mean()) > replica_nano_usd:
        count += 1
    return count


class _Solver:
    """The options of one fluid, each worked out once. Every ascent begins where the one before it ended."""

    def __init__(self, fluid: Fluid, replica_nano_usd: float) -> None:
        self.replica_nano_usd = replica_nano_usd
        self._fluid = fluid
        self._rates: Floats | None = None
        self._by_ascent: dict[int, Option] = {0: self._without()}

    def search(self, guess: int) -> list[int]:
        """The numbers of replicas about the best: one more than the upper is not worth its price, and the upper itself
        is worth more than that beside the lower.
        """
        count = guess
        while self._ascend(count).replica_worth_nano_usd > self.replica_nano_usd:
            count += 1
        while count > 0 and self._ascend(count - 1).replica_worth_nano_usd <= self.replica_nano_usd:
            count -= 1
        return sorted({max(count - 1, 0), count})

    def dual(self, counts: list[int]) -> list[Option]:
        """The options by ascent."""
        return [self._ascend(count) for count in counts]

    def exact(self, counts: list[int]) -> list[Option]:
        """The options by the programme."""
        return [self._solve(count) for count in counts]

    def sharpest(self, counts: list[int]) -> list[Option]:
        """The options by ascent, until the cheapest is exact."""
        options = dict(zip(counts, self.dual(counts), strict=True))
        dull = set(counts)
        while (count := min(options, key=lambda count: self._cost(options[count]))) in dull:
            options[count] = self._solve(count)
            dull.remove(count)
        return list(options.values())

    def _cost(self, option: Option) -> float:
        return option.shared_nano_usd + option.replicas * self.replica_nano_usd

    def _ascend(self, replicas: int) -> Option:
        if replicas not in self._by_ascent:
            ascent = ascend(self._fluid, replicas, self._rates)
            self._rates = ascent.rates
            self._by_ascent[replicas] = self._option(replicas, ascent.rates, ascent.kept, Method.DUAL)
        return self._by_ascent[replicas]

    def _solve(self, replicas: int) -> Option:
        """The option at the programme's rates, or by ascent where the solver gives up. What it reports is the bound at
        those rates, which holds whatever the solver's tolerances are.
        """
        found = optimum(self._fluid, replicas) if replicas else None
        if found is None:
            return self._ascend(replicas)
        option = self._option(replicas, found.rates, found.kept, Method.EXACT)
        return replace(option, shared_nano_usd=math.inf) if math.isinf(found.shared) else option

    def _without(self) -> Option:
        """No replica: everything is paid for in full, and what the first one is worth only the others say."""
        return Option(
            replicas=0,
            shared_nano_usd=float(self._fluid.price.sum()),
            replica_worth_nano_usd=math.inf,
            kept=np.zeros(len(self._fluid), np.float32),
            method=Method.EXACT,
        )

    def _option(self, replicas: int, rates: Floats, kept: Floats, method: Method) -> Option:
        return Option(
            replicas=replicas,
            shared_nano_usd=self._fluid.bound(rates, replicas),
            replica_worth_nano_usd=self._fluid.worth(rates),
            kept=kept.astype(np.float32),
            method=method,
        )
